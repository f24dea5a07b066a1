"""Channels: each is one stream of the common log, made when it is first used.

Guarantee:  what is stored of a channel is its stream; limits of the configuration are applied to what a start finds.
Source:     nats-streaming-server 0.25.6 for limits, names and the end of unused channels.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from streamd.api.stream import StreamConfig
from streamd.errors import StoreError
from streamd.limits import STORE_STREAMS_MAX
from streamd.stan import errors
from streamd.stan.names import STREAM_NAME_BYTES_MAX, readable, shown, stream_name
from streamd.state.limits import DUPLICATE_WINDOW_NS
from streamd.state.stream import stream_equal, subjects_overlap
from streamd.streams.definitions import CHANNEL_OWNER

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence

    from streamd._engine import StanPublishers
    from streamd.api.errors import ApiError
    from streamd.clock import Timer
    from streamd.config.channels import Limits
    from streamd.config.streaming import StreamingConfig
    from streamd.stan.complaints import Complaints
    from streamd.stan.group import Group
    from streamd.streams.jetstream import JetStream
    from streamd.streams.stream import Stream


class Activity(Protocol):
    """What the deletion of a channel waits for."""

    def barrier(self, call: Callable[[], None]) -> None:
        """Call once all publishes that have arrived are stored."""


class Streams(Protocol):
    """Who makes, changes and removes the streams of channels: JetStream, or a Raft group."""

    replicas: int  # of each

    def create_stream(
        self, config: StreamConfig, done: Callable[[Stream, ApiError | None], None], *, channel: str | None = None
    ) -> None:
        """Make a stream; `done` once it is durable."""

    def update_stream(self, stream: Stream, config: StreamConfig, done: Callable[[ApiError | None], None]) -> None:
        """Take on a configuration; `done` once its limits have been applied."""

    def delete_stream(self, stream: Stream, done: Callable[[ApiError | None], None]) -> None:
        """Remove a stream; `done` once that is durable."""


class Channel:
    """One channel and who subscribes to it."""

    __slots__ = (
        "complaints",
        "durables",
        "going",
        "groups",
        "limits",
        "name",
        "next_id",
        "queues",
        "stream",
        "timer",
        "used_ns",
    )

    def __init__(self, name: str, stream: Stream, limits: Limits, complaints: Complaints) -> None:
        self.name = name
        self.stream = stream
        self.limits = limits
        self.complaints = complaints
        self.groups: dict[int, Group] = {}  # by subscription id, in the order of making
        self.durables: dict[tuple[str, str], Group] = {}  # plain ones by client id and durable name
        self.queues: dict[str, Group] = {}
        self.next_id = 1
        self.going = False
        self.used_ns = stream.created_ns  # when a subscription last left
        self.timer: Timer | None = None

    @property
    def clustered(self) -> bool:
        """Whether it has replicas: its clients may lose their server, and find another one."""
        return bool(self.stream.group)

    @property
    def num_subscriptions(self) -> int:
        """Members of all groups, those that are offline too."""
        return sum(max(len(group.members), 1) for group in self.groups.values())

    @property
    def active(self) -> bool:
        """Whether somebody subscribes now."""
        return any(group.members for group in self.groups.values())


class Channels:
    """All channels of a cluster id."""

    def __init__(
        self,
        jetstream: JetStream,
        streams: Streams,
        config: StreamingConfig,
        publishers: StanPublishers,
        log: logging.Logger,
        complaints: Complaints,
        elsewhere: Callable[[], Mapping[str, Sequence[str]]],
    ) -> None:
        """`elsewhere`: the streams that the cluster has, by name, with their subjects; this server may have none of them."""
        self.by_name: dict[str, Channel] = {}
        self._jetstream = jetstream
        self._streams = streams
        self._config = config
        self._publishers = publishers
        self._log = log
        self._complaints = complaints
        self._elsewhere = elsewhere
        self._clock = jetstream.services.clock
        self._config_of = self._derived  # one for all streams
        #: By themselves: what channels with these limits share.
        self._shapes: dict[Limits, tuple[Limits, StreamConfig]] = {}
        self._spellings: dict[str, str] = {}  # by the name in lower case
        self._opening: dict[str, list[Callable[[Channel | None, str], None]]] = {}
        self._going: dict[str, list[Callable[[Channel | None, str], None]]] = {}  # what waits for the end of a deletion
        self.activity: Activity

    @property
    def memory(self) -> bool:
        """Whether channels live in memory alone."""
        return self._config.store == "memory"

    # life

    def recover(self) -> list[Channel]:
        """The channels that the store holds, with today's limits. Errors: StoreError, if one can't be native as it is to be."""
        elsewhere = self._elsewhere()
        for stream in list(self._jetstream.streams.values()):
            if stream.channel is None or stream.in_memory != self.memory:
                continue
            if other := self._holder(stream.channel, elsewhere, stream):
                raise StoreError(
                    f'channel "{shown(stream.channel)}" can\'t be native: its subject belongs to stream {other}; '
                    f"delete or change that stream, or take `native` off the channel"
                )
            channel = self._add(stream.channel, stream)
            # Nobody could use it while it wasn't served.
            channel.used_ns = self._clock.now_ns()
            wanted = self._stream_config(stream.channel)
            if stream_equal(stream.config, wanted):
                stream.configured_by(self._config_of)
            elif stream.offline is None:
                self._streams.update_stream(stream, wanted, partial(self._limited, stream.channel))
            self.watch_use(channel)
        return list(self.by_name.values())

    def _limited(self, name: str, error: ApiError | None) -> None:
        if error is not None:
            text = 'STREAM: Channel "%s" keeps the limits it had: %s'
            self._log.error(text, shown(name), error.description)

    def close(self) -> None:
        """The server stops."""
        for channel in self.by_name.values():
            if channel.timer is not None:
                channel.timer.cancel()

    def _add(self, name: str, stream: Stream) -> Channel:
        channel = Channel(name, stream, self._shape(name)[0], self._complaints)
        stream.owner = CHANNEL_OWNER.format(shown(name))
        self.by_name[name] = channel
        self._spellings[name.lower()] = name
        return channel

    # opening

    def open(self, name: str, then: Callable[[Channel | None, str], None]) -> None:
        """`then` with the channel, made if need be, or None and why not."""
        channel = self.by_name.get(name)
        if channel is not None and channel.going:
            if name in self._going:
                self._going[name].append(then)  # it will be another one
            else:
                self._going[name] = [then]
                self._delete(channel)
        elif channel is not None:
            then(channel, "")
        elif (waiting := self._opening.get(name)) is not None:
            waiting.append(then)
        elif reason := self._refusal(name):
            self._complaints.tell('STREAM: Creating channel "%s" failed: %s', name, reason)
            then(None, reason)
        else:
            self._opening[name] = [then]
            self._spellings[name.lower()] = name
            self._make(name)

    def _refusal(self, name: str) -> str:
        """Why there can't be such a channel."""
        most = self._config.max_channels
        if 0 < most <= len(self.by_name) + len(self._opening):
            return errors.CHANNELS_MAX
        if not self.memory and self._jetstream.stored_streams() >= STORE_STREAMS_MAX:
            return f"{errors.CHANNELS_MAX}: the store holds at most {STORE_STREAMS_MAX} streams"
        existing = self._spellings.get(name.lower())
        if existing is not None:
            return errors.channel_case(shown(name), shown(existing))
        stream = stream_name(name)
        if len(stream) > STREAM_NAME_BYTES_MAX:
            return f"the name of channel {name[:40]!r}... is too long: its stream would have more than 255 bytes"
        elsewhere = self._elsewhere()
        if stream in self._jetstream.streams or stream in elsewhere:
            return f"stream {stream} exists and is not the channel {name!r}: delete or rename one of them"
        if other := self._holder(name, elsewhere):
            return f"subject {self._publishers.subject(name)!r} of channel {name!r} belongs to stream {other}"
        return ""

    def _holder(self, name: str, elsewhere: Mapping[str, Sequence[str]], besides: Stream | None = None) -> str:
        """The name of another stream that has a channel's subject; "" if there is none."""
        subjects = [self._publishers.subject(name)]
        for other in self._jetstream.streams.values():
            if other is not besides and subjects_overlap(subjects, other.subjects):
                return other.name
        return next((other for other, taken in elsewhere.items() if subjects_overlap(subjects, taken)), "")

    def _make(self, name: str) -> None:
        def done(stream: Stream, error: ApiError | None) -> None:
            waiting = self._opening.pop(name)
            if error is not None:
                del self._spellings[name.lower()]
                self._complaints.tell('STREAM: Creating channel "%s" failed: %s', name, error.description)
                for then in waiting:
                    then(None, error.description)
                return
            channel = self._add(name, stream)
            stream.configured_by(self._config_of)
            self._log.info('STREAM: Channel "%s" has been created', shown(name))
            self.watch_use(channel)
            for then in waiting:
                then(channel, "")

        self._streams.create_stream(self._stream_config(name), done, channel=name)

    def _derived(self, stream: Stream) -> StreamConfig:
        assert stream.channel is not None
        return self._stream_config(stream.channel)

    def _stream_config(self, name: str) -> StreamConfig:
        """That of `_shape` with what is the channel's own: there are many, and most of it they share."""
        _, shape = self._shape(name)
        own = {
            "name": stream_name(name),
            "subjects": [self._publishers.subject(name)],
            "metadata": {"nats-streaming.cluster": self._config.cluster_id, "nats-streaming.channel": readable(name)},
        }
        return StreamConfig.model_construct(shape.model_fields_set, **{**shape.__dict__, **own})

    def _shape(self, name: str) -> tuple[Limits, StreamConfig]:
        """A channel's limits, and the configuration of all channels that have these."""
        limits = self._config.limits_for(name)
        shape = self._shapes.get(limits)
        if shape is None:
            shape = self._shapes[limits] = limits, self._new_shape(limits)
        return shape

    def _new_shape(self, limits: Limits) -> StreamConfig:
        window_ns = min(DUPLICATE_WINDOW_NS, limits.max_age_ns or DUPLICATE_WINDOW_NS)
        fields: dict[str, Any] = {
            "name": "shape",
            "subjects": [],
            "retention": "limits",
            "storage": "memory" if self.memory else "file",
            "discard": "old",
            "max_consumers": -1,
            "max_msgs": limits.max_msgs or -1,
            "max_bytes": limits.max_bytes or -1,
            "max_age": limits.max_age_ns,
            "max_msgs_per_subject": -1,
            "max_msg_size": -1,
            "duplicate_window": window_ns,
            "num_replicas": self._streams.replicas,
            "allow_direct": True,
            "metadata": {},
        }
        return StreamConfig.model_validate(fields, strict=False)

    # the end of channels that nobody uses

    def watch_use(self, channel: Channel) -> None:
        """Plan to look whether a channel is still in use, if unused ones are to go."""
        if channel.limits.max_inactivity_ns and channel.timer is None and not channel.going:
            delay_ns = self._used_ns(channel) + channel.limits.max_inactivity_ns - self._clock.now_ns()
            channel.timer = self._clock.call_later(delay_ns, lambda: self._look(channel))

    def _used_ns(self, channel: Channel) -> int:
        if channel.active:
            return self._clock.now_ns()
        return max(channel.used_ns, channel.stream.state.last_ts_ns)

    def _look(self, channel: Channel) -> None:
        channel.timer = None
        if channel.stream.offline is None and self._idle(channel):
            self.activity.barrier(lambda: self._delete_unused(channel))
        else:
            self.watch_use(channel)

    def _idle(self, channel: Channel) -> bool:
        return self._clock.now_ns() - self._used_ns(channel) >= channel.limits.max_inactivity_ns

    def _delete_unused(self, channel: Channel) -> None:
        if not self._idle(channel):
            self.watch_use(channel)
            return
        channel.going = True
        self._going[channel.name] = []
        self._delete(channel)

    def _delete(self, channel: Channel) -> None:
        self._streams.delete_stream(channel.stream, partial(self._deleted, channel))

    def _deleted(self, channel: Channel, error: ApiError | None) -> None:
        waiting = self._going.pop(channel.name)
        if error is not None:
            # It is in the store still, so there can be no other one: who wants it next makes it go.
            self._complaints.tell('STREAM: Deleting channel "%s" failed: %s', channel.name, error.description)
            for then in waiting:
                then(None, error.description)
            return
        del self.by_name[channel.name]
        del self._spellings[channel.name.lower()]
        self._log.info('STREAM: Channel "%s" has been deleted', shown(channel.name))
        for then in waiting:
            self.open(channel.name, then)
