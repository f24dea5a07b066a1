"""JetStream of one server: its streams, recovered at start, and the requests that arrive on $JS.API.

Place in the walk: the API's tap → a row of the table → a handler in this room → the answer, after the commit if one is
needed.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from streamd._engine import StreamState
from streamd.api.errors import STREAM_NOT_FOUND
from streamd.api.stream import StreamConfig
from streamd.errors import StoreError
from streamd.store import (
    Environment,
    MemoryLog,
    StoredStream,
    StreamLog,
    Sync,
    TailCache,
    Writer,
)
from streamd.store import recover as recover_store
from streamd.streams.advisories import Advisories
from streamd.streams.api import Api
from streamd.streams.changes import Local
from streamd.streams.commits import Commits
from streamd.streams.counting import Counting
from streamd.streams.definitions import (
    fixed_options,
    stream_options,
)
from streamd.streams.dropping import drop, is_later
from streamd.streams.encryption import Encryption, closed_text
from streamd.streams.failures import storage_error
from streamd.streams.found import consumers_of, rows_of, stream_of, take_up
from streamd.streams.journals import META, check_journals, take_journals
from streamd.streams.mishaps import answered
from streamd.streams.reading_back import read_back
from streamd.streams.refusals import Refusals
from streamd.streams.removing import Removing, remove_consumer
from streamd.streams.room import Room
from streamd.streams.services import Services
from streamd.streams.shelf import Shelf, take_shelves
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from streamd.api.errors import ApiError
    from streamd.clock import Clock
    from streamd.core.bus import Bus
    from streamd.state.limits import Limits
    from streamd.store import Outcome, Work
    from streamd.streams.replication.reads import Reads
    from streamd.streams.replication.view import View


class JetStream:
    """All streams of a server and the services over them."""

    def __init__(
        self,
        directory: Path,
        bus: Bus,
        clock: Clock,
        log: logging.Logger,
        *,
        server_name: str,
        sync: Sync,
        strict: bool,
        limits: Limits,
        max_memory_bytes: int,
        max_storage_bytes: int,
        notify: Callable[[Callable[[], None]], object] | None,
        encryption: Encryption | None = None,
        store: tuple[Environment, Writer] | None = None,
    ) -> None:
        """Opens the store, unless it is given, and recovers what it holds. Errors: StoreError; StoreEncrypted before anything
        is read that needs another key than `encryption` has."""
        self.server_name = server_name
        self.strict = strict
        self.limits = limits
        self.max_memory_bytes = max_memory_bytes
        self.max_storage_bytes = max_storage_bytes
        self.environment = Environment.open(directory, sync=sync) if store is None else store[0]
        self.streams: dict[str, Stream] = {}
        #: By name: from before this server joined a cluster that has others of these names or with these subjects. Not served.
        self.aside: dict[str, Stream] = {}
        #: Found beside later ones of their names, which took their places: the cluster has no use for them.
        self._removed: list[Stream] = []
        self.encryption = encryption or Encryption()
        self._shelves: dict[
            str, tuple[StoredStream, dict[str, Any]]
        ] = {}  # by service, with what they say of themselves
        bounds = {True: max_memory_bytes, False: max_storage_bytes}
        #: By whether streams are in memory.
        self.rooms = {memory: Room(most, partial(self._of_kind, memory)) for memory, most in bounds.items()}
        self._cache, self._uncached = TailCache(), TailCache(0)
        try:
            found = recover_store(self.environment)
            self.journals, found = take_journals(found, directory, clustered=limits.clustered)
            check_journals(self.journals, lambda number: self.stored_log(number, None), directory)
            definitions = take_shelves(found, self._shelves)
            closed = self.encryption.closes(directory, [about for _, about in self._shelves.values()])
            self.writer = Writer(self.environment, notify=notify) if store is None else store[1]
            commits = Commits(self.writer, bus, clock, log, Refusals(bus, clock, log, self.rooms))
            self.services = Services(
                bus=bus,
                clock=clock,
                commits=commits,
                counting=Counting(clock),
                changes=Local(commits),
                advisories=Advisories(bus, clock),
                log=log,
                store_dir=directory,
                restore_state=partial(read_back, self.environment, self.writer),
                take_up=take_up,
                remove_consumer=remove_consumer,
                reads=lambda: self.reads,
            )
            self._removing = Removing(self.services, self.streams)
            numbers = [stored.stream for stored in (*found, *self.journals.values())]
            self._next_id = max(numbers, default=0) + 1
            for stored, definition in definitions:
                self._recover(stored, definition, closed=closed)
        except BaseException:
            self.environment.close()
            raise
        #: Stores of this server that were set aside as damaged: it only joins a cluster, and doesn't found one.
        self.must_join = self._meta_says("joins")
        self.former_name = ""  # that the server had with the one that was set aside now
        self.api = Api(self)
        self.replicas = 1  # that a channel has without a cluster
        #: What is shown of the cluster that this server is part of.
        self.view: View | None = None
        self.reads: Reads | None = None

    def start(self) -> None:
        """Serve."""
        for stream in self.streams.values():
            if stream.group or stream.frozen:
                stream.stand_by()
                continue
            stream.start()
            for consumer in list(stream.consumers.values()):
                consumer.start()
        for stream in self._removed:
            self.services.log.info("stream %s: an earlier one, whose place it took, is dropped", stream.name)
            stream.close("409 Consumer Deleted")
            drop(self.services, stream, lambda: None)
        self._removed.clear()
        self.api.bind()

    def lay_aside(self, stream: Stream) -> None:
        """Serve a stream of this server alone no more; what is stored stays."""
        self.aside[stream.name] = stream
        stream.rows = rows_of(stream)
        stream.lay_down("409 Consumer Deleted")
        stream.unlisten()
        stream.direct.close()

    def shut_down(self) -> None:
        """End all consumers' requests: the server stops."""
        for stream in self.streams.values():
            stream.shut_down()

    def close(self) -> None:
        """The same, commit what waits, and leave the mark of a clean stop."""
        self.shut_down()
        self.services.commits.close(self.streams.values())
        self.writer.close()
        self.environment.close()

    # recovery

    def _recover(self, stored: StoredStream, definition: dict[str, Any], *, closed: bool) -> None:
        channel = definition.get("channel")
        log = self.stored_log(stored.stream, channel)
        offline = closed_text(stored.name) if closed and channel is not None else None
        stream = stream_of(self.services, self.environment, stored, definition, log, offline)
        twin = self.streams.get(stream.name)
        if twin is not None and twin.uid == stream.uid and definition.get("fetching"):
            # The server ended while it fetched a damaged stream anew.
            stream.replaces += [*twin.replaces, twin.stream_id]
        self._file(stream)
        if definition.get("fetching") and stream.offline is None:
            stream.await_state()
        if "group" in definition or stream.frozen:
            stream.rows = {number: (row.definition, row.state) for number, row in stored.consumers.items()}
        else:
            consumers_of(stream, stored)

    def _file(self, stream: Stream) -> None:
        """A cluster says whether it takes a stream of this server alone; without a cluster that is the one to serve."""
        held = self.streams.get(stream.name)
        # Of two copies of one stream the later was whole when it was stored, and the other one wasn't of use any more.
        same = held is not None and bool(stream.uid) and held.uid == stream.uid
        if stream.alone and self.limits.clustered and self.identity:
            self.aside[stream.name] = stream
        elif held is not None and (is_later(held, stream) or (same and stream.partial)):
            self._removed.append(stream)
        elif held is None or stream.alone or same or is_later(stream, held):
            if held is not None and (same or is_later(stream, held)) and held.stream_id not in stream.replaces:
                self._removed.append(held)
            self.streams[stream.name] = stream

    def new_id(self) -> int:
        """A number for the store that no stream has had."""
        number, self._next_id = self._next_id, self._next_id + 1
        return number

    def stored_log(self, stream_id: int, channel: str | None, *, cached: bool = True) -> StreamLog:
        """A log in the store. Journals of groups aren't cached: they remember what they need by themselves."""
        cipher = None if channel is None else self.encryption.cipher
        return StreamLog(self.environment, self._cache if cached else self._uncached, stream_id, cipher)

    @property
    def identity(self) -> str:
        """The Raft id that this store was given, "" if it has none: it goes with the store."""
        return self._meta_says("node")

    @property
    def founded(self) -> tuple[str, ...]:
        """The nodes with which this one founded a cluster."""
        return tuple(self._meta_says("founded").split())

    def _meta_says(self, what: str) -> str:
        """From the definition of the meta group's journal, "" without it."""
        stored = self.journals.get(META)
        return "" if stored is None else str(json.loads(stored.definition).get(what, ""))

    def group_of(self, service: str) -> str | None:
        """The Raft group that has a service's shelf, "" if it isn't replicated; None if there is no shelf."""
        found = self._shelves.get(service)
        return None if found is None else str(found[1].get("group", ""))

    def replicated_shelves(self, group: str) -> list[Shelf]:
        """The shelves of a Raft group that the store holds."""
        shelves = []
        for service, (stored, about) in self._shelves.items():
            if about.get("group") == group:
                shelf = Shelf(self.services.commits, self.services.changes, stored.stream, service, {}, about)
                shelf.uid, shelf.group = about["uid"], group
                shelf.rows = {number: (row.definition, row.state) for number, row in stored.consumers.items()}
                shelves.append(shelf)
        return shelves

    @staticmethod
    def config_of(fields: dict[str, Any]) -> StreamConfig:
        """A configuration as stored."""
        return StreamConfig.model_validate(fields, strict=False)

    # making and removing streams

    def shelf(self, service: str, about: dict[str, Any], *, stored: bool) -> Shelf:
        """What a service has stored. Made now, with `about`, if it isn't there: for the start. Errors: StoreError."""
        commits = self.services.commits
        if stored and service in self._shelves:
            found, said = self._shelves[service]
            entries = {number: json.loads(entry.definition) for number, entry in found.consumers.items()}
            return Shelf(commits, self.services.changes, found.stream, service, entries, said)
        shelf = Shelf(commits, self.services.changes, self.new_id() if stored else 0, service, {}, {})
        shelf.describe(about)
        return shelf

    def create_stream(
        self,
        config: StreamConfig,
        done: Callable[[Stream, ApiError | None], None],
        *,
        channel: str | None = None,
        created_ns: int = 0,
        uid: int = 0,
        version: int = 0,
    ) -> None:
        """Make a stream; `done` once it is durable. `channel`: that of NATS Streaming which it is to be. A cluster gives the
        rest."""
        created_ns = created_ns or self.services.clock.now_ns()
        memory = config.storage == "memory"
        stream_id = 0 if memory else self.new_id()
        log = MemoryLog(0) if memory else self.stored_log(stream_id, channel)
        state = StreamState(
            config.name,
            first_seq=max(config.first_seq, 1),
            **stream_options(config, channel),
            **fixed_options(config, channel),
        )
        stream = Stream(self.services, config, state, log, stream_id, created_ns, channel)
        stream.uid, stream.version = uid, version
        self.streams[config.name] = stream

        def job(work: Work) -> Callable[[Outcome], None]:
            self._removing.replace(config.name, work)
            if stream_id:
                part = stream.part(work)
                part.definition = stream.definition(config)
                self.services.commits.touch(stream)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None and stream_id:
                if self.streams.get(config.name) is stream:
                    del self.streams[config.name]
                stream.close("409 Server Shutdown")
                self._removing.replaced(stream, made=False)
                done(stream, storage_error(outcome.error))
                return
            self._removing.replaced(stream, made=outcome.error is None)
            if not stream.closed:  # deleted meanwhile
                stream.start()
            self.services.advisories.stream_action(stream.name, "create")
            done(stream, None)

        self.services.commits.at_rest(answered(stream, job, after))

    def update_stream(self, stream: Stream, config: StreamConfig, done: Callable[[ApiError | None], None]) -> None:
        """Take on a checked configuration; `done` once it is durable and its limits have been applied."""

        def applied(error: StoreError | None) -> None:
            if error is not None:
                done(storage_error(error))
            else:
                done(STREAM_NOT_FOUND() if stream.closed else None)

        self.apply_config(stream, config, applied)

    def apply_config(
        self, stream: Stream, config: StreamConfig, done: Callable[[StoreError | None], None], *, now_ns: int = 0
    ) -> None:
        """Store a configuration, take it on, and apply its limits as of a time (0: that of the commit); `done` behind that."""
        done = stream.retention.begun(done)

        def job(work: Work) -> Callable[[Outcome], None]:
            if stream.stream_id and not stream.closed:
                stream.part(work).definition = stream.definition(config)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None and stream.stream_id:
                done(outcome.error)
                return
            at_rest(answered(stream, apply, lambda outcome: done(outcome.error)))

        def apply(work: Work) -> Callable[[Outcome], None] | None:
            if stream.closed:
                done(None)
                return None
            stream.reconfigure(config, stream_options(config, stream.channel))
            if stream.leads:
                self.services.advisories.stream_action(stream.name, "modify")
            return retention.trim_job(0, trimmed, now_ns=now_ns)(work)

        def trimmed(_removed: int, error: Exception | None) -> None:
            if isinstance(error, StoreError):
                done(error)
            else:
                at_rest(retention.excess_job(lambda error: done(error if isinstance(error, StoreError) else None)))

        at_rest, retention = self.services.commits.at_rest, stream.retention
        at_rest(answered(stream, job, after))

    def delete_stream(self, stream: Stream, done: Callable[[ApiError | None], None], *, keep: bool = False) -> None:
        """Remove a stream with all its consumers; `done` once that is durable. `keep`: if that fails it is served as before;
        else who asks sees to it."""
        self._removing.remove(stream, done, keep=keep)

    def _of_kind(self, memory: bool) -> list[Stream]:
        return [stream for stream in self.streams.values() if stream.in_memory == memory]

    def stored_streams(self) -> int:
        """How many streams are on disk."""
        return len(self._of_kind(False))

    def usage(self) -> tuple[int, int, int]:
        """(bytes in memory streams, bytes in stored streams, consumers)."""
        memory = sum(stream.state.bytes for stream in self._of_kind(True))
        stored = sum(stream.state.bytes for stream in self._of_kind(False))
        return memory, stored, sum(len(stream.consumers) for stream in self.streams.values())
