"""States of consumers that are to be stored.

In the walk:  a consumer whose state has changed asks the commits, which put what is due into the next work.
Guarantee:    an ack that asks for it is confirmed by the commit that holds its effect; what nobody waits for is stored soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd import limits
from streamd.store import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd._engine import AckOutcome
    from streamd.clock import Clock, Timer
    from streamd.streams.consumer import Consumer
    from streamd.streams.reader import Saved
    from streamd.streams.stream import Stream

#: They are stored at least so far apart, unless something else is committed or somebody waits.
SAVE_PAUSE_NS: Final = 5_000_000


class Saves:
    """Those of all streams of a server."""

    def __init__(self, clock: Clock, kick: Callable[[], None]) -> None:
        """`kick` asks for a commit."""
        self._clock = clock
        self._kick = kick
        self._due: dict[Saved, None] = {}
        self._confirmations: list[tuple[Consumer, AckOutcome]] = []
        self._saved_at_ns = 0
        self._timer: Timer | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._due)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for one."""
        return bool(self._confirmations)

    def add(self, consumer: Saved) -> None:
        """Its state has changed."""
        self._due[consumer] = None

    def confirm(self, consumer: Consumer, outcome: AckOutcome) -> None:
        """Its state has changed, and acks ask for an answer once that is durable."""
        self._due[consumer] = None
        self._confirmations.append((consumer, outcome))

    def plan(self) -> None:
        """Ask for a commit when it is time, unless one comes before."""
        if self._timer is None:
            delay_ns = self._saved_at_ns + SAVE_PAUSE_NS - self._clock.monotonic_ns()
            self._timer = self._clock.call_later(delay_ns, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        if self._due:
            self._kick()

    def put(self, work: Work, *, rows_wait: bool) -> tuple[list[Saved], list[tuple[Consumer, AckOutcome]]]:
        """Put states into a work: all that somebody waits for, of the others so many, the rest soon. Returns whose, and whom to
        answer. `rows_wait`: what defines consumers may have to wait for the next work, and a state without that is damage; so
        all of them wait."""
        if rows_wait:
            return [], []
        confirmations, self._confirmations = self._confirmations, []
        owed: dict[Saved, None] = {consumer: None for consumer, _ in confirmations}
        due = list(owed | self._due)[: max(len(owed), limits.COMMIT_STREAMS_MAX)]
        for consumer in due:
            self._due.pop(consumer, None)
        consumers = [consumer for consumer in due if not consumer.closed]
        for count, consumer in enumerate(consumers):
            try:
                work.of(consumer.stream.stream_id).consumer_states[consumer.consumer_id] = consumer.state.encode()
            except Exception:
                # Without this one, or none would ever be stored.
                self._due.update(dict.fromkeys([*consumers[:count], *consumers[count + 1 :]]))
                raise
        if consumers:
            self._saved_at_ns = self._clock.monotonic_ns()
        return consumers, confirmations


def last_states(streams: Iterable[Stream]) -> Work:
    """The last work of a server: every consumer's state, and a checkpoint of every index."""
    work = Work()
    for stream in streams:
        if not stream.stream_id or stream.offline is not None:
            continue
        part = stream.part(work)
        part.delta(*stream.state.delta())
        part.checkpoint = stream.state.checkpoint()
        for consumer in (*stream.consumers.values(), *stream.readers):
            number = consumer.consumer_id
            if number and not stream.group:
                part.consumer_states[number] = consumer.state.encode()
            elif number in stream.rows:
                # What the group hasn't agreed on isn't there, and what it has may not be stored yet.
                part.put_row(number, stream.rows[number][0], consumer.state.encode())
    return work
