"""The log of a group: what it is, and how it gets into the store.

In the walk:  the library adds and cuts here through `core`; `sending` and `core` read from here; the store's group commit
              takes what is new.
Guarantee:    what is in memory is the truth, the store follows it: a commit takes all that has changed since the one before,
              in one transaction. Whoever must not speak before a write is durable compares the write's number with
              `synced_seq`. A failed commit changes nothing but that it is tried again.

The first entry, the *base*, is known by index and term alone; it is 0 in a new log and is not stored then.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from streamd._engine import CorruptRecord, Records, record_decode, record_encode, record_key
from streamd.errors import StoreCorrupt
from streamd.raft import storage as places
from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG, NO_OP
from streamd.raft.errors import JournalDamaged
from streamd.raft.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Clock, Timer
    from streamd.raft.envelope import Entry
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.storage import Job, Storage
    from streamd.store import Outcome, Work

_TERM: Final = struct.Struct("<Q?")  # then the vote, if there is one
_INDEX: Final = struct.Struct("<Q")
_CLEAN: Final = 1 << 62  # above every index
_BASE_COMMAND: Final = bytes((NO_OP,))
_LOAD_RECORDS: Final = 1_024


class _Flight(NamedTuple):
    """What a commit that is under way holds."""

    first: int  # entries first..last
    last: int
    seq: int
    base: int
    wipe: bool
    term_and_vote: bytes
    commit: int


class Journal:
    """The journal of one group on this node."""

    def __init__(
        self,
        group: str,
        storage: Storage,
        at_rest: Callable[[Job], None],
        clock: Clock,
        options: Options,
        changed: Callable[[], None],
    ) -> None:
        """`changed`: called when `synced_seq` or `failing` moved. Errors: JournalDamaged."""
        self.group = group
        self.terms = Terms(0, 0)
        self.term = 0
        self.vote: NodeId | None = None
        self.commit = 0  # a hint: as far as was known to be committed
        self.configs: list[tuple[int, Config]] = [(0, Config())]  # the first one is that of the base
        self.bytes = 0  # of the entries above the base
        self.seq = 0  # number of the last write
        self.meta_seq = 0  # of the last write of term or vote
        self.synced_seq = 0
        self.failing = False  # the last commit failed
        self._sizes = array("I")  # of the entries above the base
        self._recent: dict[int, bytes] = {}  # commands of the entries from _recent_from on
        self._recent_from = 1
        self._recent_bytes = 0
        self._dirty_from = _CLEAN  # entries from here on differ from what is stored or flies
        self._wipe = False  # nothing that is stored belongs to this log
        self._stored_last = 0  # nothing is stored above
        self._stored_base = 0
        self._stored_term_and_vote = b""
        self._stored_commit = 0
        self._flight: _Flight | None = None
        self._staged = False
        self._cut_later = 0  # only without `atomic_truncation`
        self._retry: Timer | None = None
        self._pause_ns = options.retry_min_ns
        self._log = storage.log
        self._at_rest = at_rest
        self._clock = clock
        self._options = options
        self._changed = changed
        self._closed = False
        try:
            self._load(storage)
        except (CorruptRecord, StoreCorrupt, ValueError, struct.error) as error:
            raise JournalDamaged(group, str(error)) from error

    # --- reading

    @property
    def synced_index(self) -> int:
        """The entries up to here are durable as they are."""
        first = self._dirty_from if self._flight is None else min(self._dirty_from, self._flight.first)
        return min(first - 1, self.terms.last)

    @property
    def config(self) -> Config:
        """The one in force."""
        return self.configs[-1][1]

    def config_at(self, index: int) -> Config:
        """The one that was in force at an entry, base or above."""
        return next(config for at, config in reversed(self.configs) if at <= index)

    def holds(self, index: int, term: int) -> bool:
        """Whether the log has this entry."""
        return self.terms.base <= index <= self.terms.last and self.terms.at(index) == term

    def entries(self, index: int, bytes_max: int, last: int = _CLEAN) -> list[Entry]:
        """Entries from `index` on and up to `last`, at least one if there is one, then within the bytes; base < index.

        Errors: JournalDamaged.
        """
        last = min(last, self.terms.last)
        if index < self._recent_from:
            return self._read(index, bytes_max, min(last, self._recent_from - 1))
        found: list[Entry] = []
        term_at, recent = self.terms.at, self._recent
        for at in range(index, last + 1):
            command = recent[at]
            bytes_max -= len(command)
            if bytes_max < 0 and found:
                break
            found.append((term_at(at), command))
        return found

    def _read(self, index: int, bytes_max: int, last: int) -> list[Entry]:
        try:
            values = self._log.read(index, min(last - index + 1, _LOAD_RECORDS), bytes_max)
            records = [record_decode(value) for value in values]
        except (CorruptRecord, StoreCorrupt) as error:
            raise JournalDamaged(self.group, str(error)) from error
        if not records or [record.sequence for record in records] != list(range(index, index + len(records))):
            raise JournalDamaged(self.group, f"entry {index} or one behind it is not there")
        return [(record.timestamp_ns, record.payload) for record in records]

    def size(self, first: int, last: int) -> int:
        """Bytes of the entries first..last; base < first."""
        start = self.terms.base + 1
        return sum(self._sizes[first - start : last + 1 - start])

    # --- changing

    def add(self, command: bytes, term: int) -> int:
        """Append an entry, and return its index."""
        self.terms.add(term)
        index = self.terms.last
        size = len(command)
        self._sizes.append(size)
        self._recent[index] = command
        self._recent_bytes += size
        self.bytes += size
        if command[0] == CONFIG:
            self.configs.append((index, Config.decode(command[1:])))
        self.seq += 1
        self._touch(index)
        return index

    def truncate(self, index: int) -> None:
        """Cut the log; base < index <= last."""
        start = self.terms.base + 1
        for at in range(max(index, self._recent_from), self.terms.last + 1):
            self._recent_bytes -= len(self._recent.pop(at))
        self._recent_from = min(self._recent_from, index)
        self.bytes -= sum(self._sizes[index - start :])
        del self._sizes[index - start :]
        self.terms.truncate(index)
        while self.configs[-1][0] >= index:
            self.configs.pop()
        self.seq += 1
        self._touch(index)

    def set_term(self, term: int, vote: NodeId | None) -> None:
        """The current term, and whom this node votes for in it."""
        self.term, self.vote = term, vote
        if self._options.fixes.persist_vote:
            self.seq += 1
            self.meta_seq = self.seq
            self._stage()

    def rebase(self, index: int, term: int, config: Config) -> None:
        """Forget all entries: the state at this one is what counts."""
        self.terms = Terms(index, term)
        self.configs = [(index, config)]
        self._sizes = array("I")
        self._recent.clear()
        self._recent_from = index + 1
        self._recent_bytes = self.bytes = 0
        self.commit = max(self.commit, index)
        self._wipe = True
        self.seq += 1
        self._touch(index)

    def trim(self, index: int) -> None:
        """Entries up to `index` aren't needed here any more: keep a tail of them for others. The store follows with its next
        commit."""
        keep = self._options.tail_bytes
        if self.bytes <= keep + keep // 4:
            return
        index = min(index, self.synced_index)
        base = self.terms.base
        freed = 0
        for size in self._sizes:
            if base >= index or self.bytes - freed <= keep:
                break
            freed += size
            base += 1
        self.configs = [(base, self.config_at(base)), *((at, config) for at, config in self.configs if at > base)]
        del self._sizes[: base - self.terms.base]
        self.bytes -= freed
        self.terms.rebase(base)
        self._forget(base)

    def _forget(self, index: int) -> None:
        """Commands up to `index` needn't be in memory."""
        while self._recent_from <= index:
            self._recent_bytes -= len(self._recent.pop(self._recent_from))
            self._recent_from += 1

    # --- towards the store

    def _touch(self, index: int) -> None:
        if index < self._dirty_from:
            self._dirty_from = index
        self._stage()

    def _stage(self) -> None:
        if not self._staged and not self.failing and not self._closed:
            self._staged = True
            self._at_rest(self._job)

    def _job(self, work: Work) -> Callable[[Outcome], None] | None:
        self._staged = False
        if self._closed or self._flight is not None or self._retry is not None:
            return None  # whoever ends that stages again
        base, last = self.terms.base, self.terms.last
        first = base if self._wipe else min(self._dirty_from, last + 1)
        vote = (self.vote or "").encode()
        term_and_vote = _TERM.pack(self.term, self.vote is not None) + vote
        if not self._options.fixes.persist_vote:
            term_and_vote = self._stored_term_and_vote
        self._flight = _Flight(first, last, self.seq, base, self._wipe, term_and_vote, self.commit)
        self._write(work, self._flight)
        self._dirty_from = _CLEAN
        self._wipe = False
        return self._landed

    def _write(self, work: Work, flight: _Flight) -> None:
        log = self._log
        part = log.of(work)
        first = flight.first
        if flight.wipe:
            log.truncate_from(work, 1)
        elif first <= self._stored_last:
            if self._options.fixes.atomic_truncation:
                log.truncate_from(work, first)
            else:
                log.delete_range(work, first, flight.last + 1)
                self._cut_later = flight.last + 1
        elif self._cut_later:
            log.truncate_from(work, self._cut_later)
            self._cut_later = 0
        if first <= flight.last:
            term_at, recent, base = self.terms.at, self._recent, flight.base
            pairs = [
                (record_key(at), record_encode(at, term_at(at), "", b"", recent[at] if at > base else _BASE_COMMAND))
                for at in range(max(first, 1), flight.last + 1)
            ]
            log.append(work, Records(pairs))
        if flight.base != self._stored_base or flight.wipe:
            if flight.base > 1:
                log.keep_from(work, flight.base)
            part.consumer_states[places.BASE] = _INDEX.pack(flight.base) + self.config_at(flight.base).encode()
        if flight.term_and_vote != self._stored_term_and_vote:
            part.consumer_states[places.TERM_AND_VOTE] = flight.term_and_vote
        if flight.commit != self._stored_commit:
            part.consumer_states[places.COMMIT] = _INDEX.pack(flight.commit)

    def _landed(self, outcome: Outcome) -> None:
        flight, self._flight = self._flight, None
        assert flight is not None
        if outcome.error is not None:
            self._dirty_from = min(self._dirty_from, flight.first)
            self._wipe = self._wipe or flight.wipe
            self._stored_last = max(self._stored_last, flight.last)
            self.failing = True
            self._retry = self._clock.call_later(self._pause_ns, self._try_again)
            self._pause_ns = min(2 * self._pause_ns, self._options.retry_max_ns)
        else:
            self.failing = False
            self._pause_ns = self._options.retry_min_ns
            self.synced_seq = flight.seq
            self._stored_last = flight.last
            self._stored_base = flight.base
            self._stored_term_and_vote = flight.term_and_vote
            self._stored_commit = flight.commit
            if self.seq != flight.seq or self._cut_later:
                self._stage()
            if self._recent_bytes > self._options.recent_bytes:
                self._shrink()
        if not self._closed:
            self._changed()

    def _try_again(self) -> None:
        self._retry = None
        if not self._closed and not self._staged:
            self._staged = True
            self._at_rest(self._job)

    def _shrink(self) -> None:
        """Keep the newest commands in memory; those that aren't stored yet in any case."""
        index, synced = self._recent_from, self.synced_index
        excess = self._recent_bytes - self._options.recent_bytes
        while index <= synced and excess > 0:
            excess -= len(self._recent[index])
            index += 1
        self._forget(index - 1)

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()

    # --- at start

    def _load(self, storage: Storage) -> None:
        states = storage.states
        if (state := states.get(places.TERM_AND_VOTE)) is not None:
            self.term, voted = _TERM.unpack_from(state)
            self.vote = state[_TERM.size :].decode() if voted else None
            self._stored_term_and_vote = state
        if (state := states.get(places.BASE)) is not None:
            (base,) = _INDEX.unpack_from(state)
            self.configs = [(base, Config.decode(state[_INDEX.size :]))]
            self._load_entries(base)
        else:
            self._load_entries(0)
        if (state := states.get(places.COMMIT)) is not None:
            (self._stored_commit,) = _INDEX.unpack_from(state)
            self.commit = min(self._stored_commit, self.terms.last)
        self.commit = max(self.commit, self.terms.base)
        self.term = max(self.term, self.terms.last_term)

    def _load_entries(self, base: int) -> None:
        index = max(base, 1)
        while values := self._log.read(index, _LOAD_RECORDS):
            for value in values:
                record = record_decode(value)
                term, command = record.timestamp_ns, record.payload
                if record.sequence != index:
                    raise ValueError(f"entry {index} is missing, the next one is {record.sequence}")
                if not command or term < self.terms.last_term:
                    raise ValueError(f"entry {index} of term {term} behind term {self.terms.last_term}")
                if index == base:
                    self.terms = Terms(base, term)
                else:
                    self._take(command, term)
                index += 1
        if index == base:
            raise ValueError(f"entry {base} is missing")
        self._stored_last = self.terms.last
        self._stored_base = base
        self._recent_from = self.terms.last + 1

    def _take(self, command: bytes, term: int) -> None:
        """An entry as it was stored."""
        self.terms.add(term)
        self._sizes.append(len(command))
        self.bytes += len(command)
        if command[0] == CONFIG:
            self.configs.append((self.terms.last, Config.decode(command[1:])))
