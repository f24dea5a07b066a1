"""Power cuts: what was acked under `always` is there; without fsync it need not be."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamd.store import Sync, Work
from streamd.store.directory import DATA_FILE, JOURNAL_FILE
from tests.store.conftest import Store
from tests.store.forgetful import Forgetful
from tests.store.records import records

_ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("fuse_mounts")


def test_forgetful_file_system_forgets(tmp_path: Path) -> None:
    """The tool itself: synced bytes stay, others go."""
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        for name, synced in (("kept", True), ("lost", False)):
            with (disk.mount / name).open("wb") as file:
                file.write(b"x" * 10_000)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
        with (disk.mount / "kept").open("r+b") as file:
            file.write(b"y" * 10_000)
        assert (disk.mount / "kept").read_bytes() == b"y" * 10_000
        assert disk.cut("none") == 6
        disk.start()
        assert (disk.mount / "kept").read_bytes() == b"x" * 10_000
        assert (disk.mount / "lost").read_bytes() == b""
        descriptor = os.open(disk.mount / "lost", os.O_WRONLY | os.O_DSYNC)
        os.write(descriptor, b"z")
        os.close(descriptor)
        disk.cut("none")
        disk.start()
        assert (disk.mount / "lost").read_bytes() == b"z"


def program(command: str, store: Path, *arguments: str) -> str:
    """What a process of its own has to say of a store."""
    called = [sys.executable, "-m", "tests.store.program", command, str(store), *arguments]
    return subprocess.run(called, capture_output=True, text=True, cwd=_ROOT, check=False).stdout


@pytest.mark.parametrize("before", ["relaxed", "copied"])
def test_what_an_acked_message_stands_on_is_on_the_disk_too(tmp_path: Path, before: str) -> None:
    """The first lone publish after a start goes to the journal alone, behind what another run, or `cp`, left to the system."""
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        store = disk.mount / "store"
        if before == "relaxed":
            assert program("append", store, "never", "100") == "100\n"
        else:
            assert program("append", tmp_path / "store", "always", "100") == "100\n"
            shutil.copytree(tmp_path / "store", store)
        assert program("append", store, "always", "1") == "101\n"
        assert disk.cut("none") > 0
        disk.start()
        served = json.loads(program("read", store))

        assert "error" not in served
        assert served["streams"]["1"][:3] == [1, 101, 101]


def test_what_is_laid_aside_is_on_the_disk_before_its_place_is_used_again(tmp_path: Path) -> None:
    """The journal's entries for a damaged stream: they are acked, and nowhere else."""
    made = Store(tmp_path / "store", sync=Sync("always"))
    for stream in (1, 2):
        log = made.create(stream)
        work = Work()
        log.append(work, records(1, 500, b"%d" % stream * 99))
        made.commit(work)
        work = Work()
        log.append(work, records(500, 501, b"laid aside"))
        log.of(work).totals = b"500"
        made.commit(work)
    assert made.writer.journaled.records == 1
    made.environment.close()
    data = bytearray((tmp_path / "store" / DATA_FILE).read_bytes())
    leaf = data.index(b"2" * 99) // 4096 * 4096
    data[leaf + 12 : leaf + 14] = b"\xff\xff"
    (tmp_path / "store" / DATA_FILE).write_bytes(data)
    journal = (tmp_path / "store" / JOURNAL_FILE).read_bytes()
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        shutil.copytree(tmp_path / "store", disk.mount / "store")
        assert "stream S in" in json.loads(program("read", disk.mount / "store"))["error"]
        disk.cut("none")
        disk.start()
        (kept,) = (disk.mount / "store").glob(f"{JOURNAL_FILE}.*")

        assert kept.read_bytes() == journal
        assert (disk.mount / "store" / JOURNAL_FILE).read_bytes()[:16] != journal[:16]


def lost_after_cut(disk: Forgetful, sync: str, survivors: str, chance: random.Random) -> bool:
    """Write until the power fails; whether something acked is missing afterwards, or the whole store."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.program", "write", str(disk.mount / "store"), sync],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    acked = int(process.stdout.readline())
    time.sleep(0.05 + chance.random() / 4)
    disk.cut(survivors, chance.randrange(1000))
    for line in process.stdout.read().splitlines(keepends=True):
        acked = int(line) if line.endswith(b"\n") else acked
    process.stdout.close()
    process.wait()
    disk.start()
    # In a process of its own: without fsync LMDB may be handed pages that never belonged together.
    served = json.loads(program("read", disk.mount / "store") or '{"error": "died"}').get("streams", {})
    if "1" not in served:
        return True
    first, last, count, _ = served["1"]
    assert (first, last) == (1, count)
    return bool(last < acked)


def test_power_cuts_lose_nothing_acked(tmp_path: Path) -> None:
    """The promise of the server, on one store that goes through several cuts."""
    chance = random.Random(7)
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        outcomes = [lost_after_cut(disk, "always", survivors, chance) for survivors in ("none", "some") * 3]

        assert outcomes == [False] * 6


def test_without_fsync_power_cuts_cost_something(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    chance = random.Random(8)
    lost = []
    for number, survivors in enumerate(("none", "some")):
        with Forgetful(tmp_path / f"disk{number}", tmp_path / "mount") as disk:
            lost.append(lost_after_cut(disk, "never", survivors, chance))

    assert any(lost)
