"""Small commits, in a file of their own until LMDB takes them over.

In the walk:  the writer appends what a lone publish brings here, one flush for each; the next commit to LMDB holds it too.
Guarantee:    an entry that `append` returned for is found by `read` until LMDB has it; one that was cut short is not, and
              damage before the last entry is told, never passed over. Of a relaxed journal that holds if the process ends; a
              power cut may take what was written last, and what is missing there is no damage.
Not here:     anything that removes or defines: that goes to LMDB at once.
Why:          a synced commit of LMDB flushes twice (pages, then the meta page that makes them valid), and its file grows.
              Here one flush overwrites blocks that the file already has. A relaxed commit of LMDB writes some pages of the
              file each time, which takes as long as all the rest of a publish.

    file    head, and from JOURNAL_HEAD_BYTES on entries; what lies behind the last, or stands on another commit, is of
            earlier rounds, or of an earlier run with another key
    head    magic, which tells a relaxed one | random key, another one each run | crc32 of both
    entry   crc32, keyed, of all that follows | bytes of the items | commit of LMDB that it stands on | its number, from 0 |
            items
    item    kind | stream | bytes of the value | value          (little endian)

The key is why a payload can't pose as an entry: who publishes can write anything but a checksum that fits.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final

from streamd import limits
from streamd._engine import Records
from streamd.errors import StoreCorrupt
from streamd.store.directory import JOURNAL_FILE, NO_ROOM, sync_directory
from streamd.store.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FILE_HEAD: Final = struct.Struct("<4s12sI")
_MAGIC: Final = b"SDJ1"
_MAGIC_RELAXED: Final = b"SDR1"
_KEY_BYTES: Final = 12
_HEAD: Final = struct.Struct("<IIQI")
_CRC: Final = struct.Struct("<I")
_REST: Final = struct.Struct("<IQI")
_COMMIT_AT: Final = 8
_ITEM: Final = struct.Struct("<cQI")
_CONSUMER: Final = struct.Struct("<Q")
_COUNT: Final = struct.Struct("<I")
_RECORD, _TOTALS, _IDS, _IDS_DROP, _CONSUMER_STATE = b"R", b"T", b"I", b"D", b"P"


class Journal:
    """The file, open."""

    def __init__(
        self, directory: Path, descriptor: int, head: tuple[bytes, bytes], commit: int, *, synced: bool
    ) -> None:
        """Use `open`."""
        self._directory = directory
        self._descriptor = descriptor
        self._synced = synced
        self._take(*head)
        self.begin(commit)

    @classmethod
    def open(cls, directory: Path, commit: int, *, synced: bool = True) -> Journal | None:
        """Open it, or make it; None if there is no room for it. `commit`: where LMDB stands; `synced`: whether what is appended
        is to be on the disk.

        Errors: StoreCorrupt, OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_DSYNC if synced else 0)
        descriptor = os.open(directory / JOURNAL_FILE, flags, 0o640)
        try:
            return cls(directory, descriptor, _head(directory, descriptor, synced=synced), commit, synced=synced)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return None
            raise

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def _take(self, magic: bytes, key: bytes) -> None:
        self._was_synced = magic == _MAGIC
        self._seed = zlib.crc32(key)

    # --- writing

    def sync(self) -> None:
        """Flush what was appended, of a relaxed one. Errors: OSError."""
        os.fdatasync(self._descriptor)

    def renew(self, commit: int) -> None:
        """Begin a run: LMDB has on the disk all that is here, by that commit. Errors: OSError.

        Another key, as the numbers of commits come again where a power cut has taken a relaxed store back by some: what is left
        in the file would fit.
        """
        self._take(*_new_head(self._descriptor, synced=self._synced))
        self.begin(commit)

    def begin(self, commit: int) -> None:
        """LMDB holds all that is here, by that commit: start over."""
        self._commit = commit
        self._number = 0
        self._at = limits.JOURNAL_HEAD_BYTES

    def entry(self, works: Iterable[Work]) -> bytes | None:
        """What `append` takes, None if there is no room until LMDB takes over. The works are all `small`."""
        items = _items(works)
        size = _HEAD.size + len(items)
        if size > min(limits.JOURNAL_ENTRY_BYTES_MAX, limits.JOURNAL_BYTES - self._at):
            return None
        if self._number == limits.JOURNAL_ENTRIES_MAX:
            return None
        rest = _REST.pack(len(items), self._commit, self._number) + items
        return _CRC.pack(zlib.crc32(rest, self._seed)) + rest

    def append(self, entry: bytes) -> None:
        """Make an entry durable. Errors: OSError; it may be there nevertheless."""
        written = os.pwrite(self._descriptor, entry, self._at)
        while written < len(entry):
            written += os.pwrite(self._descriptor, entry[written:], self._at + written)
        self._at += len(entry)
        self._number += 1

    # --- reading

    def read(self) -> Work:
        """All that LMDB hasn't taken over. Errors: StoreCorrupt."""
        data = os.pread(self._descriptor, limits.JOURNAL_BYTES, 0)
        at, number = limits.JOURNAL_HEAD_BYTES, 0
        work = Work()
        while size := self._sound(data, at, number):
            work.absorb(_work(memoryview(data)[at + _HEAD.size : at + size]))
            at += size
            number += 1
        if not self._was_synced:
            return work
        # An entry is written when the one before is on the disk: what was cut short is the last.
        stands_on = self._commit.to_bytes(8, "little")
        later = data.find(stands_on, at + _COMMIT_AT)
        while later >= 0:
            if self._sound(data, later - _COMMIT_AT):
                found = f"{JOURNAL_FILE}: entry {number}, and there are more behind it"
                raise StoreCorrupt(self._directory, f"{found}; without that file the store opens, and lacks them")
            later = data.find(stands_on, later + 1)
        return work

    def _sound(self, data: bytes, at: int, number: int | None = None) -> int:
        """Bytes of the entry there, 0 if it is none that stands on the commit of LMDB (and has that number)."""
        if at + _HEAD.size > len(data):
            return 0
        crc, size, commit, found = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + size
        if commit != self._commit or number not in (None, found):
            return 0
        if end - at > limits.JOURNAL_ENTRY_BYTES_MAX or end > len(data):
            return 0
        return end - at if zlib.crc32(memoryview(data)[at + _CRC.size : end], self._seed) == crc else 0


