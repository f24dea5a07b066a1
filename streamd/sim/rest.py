"""The queue towards the store of a node that has nothing but groups.

Guarantee:  that of `streams.commits.Commits.at_rest`: one commit under way; a job runs when there is none, and what it
            returned hears the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streamd.store import Outcome, Work

if TYPE_CHECKING:
    from streamd.clock import Clock
    from streamd.store import Writer

Job = Callable[[Work], Callable[[Outcome], None] | None]


class Rest:
    """Jobs that wait for a commit."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._jobs: list[Job] = []
        self._planned = False
        self._in_flight = False

    def at_rest(self, job: Job) -> None:
        """Run a job when no commit is under way; what it adds is committed with that of others."""
        self._jobs.append(job)
        if not self._planned and not self._in_flight:
            self._planned = True
            self._clock.call_soon(self._run)

    def _run(self) -> None:
        self._planned = False
        work = Work()
        after: list[Callable[[Outcome], None]] = []
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            follow_up = job(work)
            if follow_up is not None:
                after.append(follow_up)

        def done(outcome: Outcome) -> None:
            self._in_flight = False
            for call in after:
                call(outcome)
            if self._jobs and not self._planned:
                self._planned = True
                self._clock.call_soon(self._run)

        if not work.logs:
            done(Outcome(work))
            return
        self._in_flight = True
        self._writer.submit(work, done)
