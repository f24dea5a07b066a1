"""The messages of one channel: pairs of msgs.N.dat and msgs.N.idx, read one message at a time.

The index is the truth where it is whole and its last entry fits the data, else the data file is walked; where a sequence
stands twice, after a crash, the later one counts. Both as the original recovers. A message that a limit has dropped stays
in its file until the whole slice goes, so limits have to be named to see what the old server still served.
Source: recoverOneMsgFile, ensureLastMsgAndIndexMatch, enforceLimits and expireMsgs of stores/filestore.go.
"""

from __future__ import annotations

import re
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from streamd.stan.importer.errors import ImportRefused, StoreDamaged
from streamd.stan.importer.model import StoredMessage
from streamd.stan.importer.records import HEADER, VERSION_BYTES, Checksum, Tell, check, open_versioned, records
from streamd.stan.importer.sealed import looks_sealed
from streamd.stan.importer.wire import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATA_NAME: Final = re.compile(r"msgs\.(.+)\.dat")
INDEX: Final = struct.Struct("<QQqII")
INDEX_CHECKED_BYTES: Final = 28
#: What a message costs beside its encoding: the header and the index entry.
OVERHEAD_BYTES: Final = HEADER.size + INDEX.size


@dataclass(frozen=True, slots=True)
class Limits:
    """What the old server was told to keep of a channel; 0 is no limit. Bytes as in `stored_bytes`."""

    max_msgs: int = 0
    max_bytes: int = 0
    max_age_ns: int = 0


class Entry(NamedTuple):
    """Where a message is: the offset of its header, and the size of its payload in bytes."""

    sequence: int
    offset: int
    timestamp_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Slice:
    """One pair of files and what it holds. `index` is None where it can't be relied on."""

    data: Path
    index: Path | None
    first: int
    last: int
    count: int
    stored_bytes: int
    #: Offsets of records that later ones replace.
    superseded: frozenset[int]


class IndexUnusable(Exception):
    """The index is not whole, or not of this data."""


@dataclass(frozen=True)
class Messages:
    """The log of one channel. `unseal` decrypts; None: not encrypted, and data that looks encrypted is refused."""

    slices: tuple[Slice, ...]
    checksum: Checksum
    unseal: Callable[[bytes], bytes] | None = None

    def read(self, first_seq: int) -> Iterator[StoredMessage]:
        """Yields them from a sequence on. Errors: ImportRefused."""
        for piece in self.slices:
            if piece.last < first_seq:
                continue
            with open_versioned(piece.data)[0] as file:
                for entry in self.entries(piece):
                    if entry.sequence >= first_seq:
                        yield self._message(piece, entry, file)

    def entries(self, piece: Slice) -> Iterator[Entry]:
        """Where the messages of a slice are, ascending."""
        if piece.index is None:
            found = walk(piece.data, self.checksum, lambda text: None)
        else:
            found = index_entries(piece.index, self.checksum)
        return (entry for entry in found if entry.offset not in piece.superseded)

    def _message(self, piece: Slice, entry: Entry, file: BinaryIO) -> StoredMessage:
        payload = payload_at(piece.data, entry, file, self.checksum)
        try:
            fields = Message(payload)
            sequence, data = fields.number(1), fields.raw(4)
            reply, timestamp_ns = fields.raw(3), fields.signed(5)
        except ValueError as error:
            raise StoreDamaged(piece.data, entry.offset, str(error)) from None
        if sequence != entry.sequence:
            raise StoreDamaged(piece.data, entry.offset, f"sequence {sequence}, the index says {entry.sequence}")
        return StoredMessage(sequence, timestamp_ns, reply, self._plain(piece, sequence, data))

    def _plain(self, piece: Slice, sequence: int, data: bytes) -> bytes:
        where = f"message {sequence} in {piece.data}"
        if self.unseal is None:
            if looks_sealed(data, sequence):
                raise ImportRefused(
                    f"{where} is encrypted: name the key with --encryption-key or NATS_STREAMING_ENCRYPTION_KEY"
                )
            return data
        try:
            return self.unseal(data)
        except ValueError as error:
            raise ImportRefused(f"{where} can't be decrypted ({error}): name the key it was written with") from None


def find_slices(directory: Path, checksum: Checksum, tell: Tell) -> tuple[Slice, ...]:
    """Surveys the message files of a channel, ascending. Empty ones are left out. Errors: ImportRefused."""
    numbered: dict[int, Path] = {}
    for path in directory.iterdir():
        if (match := DATA_NAME.fullmatch(path.name)) is None or path.is_dir():
            continue
        if not match[1].isascii() or not match[1].isdigit():
            raise ImportRefused(f"{path} is no message file of nats-streaming-server, by its name: move it away")
        numbered[int(match[1])] = path
    found: list[Slice] = []
    for number in sorted(numbered):
        told: list[str] = []
        piece = survey(numbered[number], checksum, told.append)
        for text in told:
            tell(text)
        if not piece.count:
            continue
        if found and piece.first <= found[-1].last:
            raise ImportRefused(
                f"{piece.data} begins with message {piece.first}, but {found[-1].data.name} before it ends with "
                f"{found[-1].last}: leave only one of them in a copy of the directory"
            )
        found.append(piece)
    return tuple(found)


