"""What is raised while a commit is put together: by a mistake of ours, or because something stored can't be read.

In the walk:  a job or an admission raises → commits, which give up the work that was being filled as if its commit had failed.
Guarantee:    it is logged once, with its traceback unless it is damage. A stream that is damaged, or whose part of a commit
              fails again and again, goes offline: the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord
from streamd.errors import CommitAbandoned, StoreCorrupt, StoreError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from streamd.store import Outcome, Work
    from streamd.streams.commits import Job
    from streamd.streams.stream import Stream

#: So often in a row may a stream's part of a commit fail.
TRIES_MAX: Final = 3


class Unfilled(Exception):
    """A job of a stream raised something, and who asked for the job hears of it."""

    def __init__(self, stream: Stream, cause: Exception, lost: Callable[[Outcome], None]) -> None:
        """`lost`: called as the follow-up would have been that the job didn't return."""
        super().__init__(stream.name)
        self.stream = stream
        self.cause = cause
        self.lost = lost


def answered(stream: Stream, job: Job, lost: Callable[[Outcome], None]) -> Job:
    """A job of a stream whose outcome is heard also if it raises: its machine may be changed by then."""

    def guarded(work: Work) -> Callable[[Outcome], None] | None:
        try:
            return job(work)
        except Unfilled:
            raise
        except Exception as error:
            raise Unfilled(stream, error, lost) from error

    return guarded


def forget(work: Work) -> None:
    """A work won't be submitted: what is staged in it is there no more."""
    for part in work.logs.values():
        if part.log is not None:
            part.log.settled(part, committed=False)


class Mishaps:
    """What went wrong with the work that is being filled, and how often that happened to whom."""

    def __init__(self, log: logging.Logger) -> None:
        #: Why the work can't be committed.
        self.error: StoreError | None = None
        self._log = log
        self._stream: Stream | None = None
        self._cause: Exception | None = None
        self._times: dict[Stream, int] = {}

    def __bool__(self) -> bool:
        """Whether the work can't be committed."""
        return self.error is not None

    def note(self, error: Exception, stream: Stream | None) -> None:
        """Something was raised, by the part of a stream if that is known."""
        if not isinstance(error, StoreCorrupt | CorruptRecord):
            about = "a commit" if stream is None else f"a commit of stream {stream.name}"
            self._log.critical("JetStream: %s couldn't be put together", about, exc_info=error)
        if self.error is None:
            self.error = error if isinstance(error, StoreError) else CommitAbandoned(error)
            self._stream, self._cause = stream, error

    def given_up(self) -> None:
        """Nothing of the work is there any more, and machines are where the store is. Whose part can't be made goes offline."""
        stream, cause = self._stream, self._cause
        self.error = self._stream = self._cause = None
        if stream is None or cause is None or stream.closed or stream.offline is not None:
            return
        times = self._times.pop(stream, 0) + 1
        if isinstance(cause, StoreCorrupt | CorruptRecord):
            stream.damaged(cause)
        elif times < TRIES_MAX and stream.stream_id:  # what is in memory only can't be put back
            self._times[stream] = times
        else:
            way_out = "restart streamd" if stream.replica is None else "it is fetched anew from the leader of its group"
            stream.go_offline(
                f"stream {stream.name}: its part of a commit failed ({cause!r}); it is offline and nothing of it was deleted: "
                f"{way_out}"
            )

    def went_well(self, streams: Iterable[Stream]) -> None:
        """A commit with changes of these was made."""
        if self._times:
            for stream in streams:
                self._times.pop(stream, None)

    def run(
        self, jobs: list[Job], work: Work, spoil: Callable[[Exception, Stream | None], None]
    ) -> tuple[list[Callable[[Outcome], None]], list[Job]]:
        """Run jobs up to one that raises, of which `spoil` hears. Returns what follows from them, and those behind it."""
        after: list[Callable[[Outcome], None]] = []
        for count, job in enumerate(jobs, 1):
            try:
                follow_up = job(work)
            except Unfilled as error:
                after.append(error.lost)
                spoil(error.cause, error.stream)
                return after, jobs[count:]
            except Exception as error:
                spoil(error, None)
                return after, jobs[count:]
            if follow_up is not None:
                after.append(follow_up)
        return after, []

    def tell(self, calls: list[Callable[[Outcome], None]], outcome: Outcome) -> None:
        """What became of a work. One who hears of it and raises doesn't keep it from the others."""
        for call in calls:
            try:
                call(outcome)
            except Exception:
                self._log.critical("JetStream: what follows from a commit raised", exc_info=True)
