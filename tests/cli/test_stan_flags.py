"""The flags of NATS Streaming, from the command line to the settings of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamd.cli import run
from streamd.cli.main import main
from streamd.cli.stan_flags import STREAMING
from streamd.config.models import Config, JetStreamConfig
from streamd.config.streaming import StreamingClusterConfig, StreamingConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND = 1_000_000_000


def configured(monkeypatch: pytest.MonkeyPatch, line: str) -> Config:
    """The settings that a server would be started with."""
    found: list[Config] = []

    def instead(read: Callable[[], Config], *, stores: bool) -> int:
        assert stores
        found.append(read())
        return 0

    monkeypatch.setattr(run, "run", instead)
    assert main(line.split()) == 0
    (config,) = found
    return config


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-cid x", {"cluster_id": "x"}),
        ("--cluster_id x", {"cluster_id": "x"}),
        ("-st memory", {}),
        ("-store FILE -dir d", {"store": "file", "dir": "d"}),
        ("-mc 1 -msu 2 -mm 3 -mb 4KB", {"max_channels": 1, "max_subs": 2, "max_msgs": 3, "max_bytes": 4096}),
        ("--max_channels 1 --max_subs 2 --max_msgs 3", {"max_channels": 1, "max_subs": 2, "max_msgs": 3}),
        ("--max_bytes 4 --max_age 1h", {"max_bytes": 4, "max_age_ns": 3600 * SECOND}),
        ("-ma 1s -mi 2s", {"max_age_ns": SECOND, "max_inactivity_ns": 2 * SECOND}),
        ("--max_inactivity 2s", {"max_inactivity_ns": 2 * SECOND}),
        ("-hbi 1s -hbt 500ms -hbf 3", {"hb_interval_ns": SECOND, "hb_timeout_ns": SECOND // 2, "hb_fail_count": 3}),
        ("--hb_interval 1s --hb_timeout 1s", {"hb_interval_ns": SECOND, "hb_timeout_ns": SECOND}),
        ("--hb_fail_count 0", {"hb_fail_count": 0}),
        ("-st file -dir d -ft_group g", {"store": "file", "dir": "d", "ft_group": "g"}),
        ("-encryption_key k -encryption_cipher aes", {"encryption_key": "k", "encryption_cipher": "AES"}),
        ("-replace_durable", {"replace_durable": True}),
        ("-SD", {"stan_debug": True}),
        ("--stan_trace", {"stan_trace": True}),
        ("-SDV", {"stan_debug": True, "stan_trace": True}),
        ("-SD -SDV=false", {}),
        ("--file_sync=false --file_auto_sync 5s", {"sync_on_flush": False, "auto_sync_ns": 5 * SECOND}),
        (
            "-st file -dir d -clustered -cluster_node_id a -cluster_peers b,c -cluster_sync -cluster_log_path p",
            {
                "store": "file",
                "dir": "d",
                "cluster": StreamingClusterConfig(node_id="a", peers=("b", "c"), sync=True, log_path="p"),
            },
        ),
    ],
)
def test_flag_sets_its_field(monkeypatch: pytest.MonkeyPatch, line: str, expected: dict[str, Any]) -> None:
    monkeypatch.delenv("NATS_STREAMING_ENCRYPTION_KEY", raising=False)

    assert StreamingConfig(**expected) == configured(monkeypatch, line).streaming


@pytest.mark.parametrize("flag", [flag for flag in STREAMING if flag.idle], ids=lambda flag: flag.names[0])
def test_flag_without_effect_is_noted(monkeypatch: pytest.MonkeyPatch, flag: Any) -> None:
    value = {"string": "x", "integer": "5", "switch": "true", "duration": "5s", "size": "1KB"}[flag.kind]

    config = configured(monkeypatch, f"{flag.names[0]}={value}")

    assert config.streaming == StreamingConfig()
    assert config.notes == (f"{flag.names[0]}: accepted, has no effect here: {flag.idle}",)


def test_flags_that_are_not_of_streaming_leave_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch, "-js -sd d -DV --user u --pass p")

    assert (config.streaming, config.debug) == (None, True)
    assert config.jetstream == JetStreamConfig(store_dir="d")


def test_flag_wins_over_either_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nats, stan = tmp_path / "nats.conf", tmp_path / "stan.conf"
    nats.write_text("port: 5\nserver_name: n")
    stan.write_text("id: x\nhb_fail_count: 4")

    config = configured(monkeypatch, f"-c {nats} -sc {stan} -cid y -p 6")

    assert config.streaming == StreamingConfig(cluster_id="y", hb_fail_count=4)
    assert (config.port, config.server_name, config.file) == (6, "n", str(nats))


def test_configuration_test_shows_notes_and_says_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.conf"
    path.write_text("streaming { file { crc: false } }")

    assert main(["-t", "-sc", str(path)]) == 0

    note, valid = capsys.readouterr().err.splitlines()
    assert note.startswith(f"streamd: {path}:1:20: streaming.file_options.crc: accepted, has no effect here: ")
    assert valid.startswith(f"streamd: configuration file {path} is valid (sha256:")


def test_configuration_test_names_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nats, stan = tmp_path / "nats.conf", tmp_path / "stan.conf"
    nats.write_text("port: 5")
    stan.write_text("id: x")

    assert main(["-t", "-c", str(nats), "-sc", str(stan)]) == 0
    assert f"configuration files {nats} and {stan} are valid" in capsys.readouterr().err
    stan.write_text("ns: x")
    assert main(["-t", "-c", str(nats), "-sc", str(stan)]) == 1
    assert f'streamd: {stan}:1:1: "ns" is not supported by streamd' in capsys.readouterr().err