def survey(data: Path, checksum: Checksum, tell: Tell) -> Slice:
    """What one pair of files holds."""
    index = data.with_suffix(".idx")
    if index.exists():
        try:
            piece, last = summary(data, index, index_entries(index, checksum))
            if last is not None:
                verify_last(data, last, checksum)
                return piece
        except (IndexUnusable, StoreDamaged) as error:
            tell(f"{index} is not used, the data file is: {error}")
    return summary(data, None, walk(data, checksum, tell))[0]


def summary(data: Path, index: Path | None, entries: Iterator[Entry]) -> tuple[Slice, Entry | None]:
    """Counts entries; of two for one sequence the later counts. Returns the last one, too, None if there is none."""
    entry = None
    sequences, offsets, sizes = array("Q"), array("Q"), array("Q")
    superseded = set()
    for entry in entries:
        while sequences and sequences[-1] >= entry.sequence:
            sequences.pop()
            sizes.pop()
            superseded.add(offsets.pop())
        sequences.append(entry.sequence)
        offsets.append(entry.offset)
        sizes.append(entry.size + OVERHEAD_BYTES)
    first, last = (sequences[0], sequences[-1]) if sequences else (0, 0)
    return Slice(data, index, first, last, len(sequences), sum(sizes), frozenset(superseded)), entry


def index_entries(path: Path, checksum: Checksum) -> Iterator[Entry]:
    """The entries of an index. Errors: IndexUnusable, ImportRefused."""
    file, _ = open_versioned(path)
    with file:
        offset = VERSION_BYTES
        while raw := file.read(INDEX.size):
            if len(raw) < INDEX.size:
                raise IndexUnusable(f"it ends within the entry at byte {offset}")
            if not any(raw):
                return
            sequence, at, timestamp_ns, size, expected = INDEX.unpack(raw)
            if checksum(raw[:INDEX_CHECKED_BYTES]) != expected:
                raise IndexUnusable(f"the entry at byte {offset} has a wrong checksum")
            yield Entry(sequence, at, timestamp_ns, size)
            offset += INDEX.size


def walk(data: Path, checksum: Checksum, tell: Tell) -> Iterator[Entry]:
    """The entries as the data file itself gives them. Errors: ImportRefused."""
    for record in records(data, checksum, tell, typed=False):
        try:
            fields = Message(record.payload)
            entry = Entry(fields.number(1), record.offset, fields.signed(5), len(record.payload))
        except ValueError as error:
            raise StoreDamaged(data, record.offset, str(error)) from None
        if not entry.sequence:
            raise StoreDamaged(data, record.offset, "a message without a sequence")
        yield entry


def verify_last(data: Path, entry: Entry, checksum: Checksum) -> None:
    """Errors: StoreDamaged unless the data has this message where the index says."""
    with open_versioned(data)[0] as file:
        payload = payload_at(data, entry, file, checksum)
    try:
        sequence = Message(payload).number(1)
    except ValueError as error:
        raise StoreDamaged(data, entry.offset, str(error)) from None
    if sequence != entry.sequence:
        raise StoreDamaged(data, entry.offset, f"sequence {sequence}, the index says {entry.sequence}")


def payload_at(data: Path, entry: Entry, file: BinaryIO, checksum: Checksum) -> bytes:
    """The payload of a record. Errors: StoreDamaged."""
    file.seek(entry.offset)
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise StoreDamaged(data, entry.offset, "the file ends here, the index goes on")
    size, expected = HEADER.unpack(header)
    if size != entry.size:
        raise StoreDamaged(data, entry.offset, f"a record of {size} bytes, the index says {entry.size}")
    payload = file.read(size)
    if len(payload) < size:
        raise StoreDamaged(data, entry.offset, "the file ends within the record")
    check(data, entry.offset, payload, expected, checksum)
    return payload


@dataclass(frozen=True, slots=True)
class Extent:
    """What a channel serves: sequences, messages, bytes as in `stored_bytes`."""

    first: int
    last: int
    count: int
    stored_bytes: int


def within(log: Messages, limits: Limits, now_ns: int) -> Extent:
    """What limits leave. By number and bytes the newest message always stays; by age nothing may."""
    if not log.slices:
        return Extent(0, 0, 0, 0)
    first, last = log.slices[0].first, log.slices[-1].last
    count = sum(piece.count for piece in log.slices)
    stored = sum(piece.stored_bytes for piece in log.slices)
    if limits == Limits():
        return Extent(first, last, count, stored)
    for piece in log.slices:
        for entry in log.entries(piece):
            over = (0 < limits.max_msgs < count) or (0 < limits.max_bytes < stored)
            old = 0 < limits.max_age_ns <= now_ns - entry.timestamp_ns
            if not ((over and count > 1) or old):
                return Extent(entry.sequence, last, count, stored)
            count -= 1
            stored -= entry.size + OVERHEAD_BYTES
    return Extent(last + 1, last, 0, 0)
