"""What a cluster has removed leaves the store, however often that has to be tried.

Why:  nobody asks for it again. What stayed would be there at the next start, beside a later one of its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.store import Outcome, Work
    from streamd.streams.services import Services
    from streamd.streams.shelf import Shelf

#: Pause before a commit that failed is made again.
RETRY_NS: Final = 100_000_000


def put_drop(work: Work, owner: Stream | Shelf) -> None:
    """Have a commit take a stream or shelf out of the store, with what it was to take the place of."""
    if owner.stream_id:
        owner.part(work).drop = True
    for number in owner.replaces if isinstance(owner, Stream) else ():
        work.of(number).drop = True


def drop(services: Services, owner: Stream | Shelf, done: Callable[[], None]) -> None:
    """Remove a stream or shelf that nobody has any more from the store; `done` once that is durable, or at rest if nothing of
    it is stored."""

    def job(work: Work) -> Callable[[Outcome], None]:
        put_drop(work, owner)
        return after

    def after(outcome: Outcome) -> None:
        if outcome.error is None or not owner.stream_id:
            done()
        else:
            services.clock.call_later(RETRY_NS, again)

    def again() -> None:
        if not services.commits.closed:
            services.commits.at_rest(job)

    services.commits.at_rest(job)


def is_later(stream: Stream, other: Stream) -> bool:
    """Whether a stream took the place of another one of its name, which the cluster had removed: uids are given in the order
    of the meta group's log, but for channels, whose group decides. A server alone gives none."""
    both = (stream, other)
    return all(each.uid and each.channel is None for each in both) and stream.uid > other.uid
