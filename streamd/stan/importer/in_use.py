"""Whether a server still has the directory: it must be stopped, or what is read may be half of something.

A server in fault tolerance mode holds a lock on `.rootdir.lck`. Any other holds no lock, but keeps files open, which
Linux shows in /proc to the same user and to root; elsewhere, and for files it has closed, there is the last check: that
no file has changed while we read.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from streamd.stan.importer.errors import ImportRefused

if TYPE_CHECKING:
    from pathlib import Path

LOCK: Final = ".rootdir.lck"
#: Of a file: bytes, and the time of its last change in nanoseconds.
State = dict[str, tuple[int, int]]


def refuse_if_used(directory: Path) -> None:
    """Errors: ImportRefused if a server has the directory."""
    way_out = "stop the nats-streaming-server first"
    if _locked(directory / LOCK):
        raise ImportRefused(
            f"{directory} is in use, an active server of a fault tolerance group has it locked: {way_out}"
        )
    if (pid := holder(directory)) is not None:
        raise ImportRefused(f"{directory} is in use by process {pid}: {way_out}")


def _locked(path: Path) -> bool:
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return False
    with file:
        try:
            # Shared and given back at once: all that a file opened for reading allows.
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_UN)
        except OSError:
            return True
    return False


def holder(directory: Path) -> int | None:
    """A process that has a file below the directory open for writing, as far as can be seen."""
    root = os.path.realpath(directory) + os.sep
    try:
        processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    for pid in processes:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                if os.readlink(f"/proc/{pid}/fd/{number}").startswith(root) and _writes(pid, number):
                    return pid
            except OSError:
                continue
    return None


def _writes(pid: int, number: str) -> bool:
    """Whether a descriptor is open for writing; one who only looks, such as a backup, does no harm."""
    with open(f"/proc/{pid}/fdinfo/{number}") as file:
        flags = next((line.split()[1] for line in file if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def state_of(directory: Path) -> State:
    """The files below the directory as they are now."""
    found: State = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            about = os.stat(path, follow_symlinks=False)
            found[path] = (about.st_size, about.st_mtime_ns)
    return found


def refuse_if_changed(directory: Path, before: State) -> None:
    """Errors: ImportRefused if a file is not what it was."""
    now = state_of(directory)
    if now != before:
        path = min(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))
        raise ImportRefused(
            f"{path} has changed while it was read: stop the nats-streaming-server first, then begin anew"
        )
