"""What a leader has proposed since it leads, for a moment: the leader before may pass the same on."""

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
        self._batches: dict[int, list[Batch]] | None = None  # None: nothing is remembered
        self._bytes = 0
        self._timer: Timer | None = None

    @property
    def known(self) -> bool:
        """Whether all that was proposed since the beginning is remembered."""
        return self._batches is not None

    def begin(self) -> None:
        """Remember from now on."""
        self._batches, self._bytes = {}, 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(LATELY_NS, self.forget)

    def forget(self) -> None:
        """Remember nothing."""
        self._batches = self._timer = None

    def add(self, uid: int, batch: Batch) -> None:
        """It is proposed."""
        if self._batches is None:
            return
        self._batches.setdefault(uid, []).append(batch)
        self._bytes += batch.size()
        if self._bytes > LATELY_BYTES_MAX:
            self._batches = None

    def of(self, uid: int) -> list[Batch]:
        """What was proposed for a stream."""
        return [] if self._batches is None else self._batches.get(uid, [])
