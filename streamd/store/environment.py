"""The store directory and the LMDB environment in it.

In the walk:  opened once by the server; `Writer` commits to it, `StreamLog` reads from it.
Guarantee:    one process at a time; a directory of somebody else or of a later version is refused
              untouched; the map grows without a restart; pages are checked before LMDB walks them.
Threads:      `read` belongs to the loop thread; the write transaction to the writer's.
Source:       the LMDB documentation (data format 0.9).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import lmdb

from streamd import limits
from streamd.errors import (
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
)
from streamd.store import layout, pages
from streamd.store.apply import apply
from streamd.store.directory import (
    DATA_FILE,
    JOURNAL_FILE,
    NO_ROOM,
    create,
    full,
    lock_directory,
    os_error,
    prepare,
    reserve_lock_table,
    sync_directory,
)
from streamd.store.journal import Journal, was_used
from streamd.store.mapped import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lmdb import Transaction

    from streamd.store.work import Work

    # LMDB's handle of a named database has no public name.
    Database = Any

_log = logging.getLogger(__name__)
Value = TypeVar("Value", bound="bytes | memoryview[int]")

_CORRUPT: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.NotFoundError,
    lmdb.MapResizedError,
)

# What else it may say on its way through pages that aren't what was written, when nothing but a read was under way.
_UNREADABLE: Final = (*_CORRUPT, lmdb.BadDbiError, lmdb.BadTxnError, lmdb.CursorFullError, lmdb.IncompatibleError)


@dataclass(frozen=True, slots=True)
class Sync:
    """When commits reach the disk."""

    mode: Literal["always", "interval", "never"] = "always"
    interval_ns: int = 0

    @property
    def description(self) -> str:
        """For the start-up log."""
        if self.mode == "always":
            return "fsync before every ack"
        if self.mode == "interval":
            seconds = self.interval_ns / 1e9
            return f"fsync every {seconds:g} s: a power cut may cost what was acked since, or the store"
        return "no fsync: a power cut may cost what was acked, or the store"


class Read(Generic[Value]):
    """A read transaction as a context manager."""

    __slots__ = ("_begin", "_environment", "_txn")

    def __init__(self, environment: Environment, begin: Callable[[], Transaction[Value]]) -> None:
        self._environment = environment
        self._begin = begin

    def __enter__(self) -> Transaction[Value]:
        environment = self._environment
        environment.map_lock.acquire()
        try:
            self._txn = self._begin()
        except BaseException as error:
            environment.map_lock.release()
            if isinstance(error, lmdb.Error):
                raise environment.explain(error) from error
            raise
        return self._txn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._txn.abort()
        self._environment.map_lock.release()
        if isinstance(error, _UNREADABLE):
            raise StoreCorrupt(self._environment.directory, str(error)) from error
        if isinstance(error, lmdb.Error):
            raise self._environment.explain(error) from error


class Environment:
    """One store directory, open."""

    def __init__(self, directory: Path, sync: Sync, lock: int, env: lmdb.Environment) -> None:
        """Use `open`."""
        self.directory = directory
        self.sync = sync
        self.clean = True  # whether the last run ended with `close`
        self.meta: Database = None
        self.databases: dict[int, Database] = {}  # of streams, by id
        self.damaged: dict[int, str] = {}  # streams whose records LMDB can't walk, and why: never touched
        self._held_bytes = 0  # the data file has blocks at least up to here
        self.journal: Journal | None = None  # where small commits go first
        self._lock = lock
        self._page_bytes = env.stat()["psize"]
        self._env: lmdb.Environment | None = env
        # Growing the map moves it: no read may be under way. Uncontended but for that moment.
        self.map_lock = threading.Lock()
        # Nor may its pages be on their way back to the system: what is mapped there next would lose its own. Taken before the
        # other, as that takes 10 ms a GB, for which no read should wait.
        self._returning = threading.Lock()

    @classmethod
    def open(cls, directory: Path, *, sync: Sync | None = None, map_bytes: int = limits.STORE_MAP_BYTES) -> Environment:
        """Open a store, or make one in an empty or absent directory.

        Units:  map_bytes is address space, not disk.
        Errors: StoreLocked, StoreForeign, StoreNewer, StoreUnavailable, StoreCorrupt, StoreFull.
        """
        sync = sync or Sync()
        # Whoever embeds a server may go elsewhere, and what it was started in may be removed.
        directory = directory.absolute()
        lock = lock_directory(directory)
        env = None
        try:
            prepare(directory)
            data = directory / DATA_FILE
            if not data.exists():
                if was_used(directory):
                    raise StoreCorrupt(directory, f"{DATA_FILE} is missing beside its {JOURNAL_FILE}")
                create(directory)
            damaged = _damaged(directory, pages.verify(directory, data))
            reserve_lock_table(directory)
            env = _open(directory, sync, max(map_bytes, 2 * data.stat().st_size))
            self = cls(directory, sync, lock, env)
            self.damaged = damaged
            self._prepare()
            self._take_over()
        except BaseException as error:
            if env is not None:
                env.close()
            os.close(lock)
            if isinstance(error, OSError):
                raise os_error(directory, error) from error
            raise
        return self

    def _prepare(self) -> None:
        """Open what is there; check that the meta page in force belongs to its content."""
        with self._errors(), self.opened().begin(write=True) as txn:
            # A handle stays valid only if the transaction that opened it commits; empty, that costs no I/O.
            self.meta = self.opened().open_db(layout.META, txn=txn, create=False)
            number = self.get(txn, layout.COMMIT)
            if number != b"%d" % (txn.id() - 1):
                raise StoreCorrupt(self.directory, f"commit {txn.id() - 1} holds the content of {number!r}")
            self.clean = self.get(txn, layout.RUNNING) == b"0"
            for name in self.opened().dbs(txn):
                if name == layout.META:
                    continue
                if name[:1] != b"s" or not name[1:].isdigit():
                    raise StoreCorrupt(self.directory, f"unknown database {name[:32]!r}")
                if int(name[1:]) in self.damaged:
                    continue
                self.databases[int(name[1:])] = self.opened().open_db(name, txn=txn, create=False)

    def _take_over(self) -> None:
        """Commit what the last run left in the journal, then use it for the commits of this one."""
        with self._errors():
            with self.opened().begin() as txn:
                number = txn.id()
            journal = Journal.open(self.directory, number, synced=self.sync.mode == "always")
            if journal is None:
                return
            try:
                work = journal.read()
                if work.logs:
                    number = self._commit_left(work)
                # Whatever `sync` is now: what the journal had was acked as synced, and has no other place from here on. And its
                # next entry stands on what a relaxed run, or `cp`, may have left to the system.
                self.flush()
                journal.renew(number)
            except BaseException:
                journal.close()
                raise
        self.journal = journal

    def _commit_left(self, work: Work) -> int:
        lost = [stream for stream in work.logs if stream not in self.databases]
        if lost:
            # Such a stream is restored from a backup, or deleted: what it got last is of no use to the store.
            kept = self.directory / f"{JOURNAL_FILE}.{time.time_ns()}"
            shutil.copyfile(self.directory / JOURNAL_FILE, kept)
            # On the disk before anything is written over the original.
            with kept.open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(self.directory)
            _log.error("store.journal_kept streams=%s file=%s", lost, kept)
        for stream in lost:
            del work.logs[stream]
        self.reserve(limits.JOURNAL_ROOM_BYTES)
        txn = self.begin()
        try:
            apply(self, txn, work, [], [])
            self.stamp(txn)
            number = self.commit(txn)
        except BaseException:
            txn.abort()
            raise
        self.clean = False
        return number

    def known(self, stream: int) -> bool:
        """Whether that number is taken, be it by a damaged stream."""
        return stream in self.databases or stream in self.damaged

    # --- values of the meta database

    def put(self, txn: Transaction, key: bytes, value: bytes) -> None:
        """Store a value with its checksum."""
        txn.put(key, layout.seal(key, value), db=self.meta)

    def get(self, txn: Transaction, key: bytes) -> bytes | None:
        """A value, checked. Errors: StoreCorrupt."""
        stored = txn.get(key, db=self.meta)
        if stored is None:
            return None
        try:
            return layout.unseal(key, bytes(stored))
        except ValueError as error:
            raise StoreCorrupt(self.directory, str(error)) from error

    # --- transactions

    def read(self) -> Read[bytes]:
        """A short read transaction, on the loop thread. Keep it shorter than a millisecond or two: the map
        can't grow meanwhile and pages stay in use. Errors: StoreError."""
        return Read(self, self._copying)

    def view(self) -> Read[memoryview[int]]:
        """The same, but keys and values are views into the map, and void when it ends."""
        return Read(self, self._viewing)

    def _copying(self) -> Transaction[bytes]:
        return self.opened().begin()

    def _viewing(self) -> Transaction[memoryview[int]]:
        return self.opened().begin(buffers=True)

    def begin(self) -> Transaction[bytes]:
        """The write transaction, on the writer's thread; end it by `commit` or its own abort."""
        return self.opened().begin(write=True)

    def commit(self, txn: Transaction[bytes]) -> int:
        """Commit and return the number of the commit. Errors: those of LMDB, see `explain`."""
        number = txn.id()
        txn.commit()
        return number

    def stamp(self, txn: Transaction[bytes], *, running: bool = True) -> None:
        """The last step before `commit`: number it, note that the store is in use."""
        self.put(txn, layout.COMMIT, b"%d" % txn.id())
        if self.clean == running:
            self.put(txn, layout.RUNNING, b"1" if running else b"0")

    def forget(self, created: list[int], dropped: list[int]) -> None:
        """After an abort: handles made by the transaction are void, those it dropped are closed and opened
        again."""
        for stream in created:
            self.databases.pop(stream, None)
        again = [stream for stream in dropped if stream not in created]
        if again:
            with self.opened().begin(write=True) as txn:
                for stream in again:
                    self.databases[stream] = self.open_database(txn, stream, create=False)

    def flush(self) -> None:
        """fsync what was committed, for `sync` interval. Errors: those of LMDB and OSError, see `explain`."""
        self.opened().sync(True)
        if self.journal is not None:
            self.journal.sync()

    # --- the map

    def used(self) -> tuple[int, int]:
        """(bytes in use, bytes mapped)."""
        info = self.opened().info()
        return (info["last_pgno"] + 1) * self._page_bytes, info["map_size"]

    def reserve(self, need_bytes: int) -> None:
        """Grow the map ahead of need; on the writer's thread, outside of a transaction."""
        used, mapped = self.used()
        margin = need_bytes + min(limits.STORE_MAP_MARGIN_BYTES, mapped // 4)
        if mapped - used < margin:
            self.grow(used + margin)

    def grow(self, least_bytes: int = 0) -> None:
        """Double the map, more if need be; on the writer's thread, outside of a transaction."""
        mapped = self.used()[1]
        size = 2 * mapped
        while size < least_bytes:
            size *= 2
        with self._returning, self.map_lock:
            self.opened().set_mapsize(size)

    def give_back(self) -> None:
        """Unmap the pages that were looked at until they are looked at again; on the writer's thread."""
        with self._returning:
            if self._env is not None:
                give_back(self.directory / DATA_FILE)

    def hold_room(self, need_bytes: int) -> bool:
        """Have blocks of the disk for so much beyond what is in use, so that a commit of that size can't find it full. False if
        that can't be had, for want of room or of a descriptor."""
        used = self.used()[0]
        if used + need_bytes <= self._held_bytes:
            return True
        try:
            descriptor = os.open(self.directory / DATA_FILE, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Twice as much at a time; with less room just what is needed.
            for more in (2 * need_bytes, need_bytes):
                # Whatever else is wrong with the disk, the commit that follows tells.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(descriptor, used, more)
                    self._held_bytes = used + more
                    return True
        finally:
            os.close(descriptor)
        return False

    # --- errors and the end

    def explain(self, error: lmdb.Error | OSError) -> StoreError:
        """What an error of LMDB means to an operator."""
        code = error.code if isinstance(error, lmdb.Error) else error.errno
        # LMDB tells a write cut short, the first sign of a full disk, as EIO.
        if code in NO_ROOM or (code == errno.EIO and full(self.directory)):
            return StoreFull(self.directory)
        if isinstance(error, _CORRUPT):
            return StoreCorrupt(self.directory, str(error))
        return StoreFailed(self.directory, str(error))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise self.explain(error) from error

    def opened(self) -> lmdb.Environment:
        """LMDB's side of it. Errors: StoreClosed."""
        if self._env is None:
            raise StoreClosed(self.directory)
        return self._env

    def open_database(self, txn: Transaction[bytes], stream: int, *, create: bool = True) -> Database:
        """The handle of a stream's records; valid after an abort only if it was there before."""
        return self.opened().open_db(layout.database(stream), txn=txn, create=create)

    def close(self) -> None:
        """Release everything. The writer closes first, and leaves the mark of a clean stop."""
        if self._env is None:
            return
        with self._returning, self.map_lock:
            self._env.close()
            self._env = None
        if self.journal is not None:
            self.journal.close()
            self.journal = None
        self.databases.clear()
        os.close(self._lock)


def _damaged(directory: Path, found: dict[bytes, str]) -> dict[int, str]:
    """The streams that damage is confined to. Errors: StoreCorrupt if it isn't."""
    if layout.META in found:
        raise StoreCorrupt(directory, found[layout.META])
    return {int(name[1:]): text for name, text in found.items() if name[:1] == b"s" and name[1:].isdigit()}


def _open(directory: Path, sync: Sync, map_bytes: int) -> lmdb.Environment:
    """Open LMDB, with less address space where the platform gives less."""
    map_bytes = max(
        limits.STORE_MAP_BYTES_MIN, -(-map_bytes // limits.STORE_MAP_BYTES_MIN) * limits.STORE_MAP_BYTES_MIN
    )
    least = (directory / DATA_FILE).stat().st_size
    while True:
        try:
            return lmdb.open(
                os.fspath(directory),
                map_size=map_bytes,
                max_dbs=limits.STORE_DATABASES_MAX,
                max_readers=limits.STORE_READERS_MAX,
                # A read transaction allocates room for every possible database: keep one to use again.
                max_spare_txns=2,
                sync=sync.mode == "always",
                metasync=sync.mode == "always",
                mode=0o640,
                lib_version=0,
            )
        except lmdb.MemoryError as error:
            map_bytes //= 2
            if map_bytes < max(least, limits.STORE_MAP_BYTES_MIN):
                raise StoreUnavailable(directory, "no address space to map it") from error
        except (*_CORRUPT, lmdb.VersionMismatchError) as error:
            raise StoreCorrupt(directory, str(error)) from error
        except lmdb.Error as error:
            if error.code in NO_ROOM:
                raise StoreFull(directory) from error
            raise StoreUnavailable(directory, str(error)) from error
