"""Publishes: from the one subject that all clients publish to into the streams of their channels.

Place in the walk: the tap fills while a commit is under way; the next one asks `take`, which has the batch decoded, checked
and taken apart by channel natively. From there on a publish is a stream's like any other, but for the form of its ack.
Guarantee:  publishes of one channel keep their order, also while their channel is being made.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from streamd import limits
from streamd._engine import StanSorted, refuse_batch
from streamd.stan.names import shown
from streamd.stan.schema_pb2 import PubMsg

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Batch, StanPublishers
    from streamd.core.bus import Bus
    from streamd.errors import StoreError
    from streamd.stan.channels import Channel, Channels
    from streamd.stan.complaints import Complaints
    from streamd.streams.changes import After, Changes, Rows
    from streamd.streams.commits import Commits
    from streamd.streams.stream import Stream

#: Taken apart ahead of a commit at most; the rest stays in the tap, which holds producers back when it is full.
SORTED_BYTES_MAX: Final = 8 << 20
#: More than this is worth to be stored in the channels' streams ahead as well.
FILLING_BYTES: Final = 128 << 10

#: Subject, reply subject and payload of a publish, as a client sent it.
Publish = tuple[str, str, bytes]


def publishes(batch: Batch | None, channel: str | None = None) -> list[Publish]:
    """What a batch holds; or of it, what is for one channel."""
    messages = () if batch is None else (batch[index] for index in range(len(batch)))
    return [
        (message.subject, message.reply, message.payload)
        for message in messages
        if channel is None or _is_for(channel, message.payload)
    ]


def _is_for(channel: str, payload: bytes) -> bool:
    try:
        return PubMsg.FromString(payload).subject == channel
    except DecodeError:
        return False  # the engine reads names that are no UTF-8, and this doesn't


class Publishes:
    """A source of the commits."""

    def __init__(
        self,
        bus: Bus,
        commits: Commits,
        changes: Changes,
        channels: Channels,
        publishers: StanPublishers,
        complaints: Complaints,
        *,
        ahead: bool,
    ) -> None:
        """`ahead`: what has arrived is taken apart while a commit is under way, and can't be left to another server then."""
        self.messages = 0  # that could be read, refused ones too
        self.bytes = 0
        self._bus = bus
        self._commits = commits
        self._changes = changes
        self._channels = channels
        self._publishers = publishers
        self._complaints = complaints
        self._number = 0  # of the last batch that was taken apart
        self._staged: deque[tuple[int, Channel, Batch]] = deque()
        self._parked: dict[str, list[tuple[int, Batch]]] = {}  # by channel, until that is made
        #: By number: what was filed as it came, for the next leader. Not with `ahead`.
        self._raw: dict[int, tuple[str, Batch]] = {}
        self._listed = False  # the commits will ask
        self._sorted = StanSorted()
        self._ahead = ahead
        self._closed = False
        self._binding = bus.collect([], self._arrived)

    def start(self, subject: str) -> None:
        """Take publishes."""
        self._binding.set_subjects([subject])

    def lay_down(self) -> list[Publish]:
        """Take no more, as another server does. Returns what wasn't handed over: of channels that are still being made, and
        what nobody has looked at."""
        self._closed = True
        left = [publish for _, (name, batch) in sorted(self._raw.items()) for publish in publishes(batch, name)]
        left += publishes(self._binding.take())
        for held in (self._staged, self._parked, self._raw):
            held.clear()
        self._sorted = StanSorted()
        self._binding.close()
        return left

    def _arrived(self) -> None:
        room = SORTED_BYTES_MAX - self._sorted.size()
        if self._ahead and self._commits.in_flight and room > 0:
            # While the disk works: the next commit finds that done.
            self._sort(room)
        self._announce()
        if self._sorted.size() > FILLING_BYTES:
            self._changes.filling(self)

    def _announce(self) -> None:
        if not self._listed:
            self._listed = True
            self._changes.ready(self)

    def take(self, limit_bytes: int) -> list[tuple[Stream, Batch]]:
        """What waits, at most one batch a stream and for no more streams than a commit may have."""
        if self._closed:
            return []
        self._listed = False
        self._pull(limit_bytes)
        taken: dict[str, tuple[Stream, Batch]] = {}
        left: deque[tuple[int, Channel, Batch]] = deque()
        staged, self._staged = self._staged, deque()
        for number, channel, batch in staged:
            if channel.going:
                self._file(number, channel.name, batch)  # for the one that comes after it, or is there already
            elif channel.name in taken or len(taken) >= limits.COMMIT_STREAMS_MAX:
                left.append((number, channel, batch))
            else:
                taken[channel.name] = (channel.stream, batch)
                self._raw.pop(number, None)
        self._staged.extendleft(reversed(left))
        if self._staged:
            self._announce()
        return list(taken.values())

    def _pull(self, limit_bytes: int) -> None:
        """Stage what has arrived."""
        came = self._sort(limit_bytes)
        found, self._sorted = self._sorted, StanSorted()
        self.messages += found.messages
        self.bytes += found.bytes
        for reason, client_id, name in found.refused:
            text = 'STREAM: [Client:%s] Received invalid client publish message for channel "%s": %s'
            self._complaints.tell(text, client_id, name, reason)
        self._complaints.count(found.refusals - len(found.refused))
        for name, messages in found.take():
            self._number += 1
            if came is not None and not self._ahead:
                self._raw[self._number] = (name, came)
            self._file(self._number, name, messages)

    def _sort(self, limit_bytes: int) -> Batch | None:
        """Take what has arrived apart; those that are no good are answered. Returns it as it came."""
        batch = None if self._closed else self._binding.take(limit_bytes)
        if batch is not None:
            self._publishers.sort(batch, self._sorted, self._bus.engine, self._binding.account)
            if self._sorted.refusals:
                self._bus.flush_soon()
        return batch

    def _file(self, number: int, name: str, batch: Batch) -> None:
        """Stage a batch if its channel is there; make that if it isn't."""
        channel = self._channels.by_name.get(name)
        if channel is not None and not channel.going and name not in self._parked:
            self._staged.append((number, channel, batch))
        elif name in self._parked:
            self._parked[name].append((number, batch))
        else:
            self._parked[name] = [(number, batch)]
            self._channels.open(name, lambda channel, reason: self._opened(name, channel, reason))

    def _opened(self, name: str, channel: Channel | None, reason: str) -> None:
        for number, batch in self._parked.pop(name, ()):
            if channel is None:
                self._raw.pop(number, None)
                account = self._binding.account
                refuse_batch(batch, self._bus.engine, shown(name), 503, 10077, reason, account=account)
                text = 'STREAM: Error processing %d messages for channel "%s": %s'
                self._complaints.tell(text, len(batch), name, reason)
                self._bus.flush_soon()
            else:
                self._staged.append((number, channel, batch))
        if self._staged:
            self._announce()

    def barrier(self, call: Callable[[], None]) -> None:
        """Call once everything that has arrived up to now is stored."""
        self._pull(0)
        number = self._number
        if self._staged:
            self._announce()

        def look(rows: Rows) -> After:
            return after

        def after(error: StoreError | None) -> None:
            # What was handed over may still be held for the next commit; so one more goes by.
            self._changes.rows(look if self._outstanding() <= number else last)

        def last(rows: Rows) -> After:
            return lambda error: call()

        self._changes.rows(look)

    def _outstanding(self) -> int:
        """The lowest number that has not been handed over."""
        parked = [number for batches in self._parked.values() for number, _ in batches]
        staged = [number for number, _, _ in self._staged]
        return min([*parked, *staged], default=self._number + 1)
