"""The store directory: who may use it, what it must hold, and how it comes to be.

In the walk:  `Environment.open` takes the lock, looks at the format, has the data file made if there is none.
Guarantee:    a directory of somebody else or of a later version is left untouched; a crash while the first files
              are made leaves a directory that the next start finishes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from typing import TYPE_CHECKING, Final

import lmdb

from streamd import limits
from streamd.errors import StoreError, StoreForeign, StoreFull, StoreLocked, StoreNewer, StoreUnavailable
from streamd.store import layout

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 2  # 1 had no packs; it is read as it is
FORMAT_FILE: Final = "streamd.json"
LOCK_FILE: Final = "lock"
DATA_FILE: Final = "data.mdb"
TRIAL_FILE: Final = "trial"
READERS_FILE: Final = "lock.mdb"
JOURNAL_FILE: Final = "journal"
SCRATCH_DIRECTORY: Final = "new"
_OURS: Final = {
    FORMAT_FILE,
    FORMAT_FILE + ".new",
    LOCK_FILE,
    DATA_FILE,
    READERS_FILE,
    JOURNAL_FILE,
    TRIAL_FILE,
    SCRATCH_DIRECTORY,
    "lost+found",
}
NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}


def lock_directory(directory: Path) -> int:
    """Take the directory; returns the descriptor that holds it."""
    try:
        make_directory(directory)
        names = {entry.name for entry in directory.iterdir()}
        if FORMAT_FILE not in names and (DATA_FILE in names or names - _OURS):
            raise StoreForeign(directory, _foreign(names))
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise os_error(directory, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        text = os.pread(lock, 32, 0).strip()
        os.close(lock)
        raise StoreLocked(directory, int(text) if text.isdigit() else None) from error
    except OSError as error:
        os.close(lock)
        raise os_error(directory, error) from error
    return lock


def _foreign(names: set[str]) -> str:
    if "jetstream" in names:
        return "it holds the files of nats-server"
    if DATA_FILE in names:
        return "it holds the LMDB file of another program"
    return "it holds " + ", ".join(sorted(names - _OURS)[:3])


def prepare(directory: Path) -> None:
    """Read the format file, or write it first of all into an empty directory. Names and format are on the disk then: `cp`,
    say, brings a store back and flushes nothing."""
    path = directory / FORMAT_FILE
    if not path.exists():
        _write_format(path)
        return
    try:
        with path.open("rb") as file:
            found = json.load(file)
            os.fsync(file.fileno())
        version = found["version"] if found["store"] == "streamd" else None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreForeign(directory, f"{FORMAT_FILE} can't be understood") from error
    if not isinstance(version, int):
        raise StoreForeign(directory, f"{FORMAT_FILE} names another program")
    if version > VERSION:
        raise StoreNewer(directory, version, VERSION)
    if version < VERSION:
        _write_format(path)
    else:
        sync_directory(directory)


def _write_format(path: Path) -> None:
    new = path.with_name(FORMAT_FILE + ".new")
    with new.open("w") as file:
        json.dump({"store": "streamd", "version": VERSION}, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_directory(path.parent)


def create(directory: Path) -> None:
    """Make the data file beside its place and put it there whole: LMDB's own first pages are not synced together."""
    scratch = directory / SCRATCH_DIRECTORY
    _remove(scratch)
    scratch.mkdir()
    try:
        with (
            lmdb.open(
                os.fspath(scratch),
                map_size=limits.STORE_MAP_BYTES_MIN,
                max_dbs=1,
                lock=False,
                mode=0o640,
                lib_version=0,
            ) as env,
            env.begin(write=True) as txn,
        ):
            meta = env.open_db(layout.META, txn=txn)
            first = {layout.FORMAT: b"%d" % VERSION, layout.COMMIT: b"%d" % txn.id(), layout.RUNNING: b"0"}
            for key, value in first.items():
                txn.put(key, layout.seal(key, value), db=meta)
        (scratch / DATA_FILE).rename(directory / DATA_FILE)
    except lmdb.Error as error:
        if error.code in NO_ROOM or full(directory):
            raise StoreFull(directory) from error
        raise StoreUnavailable(directory, str(error)) from error
    finally:
        _remove(scratch)
    sync_directory(directory)


def _remove(scratch: Path) -> None:
    try:
        scratch.rmdir()  # alone, where it can be: shutil loads three compressors
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)


def full(directory: Path) -> bool:
    """Whether there is no room, for us: quotas count, so only trying tells."""
    path = directory / TRIAL_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(descriptor, 0, limits.STORE_TRIAL_BYTES)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return error.errno in NO_ROOM
    return False


def reserve_lock_table(directory: Path) -> None:
    """LMDB writes its reader table through a map: on a full disk that is a SIGBUS, unless it has its room."""
    descriptor = os.open(directory / READERS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, limits.STORE_READERS_BYTES)
    finally:
        os.close(descriptor)


def os_error(directory: Path, error: OSError) -> StoreError:
    if error.errno in NO_ROOM:
        return StoreFull(directory)
    return StoreUnavailable(directory, error.strerror or str(error))


def make_directory(directory: Path) -> None:
    """Make a directory and what is missing above it, unless it is there; the names are durable. Errors: OSError."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: LMDB syncs its file, not the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
