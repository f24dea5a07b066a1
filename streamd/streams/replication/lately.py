"""What the log has had since the leader changed last, for a moment: a leader from before may pass the same on.

Whoever leads has proposed it itself, or has applied it: that is what another leader proposed, perhaps unnoticed by the one
that passes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd._engine import Batch
    from streamd.clock import Clock, Timer

#: It is remembered for so long, and so many bytes of it.
LATELY_NS: Final = 1_000_000_000
LATELY_BYTES_MAX: Final = 32 << 20


class Lately:
    """Publishes, by the uid of their stream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._term = 0
        self._batches: dict[int, list[tuple[int, Batch]]] | None = None  # with the term; None: nothing is remembered
        self._bytes = 0
        self._timer: Timer | None = None

    @property
    def known(self) -> bool:
        """Whether all that was published since the leader changed is remembered."""
        return self._batches is not None

    def reached(self, term: int) -> None:
        """An entry of a term is about to be made or applied: with a new one another server may lead."""
        if term == self._term:
            return
        self._term = term
        if self._batches is None:
            self._batches, self._bytes = {}, 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(LATELY_NS, self.forget)

    def forget(self) -> None:
        """Remember nothing."""
        self._batches = self._timer = None

    def add(self, uid: int, batch: Batch) -> None:
        """It is proposed here, or applied if another server did that."""
        if self._batches is None:
            return
        self._batches.setdefault(uid, []).append((self._term, batch))
        self._bytes += batch.size()
        if self._bytes > LATELY_BYTES_MAX:
            self._batches = None

    def of(self, uid: int, since: int) -> list[Batch]:
        """What was published to a stream, in terms behind one."""
        return [batch for term, batch in (self._batches or {}).get(uid, []) if term > since]
