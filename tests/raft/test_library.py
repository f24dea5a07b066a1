"""What is used of the library's inside is checked, and nothing else of the package touches it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pysyncobj import syncobj

import streamd.raft
from streamd.raft import RaftError, library
from tests.raft.cluster import Cluster

ROOM = Path(streamd.raft.__file__).parent


def test_every_private_name_that_is_used_is_checked() -> None:
    text = "".join((ROOM / name).read_text() for name in ("core.py", "library.py"))
    used = set(re.findall(r"_SyncObj__(\w+)", text)) - {"x"}
    checked = {*library.ATTRIBUTES, *(name.removeprefix("_SyncObj__") for name in library.METHODS)}

    assert used <= checked
    assert checked - used == {"_onTick"}


def test_nothing_else_knows_the_library() -> None:
    knowing = [path.name for path in ROOM.parent.rglob("*.py") if "pysyncobj" in path.read_text()]

    assert knowing == ["library.py"]


def loaded(program: str) -> list[str]:
    """Which of some packages a process has loaded at its end."""
    names = "[name for name in ('streamd.raft', 'pysyncobj', 'cryptography') if name in sys.modules]"
    ran = subprocess.run(
        [sys.executable, "-c", f"import asyncio, sys\n{program}\nprint(*{names})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split()


def test_what_is_not_needed_is_not_loaded() -> None:
    """A server that is no member of a cluster does without this room, and this room without the library's own encryption;
    whoever wants that package finds it afterwards."""
    alone = """
import streamd

async def serve():
    async with streamd.Server():
        pass

asyncio.run(serve())
"""
    assert loaded(alone) == []
    assert loaded("import streamd.raft") == ["streamd.raft", "pysyncobj"]
    assert loaded("import streamd.raft\nimport cryptography.fernet") == ["streamd.raft", "pysyncobj", "cryptography"]


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOUND", "0.3.18")

    with pytest.raises(RaftError, match=r"PySyncObj 0\.3\.18 is installed, and only 0\.3\.17 is understood"):
        library.check()


def test_missing_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(syncobj.SyncObj, "_SyncObj__setState")
    monkeypatch.setattr(library, "ATTRIBUTES", (*library.ATTRIBUTES, "somethingElse"))

    with pytest.raises(RaftError, match="lacks somethingElse, _SyncObj__setState"):
        library.check()


def test_groups_take_no_thread_and_no_descriptor() -> None:
    threads, files = {*threading.enumerate()}, len(list(Path("/proc/self/fd").iterdir()))
    cluster = Cluster(3)
    for number in range(20):
        cluster.bootstrap(f"g{number}")
    cluster.world.run(1_000_000_000)

    assert {*threading.enumerate()} <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files
