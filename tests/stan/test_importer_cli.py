"""`streamd import stan DIR`, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streamd.cli.main import main
from streamd.stan.importer.in_use import state_of
from tests.stan.kept import KEY, unpack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The directory of a kept store."""
    return str(unpack("standalone", tmp_path).store)


def test_a_dry_run_is_the_default_and_reports(store: str, tmp_path: Path) -> None:
    before = state_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "streamd", "import", "stan", store], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "cluster test: 2 clients connected" in done.stdout
    assert done.stdout.endswith("nothing was written: this was a dry run, --apply imports\n")
    assert state_of(tmp_path) == before


def test_json(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "stan", store, "--json", "--dry-run", "--max-age", "1s", "--max-msgs", "9"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["messages"] for one in found["channels"]} == {
        "a channel": 0, "deep.er.name": 0, "dropped": 0, "expired": 0, "nothing in it": 0, "orders": 0,
    }  # fmt: skip


def test_limits_by_number(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "stan", store, "--json", "--max-msgs", "3"]) == 0

    channels = {one["name"]: one for one in json.loads(capsys.readouterr().out)["channels"]}
    assert (channels["orders"]["first_seq"], channels["orders"]["messages"]) == (8, 3)


def test_the_key_comes_from_the_environment_or_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(unpack("sealed", tmp_path).store)

    assert main(["import", "stan", store]) == 1
    assert "is encrypted: name the key with --encryption-key" in capsys.readouterr().err
    assert main(["import", "stan", store, "--encryption-key", KEY]) == 0
    monkeypatch.setenv("NATS_STREAMING_ENCRYPTION_KEY", KEY)
    assert main(["import", "stan", store]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["stan"], "Missing argument 'DIRECTORY'"),
        (["other"], "No such command 'other'"),
        (["stan", "{store}", "--apply", "--dry-run"], "--dry-run and --apply exclude each other"),
        (["stan", "{store}", "--apply"], "--apply needs --store-dir"),
        (["stan", "{store}", "--apply", "--store-dir", "{store}/orders/.."], "where nothing is written"),
        (["stan", "{store}", "--max-age", "long"], "expected a duration"),
        (["stan", "{store}/nowhere"], "it has no server.dat"),
        (["stan", "{store}/orders"], "it has no server.dat"),
        (["stan", "{store}", "--crc-poly", "5"], "server.dat is damaged at byte 4"),
    ],
)
def test_slips(arguments: list[str], text: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *(word.replace("{store}", store) for word in arguments)]) == 1

    said = capsys.readouterr().err
    assert said.startswith("streamd: ")
    assert text in said


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "stan", "--help"]) == 0

    assert "--raft-dir" in capsys.readouterr().out
