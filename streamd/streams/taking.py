"""What waits in taps, numbered and put into the work that is being filled.

In the walk:  a tap says that publishes wait → here, when commits fill a work → commits.admit.
Guarantee:    every batch that is taken is admitted, refused, or waits for the next work.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord
from streamd.api.errors import ApiError
from streamd.streams.sources import Held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamd._engine import Batch
    from streamd.clock import Clock
    from streamd.store import Work
    from streamd.streams.commits import Commits
    from streamd.streams.mishaps import Mishaps
    from streamd.streams.sources import Source
    from streamd.streams.stream import Stream

#: One stream contributes at most this to a commit; the rest is in the next one.
BATCH_BYTES_MAX: Final = 8 << 20


class Taking:
    """The sources at which publishes wait."""

    def __init__(self, commits: Commits, clock: Clock, mishaps: Mishaps) -> None:
        self.ready: deque[Source] = deque()
        self._commits = commits
        self._clock = clock
        self._mishaps = mishaps

    @property
    def holds(self) -> bool:
        """Whether batches wait for the next work."""
        return any(isinstance(each, Held) for each in self.ready)

    def all(self, work: Work, admitted: Mapping[Stream, object]) -> None:
        """Take what waits, as far as it goes into the work, which has something of the `admitted` ones."""
        held: list[Held] = []
        now_ns = self._clock.now_ns()
        try:
            for _ in range(len(self.ready)):
                if work.full() or self._mishaps:
                    break
                held += self._from(self.ready.popleft(), now_ns, admitted, behind=held)
        finally:
            self.ready.extendleft(reversed(held))

    def ahead(self, source: Source, admitted: Mapping[Stream, object]) -> None:
        """Take what waits at one, while a commit is under way."""
        self.ready += self._from(source, self._clock.now_ns(), admitted, ahead=True)

    def _from(
        self,
        source: Source,
        now_ns: int,
        admitted: Mapping[Stream, object],
        *,
        ahead: bool = False,
        behind: Sequence[Held] = (),
    ) -> list[Held]:
        """Number what waits in one source; `ahead`: while a commit is under way. Returns what has to wait for the next work, as
        others do that are `behind` this one."""
        held: list[Held] = []
        for stream, batch in source.take(BATCH_BYTES_MAX):
            # It may need what was admitted before it and isn't in the log.
            early = ahead or stream in admitted
            try:
                if (refusal := self._commits.refusals.why(stream, batch)) is not None:
                    self._commits.refusals.answer(stream, batch, refusal)
                elif (
                    self._mishaps
                    or (early and not (stream.stream_id and stream.state.fits(batch)))
                    or (behind and any(each.stream is stream for each in behind))
                ):
                    held.append(Held(stream, batch))
                else:
                    self._commits.admit(self._commits.open(), stream, batch, now_ns)
            except Exception as error:
                self._failed(stream, batch, error)
        return held

    def _failed(self, stream: Stream, batch: Batch, error: Exception) -> None:
        """A batch can't be admitted."""
        refusals = self._commits.refusals
        if isinstance(error, CorruptRecord):
            # Of what it would push out, say. The others' batches are in the same work.
            self._commits.unreadable(stream, error)
            refusals.answer(stream, batch, ApiError(503, 10077, stream.offline or str(error)))
        else:
            self._commits.spoil(error, stream)
            refusals.answer(stream, batch, refusals.given_up(error))
