"""Which entry is of which term, for a whole journal."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Terms:
    """Runs of entries of the same term: there are as many as there were leaders."""

    __slots__ = ("_firsts", "_terms", "base", "last", "last_term")

    def __init__(self, base: int, term: int) -> None:
        """A log of one entry."""
        self.base = base
        self.last = base
        self.last_term = term
        self._firsts = [base]
        self._terms = [term]

    def add(self, term: int) -> None:
        """One more entry."""
        self.last += 1
        if term != self.last_term:
            self._firsts.append(self.last)
            self._terms.append(term)
            self.last_term = term

    def at(self, index: int) -> int:
        """The term of an entry, base <= index <= last."""
        if index >= self._firsts[-1]:
            return self.last_term
        return self._terms[bisect_right(self._firsts, index) - 1]

    def first_of(self, index: int) -> int:
        """The first entry here that has the same term as that one and lies before it without another between."""
        return self._firsts[bisect_right(self._firsts, index) - 1]

    def truncate(self, index: int) -> None:
        """The entries from `index` on are gone; base < index."""
        keep = bisect_left(self._firsts, index)
        del self._firsts[keep:], self._terms[keep:]
        self.last = min(self.last, index - 1)
        self.last_term = self._terms[-1]

    def rebase(self, index: int) -> None:
        """The entries below `index` are gone; base <= index <= last."""
        drop = bisect_right(self._firsts, index) - 1
        del self._firsts[:drop], self._terms[:drop]
        self._firsts[0] = index
        self.base = index
