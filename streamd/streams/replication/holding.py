"""The streams and shelves of groups, as this node has them: made, changed and removed as the groups' logs say.

A replicated stream is stored like any other; its definition names its group and its uid, and its rows stay as they are until
this node leads: only then are there consumers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd._engine import Records, StreamState, record_key
from streamd.api.stream import StreamConfig
from streamd.errors import NameTaken
from streamd.store import sequence_of
from streamd.streams.definitions import fixed_options, stream_options
from streamd.streams.dropping import RETRY_NS, drop
from streamd.streams.found import rows_of
from streamd.streams.kept_pulls import LEADERSHIP_CHANGE
from streamd.streams.replication.bringing import lay_aside
from streamd.streams.replication.ops import FIRST_OWN_UID
from streamd.streams.replication.sending import REST_NS
from streamd.streams.shelf import Shelf
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.errors import StoreError
    from streamd.store import LogWork, Outcome, Work
    from streamd.streams.jetstream import JetStream
    from streamd.streams.replication.replica import Replica

    Opened = Callable[["Stream | Shelf", StoreError | None], None]


class Holding:
    """Makes and removes replicas."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self._told: set[str] = set()  # names that two want
        self._dropping: dict[Stream | Shelf, list[Callable[..., None]]] = {}  # and who waits for that
        #: Whether a stream is still to be in a group: the meta group may have removed or moved it before that group's log was
        #: applied here.
        self.wanted: Callable[[int, str], bool] = lambda uid, group: True
        #: Whether the meta group's entries up to an index are applied here.
        self.known: Callable[[int], bool] = lambda index: True
        #: Called with a stream that has moved to another leader.
        self.laid_aside: Callable[[Stream], None] = lambda stream: None
        #: And with one that this server leads from now on, before it listens.
        self.arrived: Callable[[Stream], None] = lambda stream: None

    def open(self, uid: int, definition: dict[str, Any], done: Opened) -> None:
        """Make what a definition says; `done` once it is durable."""
        if "service" in definition:
            self._open_shelf(uid, definition, done)
            return
        jetstream = self._jetstream
        name = definition["name"]
        existing = jetstream.streams.get(name)
        if existing is not None and existing.alone:
            lay_aside(jetstream, existing, "name")
        elif existing is not None and (existing.channel is None) != (definition.get("channel") is None):
            # One is a channel's, the other is somebody's: neither came in the place of the other.
            done(existing, self.name_taken(name))  # it is tried again until one of them has gone
            return
        elif existing is not None:
            # Another one of that name was removed and is still here: its group lags behind.
            if existing.replica is not None:
                existing.replica.drop(existing, lambda _owner, _error: self.open(uid, definition, done))
            else:
                self.drop(existing, lambda _owner, _error: self.open(uid, definition, done))
            return
        stream = self.new_stream(uid, definition)
        jetstream.streams[name] = stream

        def job(work: Work) -> Callable[[Outcome], None]:
            part = stream.part(work)
            part.definition = stream.definition(stream.config)
            jetstream.services.commits.touch(stream)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None:
                jetstream.streams.pop(name, None)
            done(stream, outcome.error)

        jetstream.services.commits.at_rest(job)

    def name_taken(self, name: str) -> NameTaken:
        """What keeps a stream from being made; the log says so once."""
        error = NameTaken(name)
        if name not in self._told:
            self._told.add(name)
            self._jetstream.services.log.error("RAFT: %s", error)
        return error

    def outlived(self, uid: int, name: str) -> bool:
        """Whether this server has a later stream of that name: the one of this uid was removed."""
        held = self._jetstream.streams.get(name)
        return held is not None and held.channel is None and uid < held.uid < FIRST_OWN_UID

    def new_stream(self, uid: int, definition: dict[str, Any]) -> Stream:
        """An empty stream that is not yet stored."""
        jetstream = self._jetstream
        config = StreamConfig.model_validate(definition["config"], strict=False)
        channel = definition.get("channel")
        stream_id = jetstream.new_id()
        state = StreamState(
            config.name,
            first_seq=max(config.first_seq, 1),
            **stream_options(config, channel),
            **fixed_options(config, channel),
        )
        log = jetstream.stored_log(stream_id, channel)
        stream = Stream(jetstream.services, config, state, log, stream_id, definition["created"], channel)
        stream.uid, stream.group, stream.version = uid, definition["group"], definition.get("version", 0)
        return stream

    def new_shelf(self, uid: int, definition: dict[str, Any]) -> Shelf:
        """An empty shelf that is not yet stored."""
        services = self._jetstream.services
        about = {name: value for name, value in definition.items() if name not in ("name", "service")}
        shelf = Shelf(services.commits, services.changes, self._jetstream.new_id(), definition["service"], {}, about)
        shelf.uid, shelf.group = uid, definition["group"]
        return shelf

    def _open_shelf(self, uid: int, definition: dict[str, Any], done: Opened) -> None:
        jetstream = self._jetstream
        shelf = self.new_shelf(uid, definition)

        def job(work: Work) -> Callable[[Outcome], None]:
            shelf.part(work).definition = shelf.definition()
            return lambda outcome: done(shelf, outcome.error)

        jetstream.services.commits.at_rest(job)

    def configure(self, stream: Stream, definition: dict[str, Any], now_ns: int, done: Callable[..., None]) -> None:
        """Take on a configuration, and apply its limits as of a time."""
        config = StreamConfig.model_validate(definition["config"], strict=False)
        stream.version = definition.get("version", 0)
        self._jetstream.apply_config(stream, config, lambda error: done(stream, error), now_ns=now_ns)

    # moves

    def copy_of(self, uid: int) -> Stream | None:
        """This server's copy of a stream that has moved."""
        return next((stream for stream in self._jetstream.streams.values() if stream.uid == uid), None)

    def freeze(self, stream: Stream, move: int, done: Callable[..., None]) -> None:
        """Let a stream stand still; `done` once that is durable, and at once if it is no more."""
        jetstream = self._jetstream
        unnumbered: list[str] = []

        def job(work: Work) -> Callable[[Outcome], None] | None:
            if stream.closed:
                done(stream, None)
                return None
            if stream.retention.under_way and not stream.group:
                # A purge of many commits ends before, or each copy would have another part of it.
                jetstream.services.clock.call_later(REST_NS, lambda: self.freeze(stream, move, done))
                return None
            if not stream.group:
                unnumbered.extend(name for name, consumer in stream.consumers.items() if not consumer.consumer_id)
                stream.rows = rows_of(stream)
                if stream.stream_id:
                    self._store_rows(stream.part(work), stream)
            if stream.leads:
                stream.pulls.open()
            stream.frozen, stream.move = True, move
            stream.lay_down(LEADERSHIP_CHANGE)
            if stream.stream_id:
                stream.part(work).definition = stream.definition(stream.config)
            return after

        def after(outcome: Outcome) -> None:
            failed = outcome.error is not None and stream.stream_id
            if failed:
                stream.frozen = False
                if not stream.group:
                    stream.take_up()
                    stream.rows = {}
                    for name in unnumbered:
                        stream.consumers[name].consumer_id = 0  # they are in memory only, as before
            done(stream, outcome.error if failed else None)

        jetstream.services.commits.at_rest(job)

    def adopt(self, stream: Stream, replica: Replica, done: Callable[..., None]) -> None:
        """A frozen copy belongs to a group from now on."""
        jetstream = self._jetstream
        before, memory = stream.replica, stream.log

        def job(work: Work) -> Callable[[Outcome], None]:
            stream.group, stream.frozen = replica.name, False
            if not stream.stream_id:
                self._store(work, stream)
            stream.part(work).definition = stream.definition(stream.config)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is None:
                if before is not None and before is not replica:
                    before.lead.gone(stream)
                    before.owners.pop(stream.uid, None)
                replica.adopt(stream)
            else:
                stream.frozen, stream.log, stream.stream_id = True, memory, memory.stream
            done(stream, outcome.error)

        jetstream.services.commits.at_rest(job)

    def _store(self, work: Work, stream: Stream) -> None:
        """What was in this server's memory is stored, as all is that is replicated."""
        values = stream.log.read(1, 1 << 62, 1 << 62)
        stream.stream_id = self._jetstream.new_id()
        stream.log = self._jetstream.stored_log(stream.stream_id, stream.channel)
        stream.log.append(work, Records([(record_key(sequence_of(value)), value) for value in values]))
        part = stream.part(work)
        part.totals, _removals = stream.state.delta()
        part.checkpoint = stream.state.checkpoint()
        if ids := stream.state.ids():
            stream.remember_ids(work, ids, stream.state.last_ts_ns)
        self._store_rows(part, stream)

    def _store_rows(self, part: LogWork, stream: Stream) -> None:
        for number, (definition, state) in stream.rows.items():
            part.consumers[number] = definition
            if state is not None:
                part.consumer_states[number] = state

    def settle(self, stream: Stream, done: Callable[[], None]) -> None:
        """A frozen copy is this server's alone from now on."""
        jetstream = self._jetstream
        before, group = stream.replica, stream.group

        def job(work: Work) -> Callable[[Outcome], None] | None:
            if stream.closed:  # it was deleted meanwhile
                done()
                return None
            if stream.stream_id:
                stream.group, stream.frozen = "", False
                stream.part(work).definition = stream.definition(stream.config)
                stream.group, stream.frozen = group, True  # until that is stored
            return after

        def after(outcome: Outcome) -> None:
            if stream.closed:
                done()
                return
            if outcome.error is not None and stream.stream_id:
                jetstream.services.clock.call_later(RETRY_NS, lambda: self.settle(stream, done))
                return
            if before is not None:
                before.lead.gone(stream)
                before.owners.pop(stream.uid, None)
            stream.group, stream.frozen, stream.replica = "", False, None
            stream.changes = jetstream.services.changes
            self.arrived(stream)
            stream.take_up()
            stream.rows = {}
            done()

        jetstream.services.commits.at_rest(job)

    def drop(self, owner: Stream | Shelf, done: Callable[..., None]) -> None:
        """Remove a stream or shelf from this node's store; `done` once that is durable."""
        jetstream = self._jetstream
        if isinstance(owner, Stream):
            if jetstream.streams.get(owner.name) is owner:
                del jetstream.streams[owner.name]
            owner.close("409 Consumer Deleted")
        else:
            owner.closed = True

        waiting = self._dropping.setdefault(owner, [])
        waiting.append(done)
        if len(waiting) == 1:
            drop(jetstream.services, owner, lambda: self._dropped(owner))

    def _dropped(self, owner: Stream | Shelf) -> None:
        for done in self._dropping.pop(owner):
            done(owner, None)
