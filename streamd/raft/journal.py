"""How a group's log gets into the store, and back.

In the walk:  the library adds and cuts here through `core`; `sending` and `replica` read from here; the store's group commit
              takes what is new.
Guarantee:    what is in memory is the truth, the store follows it: a commit takes all that has changed since the one before,
              in one transaction. Whoever must not speak before a write is durable compares the write's number with
              `synced_seq`. A failed commit changes nothing but that it is tried again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from streamd._engine import CorruptRecord, Records, record_decode, record_key
from streamd.errors import StoreCorrupt
from streamd.raft import storage as places
from streamd.raft.config import Config
from streamd.raft.entries import Entries
from streamd.raft.envelope import NO_OP
from streamd.raft.errors import JournalDamaged
from streamd.raft.options import Options
from streamd.store import sequence_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Clock, Timer
    from streamd.raft.envelope import Entry
    from streamd.raft.net import NodeId
    from streamd.raft.storage import Job, Storage
    from streamd.store import Outcome, Work

_TERM: Final = struct.Struct("<Q?")  # then the vote, if there is one
_INDEX: Final = struct.Struct("<Q")
_CLEAN: Final = 1 << 62  # above every index
_BASE_COMMAND: Final = bytes((NO_OP,))
_READ_RECORDS: Final = 1_024


def term_and_vote(term: int, vote: NodeId | None) -> bytes:
    """The stored form."""
    return _TERM.pack(term, vote is not None) + (vote or "").encode()


class _Flight(NamedTuple):
    """What a commit that is under way holds."""

    first: int  # entries first..last
    last: int
    seq: int
    base: int
    wipe: bool
    term_and_vote: bytes
    commit: int


class Journal(Entries):
    """The journal of one group on this node."""

    def __init__(
        self,
        group: str,
        storage: Storage,
        at_rest: Callable[[Job], None],
        clock: Clock | None,
        options: Options,
        changed: Callable[[], None],
    ) -> None:
        """`changed`: called when `synced_seq` or `failing` moved. `clock`: None if nothing is to be written.

        Errors: JournalDamaged."""
        super().__init__()
        self.group = group
        self.term = 0
        self.vote: NodeId | None = None
        self.commit = 0  # a hint: as far as was known to be committed
        self.seq = 0  # number of the last write
        self.meta_seq = 0  # of the last write of term or vote
        self.synced_seq = 0
        self.synced_index = 0  # the entries up to here are durable as they are
        self.failing = False  # the last commit failed
        self._dirty_from = _CLEAN  # entries from here on differ from what is stored or under way
        self._wipe = False  # nothing that is stored belongs to this log
        self._stored = _Flight(1, 0, 0, 0, False, b"", 0)  # the last one that landed
        self._stored_last = 0  # nothing is stored above
        self._flight: _Flight | None = None
        self._staged = False
        self._stale = False  # behind the log lie entries that were cut; only without `atomic_truncation`
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

    @classmethod
    def found(cls, group: str, storage: Storage) -> Journal:
        """As it lies in the store, to be looked at and not written. Errors: JournalDamaged."""
        journal = cls(group, storage, lambda job: None, None, Options(), lambda: None)
        journal.close()
        return journal

    # --- reading

    def entries(self, index: int, bytes_max: int, last: int = _CLEAN) -> list[Entry]:
        """Entries from `index` on and up to `last`, at least one if there is one, then within the bytes; base < index.

        Errors: JournalDamaged.
        """
        last = min(last, self.terms.last)
        if index >= self._recent_from:
            return self.recent(index, bytes_max, last)
        last = min(last, self._recent_from - 1)
        try:
            values = self._log.read(index, min(last - index + 1, _READ_RECORDS), bytes_max)
            records = [record_decode(value) for value in values]
        except (CorruptRecord, StoreCorrupt) as error:
            raise JournalDamaged(self.group, str(error)) from error
        if not records or [record.sequence for record in records] != list(range(index, index + len(records))):
            raise JournalDamaged(self.group, f"entry {index} or one behind it is not there")
        return [(record.timestamp_ns, record.payload) for record in records]

    # --- changing

    def add(self, command: bytes, term: int) -> int:
        """Append an entry, and return its index."""
        index = self._extend(command, term, keep=True)
        self._touch(index)
        return index

    def truncate(self, index: int) -> None:
        """Cut the log; base < index <= last."""
        self._cut(index)
        self._touch(index)

    def set_term(self, term: int, vote: NodeId | None) -> None:
        """The current term, and whom this node votes for in it."""
        self.term, self.vote = term, vote
        if self._options.fixes.persist_vote:
            self._touch(_CLEAN)
            self.meta_seq = self.seq

    def rebase(self, index: int, term: int, config: Config) -> None:
        """Forget all entries: the state at this one is what counts."""
        self._reset(index, term, config)
        self.commit = max(self.commit, index)
        self._wipe = True
        self._touch(index)
        self._look()

    def trim(self, index: int) -> None:
        """Entries up to `index` aren't needed here any more: keep a tail of them for others. The store follows with its next
        commit."""
        keep = self._options.tail_bytes
        if self.bytes > keep + keep // 4:
            self._rebase(max(min(index, self.synced_index), self.terms.base), keep)

    # --- towards the store

    def _touch(self, index: int) -> None:
        self.seq += 1
        if index < self._dirty_from:
            self._dirty_from = index
        if index <= self.synced_index:
            self._look()
        if not self._staged and not self.failing and not self._closed:
            self._stage()

    def _look(self) -> None:
        """See how far the store is."""
        first = self._dirty_from if self._flight is None else min(self._dirty_from, self._flight.first)
        self.synced_index = min(first - 1, self.terms.last)

    def _stage(self) -> None:
        self._staged = True
        self._at_rest(self._job)

    def _job(self, work: Work) -> Callable[[Outcome], None] | None:
        self._staged = False
        if self._closed or self._flight is not None or self._retry is not None:
            return None  # whoever ends that stages again
        base, last = self.terms.base, self.terms.last
        first = base if self._wipe else min(self._dirty_from, last + 1)
        hard_state = term_and_vote(self.term, self.vote)
        if not self._options.fixes.persist_vote:
            hard_state = self._stored.term_and_vote
        self._flight = _Flight(first, last, self.seq, base, self._wipe, hard_state, self.commit)
        self._dirty_from = _CLEAN
        self._wipe = False
        try:
            self._write(work, self._flight)
        except Exception:
            # Whoever runs jobs sees to what is in the work; here, it is as if its commit had failed.
            flight, self._flight = self._flight, None
            self._failed(flight)
            raise
        return self._landed

    def _write(self, work: Work, flight: _Flight) -> None:
        log, stored, first = self._log, self._stored, flight.first
        states = log.of(work).consumer_states
        if flight.wipe:
            log.truncate_from(work, 1)
        tail = self._stale_tail(flight)
        if not flight.wipe and first <= self._stored_last:
            log.truncate_from(work, first)
        if first <= flight.last:
            log.append(work, self._records(flight))
        if tail:
            log.append(work, Records((record_key(sequence_of(value)), value) for value in tail))
        if flight.base != stored.base or flight.wipe:
            log.keep_from(work, flight.base)
            states[places.BASE] = _INDEX.pack(flight.base) + self.config_at(flight.base).encode()
        if flight.term_and_vote != stored.term_and_vote:
            states[places.TERM_AND_VOTE] = flight.term_and_vote
        if flight.commit != stored.commit:
            states[places.COMMIT] = _INDEX.pack(flight.commit)

    def _stale_tail(self, flight: _Flight) -> list[bytes]:
        """What a store without this transaction would leave behind the log until the next commit; nothing, but for who wants to
        see what that leads to."""
        cuts = not flight.wipe and flight.first <= self._stored_last
        leave = cuts and not self._options.fixes.atomic_truncation and not self._stale
        tail = self._log.read(flight.last + 1, _CLEAN, _CLEAN) if leave else []
        self._stale = bool(tail)
        return tail

    def _records(self, flight: _Flight) -> Records:
        term_at, recent, base = self.terms.at, self._recent, flight.base
        return Records.entries(
            (at, term_at(at), recent[at] if at > base else _BASE_COMMAND)
            for at in range(max(flight.first, 1), flight.last + 1)
        )

    def _landed(self, outcome: Outcome) -> None:
        flight, self._flight = self._flight, None
        assert flight is not None
        if self._closed:
            return
        if outcome.error is not None:
            self._failed(flight)
        else:
            self._look()
            self.failing = False
            self._pause_ns = self._options.retry_min_ns
            self.synced_seq = flight.seq
            self._stored = flight
            self._stored_last = max(self._stored_last, flight.last) if self._stale else flight.last
            if (self.seq != flight.seq or self._stale) and not self._staged:
                self._stage()
            if self._recent_bytes > self._options.recent_bytes:
                self._shrink(self.synced_index, self._options.recent_bytes)
        self._changed()

    def _failed(self, flight: _Flight) -> None:
        """Nothing of a commit is there: the next one brings it."""
        self._dirty_from = min(self._dirty_from, flight.first)
        self._wipe = self._wipe or flight.wipe
        self._stored_last = max(self._stored_last, flight.last)
        self.failing = True
        assert self._clock is not None
        self._retry = self._clock.call_later(self._pause_ns, self._try_again)
        self._pause_ns = min(2 * self._pause_ns, self._options.retry_max_ns)

    def _try_again(self) -> None:
        self._retry = None
        if not self._staged:
            self._stage()

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()

    # --- at start

    def _load(self, storage: Storage) -> None:
        states = storage.states
        base = commit = 0
        hard_state = states.get(places.TERM_AND_VOTE, b"")
        if hard_state:
            self.term, voted = _TERM.unpack_from(hard_state)
            self.vote = hard_state[_TERM.size :].decode() if voted else None
        if (state := states.get(places.BASE)) is not None:
            (base,) = _INDEX.unpack_from(state)
            self.configs = [(base, Config.decode(state[_INDEX.size :]))]
        if (state := states.get(places.COMMIT)) is not None:
            (commit,) = _INDEX.unpack_from(state)
        self._load_entries(base)
        if commit > self.terms.last:
            raise ValueError(f"entry {commit} was committed, and the last one is {self.terms.last}")
        self._stored = _Flight(1, self.terms.last, 0, base, False, hard_state, commit)
        self._stored_last = self.terms.last
        self._look()
        self.commit = max(commit, base)
        self.term = max(self.term, self.terms.last_term)

    def _load_entries(self, base: int) -> None:
        index = max(base, 1)
        while values := self._log.read(index, _READ_RECORDS):
            for value in values:
                record = record_decode(value)
                term, command = record.timestamp_ns, record.payload
                if record.sequence != index:
                    raise ValueError(f"entry {index} is missing, the next one is {record.sequence}")
                if not command or term < self.terms.last_term:
                    raise ValueError(f"entry {index} of term {term} behind term {self.terms.last_term}")
                if index == base:
                    self._reset(base, term, self.config)
                else:
                    self._extend(command, term, keep=False)
                index += 1
        if index == base:
            raise ValueError(f"entry {base} is missing")
