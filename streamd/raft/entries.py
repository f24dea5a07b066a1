"""The log of a group in memory: the terms and sizes of all its entries, and the commands of the last ones."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG
from streamd.raft.terms import Terms

if TYPE_CHECKING:
    from streamd.raft.envelope import Entry


class Entries:
    """What a journal remembers.

    The first entry, the *base*, is known by index and term alone; it is 0 in a new log.
    """

    def __init__(self) -> None:
        self.terms = Terms(0, 0)
        self.configs: list[tuple[int, Config]] = [(0, Config())]  # the first one is that of the base
        self.bytes = 0  # of the entries above the base
        self._sizes = array("I")  # of the entries above the base
        self._recent: dict[int, bytes] = {}  # commands of the entries from _recent_from on
        self._recent_from = 1
        self._recent_bytes = 0

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

    def size(self, first: int, last: int) -> int:
        """Bytes of the entries first..last; base < first."""
        start = self.terms.base + 1
        return sum(self._sizes[first - start : last + 1 - start])

    def recent(self, index: int, bytes_max: int, last: int) -> list[Entry]:
        """Entries whose commands are in memory: those from `index` on and up to `last`, at least one, then within the bytes."""
        found: list[Entry] = []
        term_at, recent = self.terms.at, self._recent
        for at in range(index, last + 1):
            command = recent[at]
            bytes_max -= len(command)
            if bytes_max < 0 and found:
                break
            found.append((term_at(at), command))
        return found

    # --- changing

    def _extend(self, command: bytes, term: int, *, keep: bool) -> int:
        """One more entry, with its command kept in memory or not. Returns its index."""
        self.terms.add(term)
        index, size = self.terms.last, len(command)
        self._sizes.append(size)
        self.bytes += size
        if keep:
            self._recent[index] = command
            self._recent_bytes += size
        else:
            self._recent_from = index + 1
        if command[0] == CONFIG:
            self.configs.append((index, Config.decode(command[1:])))
        return index

    def _cut(self, index: int) -> None:
        """The entries from `index` on are gone; base < index <= last."""
        start = self.terms.base + 1
        for at in range(max(index, self._recent_from), self.terms.last + 1):
            self._recent_bytes -= len(self._recent.pop(at))
        self._recent_from = min(self._recent_from, index)
        self.bytes -= sum(self._sizes[index - start :])
        del self._sizes[index - start :]
        self.terms.truncate(index)
        while self.configs[-1][0] >= index:
            self.configs.pop()

    def _reset(self, index: int, term: int, config: Config) -> None:
        """A log of one entry, its base."""
        self.terms = Terms(index, term)
        self.configs = [(index, config)]
        self._sizes = array("I")
        self._recent.clear()
        self._recent_from = index + 1
        self._recent_bytes = self.bytes = 0

    def _rebase(self, index: int, bytes_keep: int) -> None:
        """Drop entries up to `index` as long as more than so many bytes are left; base <= index <= last."""
        base, left = self.terms.base, self.bytes
        for size in self._sizes:
            if base >= index or left <= bytes_keep:
                break
            left -= size
            base += 1
        del self._sizes[: base - self.terms.base]
        self.bytes = left
        self.configs = [(base, self.config_at(base)), *((at, config) for at, config in self.configs if at > base)]
        self.terms.rebase(base)
        self._forget(base)

    def _shrink(self, index: int, bytes_keep: int) -> None:
        """Drop commands up to `index` from memory as long as more than so many bytes of them are there."""
        at, excess = self._recent_from, self._recent_bytes - bytes_keep
        while at <= index and excess > 0:
            excess -= len(self._recent[at])
            at += 1
        self._forget(at - 1)

    def _forget(self, index: int) -> None:
        while self._recent_from <= index:
            self._recent_bytes -= len(self._recent.pop(self._recent_from))
            self._recent_from += 1