def small(work: Work) -> bool:
    """Whether a work may go this way: a few records and states, and nothing that has to be in LMDB at once."""
    if work.records > limits.JOURNAL_RECORDS_MAX:
        return False
    size = work.bytes
    for part in work.logs.values():
        if not part.adds_only():
            return False
        if part.ids:
            size += sum(map(len, part.ids))
        if part.consumer_states:
            size += sum(map(len, part.consumer_states.values()))
    return size <= limits.JOURNAL_WORK_BYTES_MAX


def was_used(directory: Path) -> bool:
    """Whether a journal was ever made ready, which is when there is a data file beside it. Errors: OSError."""
    try:
        with (directory / JOURNAL_FILE).open("rb") as file:
            return any(file.read(_FILE_HEAD.size))
    except FileNotFoundError:
        return False


def _head(directory: Path, descriptor: int, *, synced: bool) -> tuple[bytes, bytes]:
    """Magic and key of the file; one that was never used is made ready first. Errors: StoreCorrupt, OSError."""
    head = os.pread(descriptor, _FILE_HEAD.size, 0).ljust(_FILE_HEAD.size, b"\0")
    if not any(head):
        os.posix_fallocate(descriptor, 0, limits.JOURNAL_BYTES)
        os.fsync(descriptor)
        sync_directory(directory)
        # Last, so that whatever comes in between begins here again.
        return _new_head(descriptor, synced=synced)
    magic, key, crc = _FILE_HEAD.unpack(head)
    if magic not in (_MAGIC, _MAGIC_RELAXED) or crc != zlib.crc32(magic + key):
        raise StoreCorrupt(directory, f"{JOURNAL_FILE}: its head")
    return magic, key


def _new_head(descriptor: int, *, synced: bool) -> tuple[bytes, bytes]:
    magic, key = _MAGIC if synced else _MAGIC_RELAXED, os.urandom(_KEY_BYTES)
    os.pwrite(descriptor, _FILE_HEAD.pack(magic, key, zlib.crc32(magic + key)), 0)
    os.fdatasync(descriptor)
    return magic, key


def _items(works: Iterable[Work]) -> bytes:
    parts: list[bytes] = []
    for work in works:
        for stream, part in work.logs.items():
            for records in part.appends:
                for _, value in records:
                    parts += (_ITEM.pack(_RECORD, stream, len(value)), value)
            if part.totals is not None:
                parts += (_ITEM.pack(_TOTALS, stream, len(part.totals)), part.totals)
            for segment in part.ids:
                parts += (_ITEM.pack(_IDS, stream, len(segment)), segment)
            if part.ids_drop:
                parts += (_ITEM.pack(_IDS_DROP, stream, _COUNT.size), _COUNT.pack(part.ids_drop))
            for consumer, state in part.consumer_states.items():
                size = _CONSUMER.size + len(state)
                parts += (_ITEM.pack(_CONSUMER_STATE, stream, size), _CONSUMER.pack(consumer), state)
    return b"".join(parts)


def _work(items: memoryview) -> Work:
    work = Work()
    records: dict[int, list[tuple[bytes, bytes]]] = {}
    at = 0
    while at < len(items):
        kind, stream, size = _ITEM.unpack_from(items, at)
        at += _ITEM.size
        value = bytes(items[at : at + size])
        at += size
        part = work.of(stream)
        if kind == _RECORD:
            records.setdefault(stream, []).append((value[5:13][::-1], value))
        elif kind == _TOTALS:
            part.totals = value
        elif kind == _IDS:
            part.ids.append(value)
        elif kind == _IDS_DROP:
            part.ids_drop += _COUNT.unpack(value)[0]
        else:
            part.consumer_states[_CONSUMER.unpack_from(value)[0]] = value[_CONSUMER.size :]
    for stream, pairs in records.items():
        work.of(stream).appends.append(Records(pairs))
    return work
