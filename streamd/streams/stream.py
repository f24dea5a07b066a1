"""One stream: its configuration, its machine, its log and its consumers, and reads that can't serve damage.

Guarantee:  what `read` and `get` return was checked: checksum, sequence, and that nothing live is missing between.
Not here:   when batches are admitted and committed (commits), what clients ask for (the API handlers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamd._engine import Admission, CorruptRecord, StreamState
from streamd.errors import StoreError
from streamd.store import StreamLog, checkpoint_due
from streamd.streams.definitions import is_service, stream_definition
from streamd.streams.direct import DirectGets
from streamd.streams.kept_pulls import LEADERSHIP_CHANGE, KeptPulls
from streamd.streams.readable import Readable
from streamd.streams.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamd._engine import Batch
    from streamd.api.stream import StreamConfig
    from streamd.core.bus import Binding
    from streamd.store import Log, LogWork, Work
    from streamd.streams.changes import Changes
    from streamd.streams.consumer import Consumer
    from streamd.streams.reader import Reader
    from streamd.streams.replication.replica import Replica
    from streamd.streams.services import Services

#: More changes than any stream has: a checkpoint is due whatever came before.
CHECKPOINT_AT_ONCE: Final = 1 << 62
#: Of the subjects under which channels of NATS Streaming are stored that only its clients publish to.
CHANNELS_PREFIX: Final = "$STAN."


class Stream(Readable):
    """A log that clients publish into and consumers read from."""

    __slots__ = (
        "_changes",
        "_config",
        "_id_segments",
        "_started",
        "account",
        "binding",
        "changes",
        "channel",
        "closed",
        "committed_seq",
        "consumers",
        "created_ns",
        "direct",
        "expecting",
        "fetching",
        "frozen",
        "going",
        "group",
        "in_memory",
        "kept",
        "log",
        "max_age_ns",
        "max_msgs",
        "move",
        "name",
        "offline",
        "owner",
        "partial",
        "pulls",
        "readers",
        "replaces",
        "replica",
        "retention",
        "rows",
        "sealed",
        "services",
        "state",
        "stream_id",
        "subjects",
        "uid",
        "version",
    )

    def __init__(
        self,
        services: Services,
        config: StreamConfig,
        state: StreamState,
        log: Log,
        stream_id: int,
        created_ns: int,
        channel: str | None = None,
    ) -> None:
        """`channel`: the one of NATS Streaming that this stream is."""
        self.services = services
        self.changes: Changes = services.changes
        self.account = "$G"
        self.name = config.name
        self.config = config
        self.state = state
        self.log = log
        self.stream_id = stream_id  # the store's number; 0: a memory stream
        self.created_ns = created_ns
        self.channel = channel
        #: Who decides on its configuration and its end instead of JetStream's clients, in words.
        self.owner: str | None = None
        self.consumers: dict[str, Consumer] = {}
        #: By name, those whose deletion isn't durable yet.
        self.going: dict[str, Consumer] = {}
        self.readers: dict[Reader, None] = {}
        #: What services of other rooms have stored here and not taken up: (definition, state) by the store's number.
        self.kept: dict[int, tuple[dict[str, Any], bytes | None]] = {}
        self.binding: Binding | None = None
        self.offline: str | None = None  # why it is not served
        self.closed = False
        #: The cluster's number of it, 0 without a cluster; its Raft group, "" if it isn't replicated.
        self.uid = 0
        self.group = ""
        self.version = 0  # of its configuration, as the cluster counts
        self.move = 0  # which move it was last frozen for
        self.frozen = False  # it is about to move, or a copy that has not been adopted
        self.partial = False  # a copy that isn't whole
        self.expecting = False  # it has moved here, and what was published meanwhile has yet to come
        #: Its state is being fetched from the leader of its group: what is here is a part of that, and offline.
        self.fetching = False
        self.replaces: list[int] = []  # the store's numbers of damaged copies that go once this one is whole
        self.replica: Replica | None = None
        #: Definitions and states of consumers and subscriptions, by the store's number: what a replica has of them.
        self.rows: dict[int, tuple[bytes, bytes | None]] = {}
        self._started = False
        #: Readers see nothing beyond: what is admitted but not yet durable.
        self.committed_seq = state.last_seq
        self.retention = Retention(self)
        self.direct = DirectGets(self)
        self.pulls = KeptPulls(self)
        self._changes = 0  # records and removals since the last checkpoint
        self._id_segments: list[int] = []  # when each stored segment of message ids was written (ns)

    @property
    def config(self) -> StreamConfig:
        """Its configuration."""
        config = self._config
        return config(self) if callable(config) else config

    @config.setter
    def config(self, config: StreamConfig) -> None:
        self._config: StreamConfig | Callable[[Stream], StreamConfig] = config
        # What every publish asks for, or a request of all streams at once.
        self.sealed = config.sealed
        self.max_msgs = config.max_msgs
        self.max_age_ns = config.max_age
        self.subjects = config.subjects
        self.in_memory = config.storage == "memory"  # as clients have it, also of one that is replicated in the store

    def configured_by(self, derived: Callable[[Stream], StreamConfig]) -> None:
        """What `derived` gives is the configuration it has, until it gets another: for the many streams that differ in little
        more than their names."""
        self._config = derived

    @property
    def alone(self) -> bool:
        """Whether no cluster knows of it."""
        return not self.uid and not self.group and self.channel is None

    @property
    def num_consumers(self) -> int:
        """Consumers, also where they are only rows."""
        if self.leads:
            return len(self.consumers)
        return sum(not is_service(definition) for definition, _ in self.rows.values())

    @property
    def followed(self) -> bool:
        """Whether anybody waits for what is stored here."""
        return bool(self.consumers or self.readers)

    # life

    def start(self) -> None:
        """Take publishes on its subjects and start its consumers."""
        self._started = True
        self.listen()
        self.retention.arm()
        self.direct.reconfigure()

    @property
    def leads(self) -> bool:
        """Whether this server decides what happens to the stream."""
        # One of a group that is still being stored has no replica yet, and nobody to lead it.
        return not self.frozen and (not self.group if self.replica is None else self.replica.leading)

    @property
    def serves(self) -> bool:
        """Whether requests about it are answered here: it is led from here, and its consumers are there."""
        return self.leads and self._started

    def definition(self, config: StreamConfig) -> bytes:
        """What is stored of it beside messages and rows."""
        cluster: dict[str, Any] = {"uid": self.uid, "version": self.version} if self.uid else {}
        for name in ("group", "move", "frozen", "partial", "fetching"):
            if value := getattr(self, name):
                cluster[name] = value
        return stream_definition(config, self.created_ns, self.channel, cluster)

    def stand_by(self) -> None:
        """Serve what a replica may: direct gets."""
        self.pulls.end(LEADERSHIP_CHANGE)
        self.direct.reconfigure()

    def take_up(self) -> None:
        """This server leads a replicated stream now: there are consumers from here on, but of one that is to move."""
        if self.closed:
            return
        if self.frozen:
            self.park()
            return
        self.services.take_up(self)
        self.start()
        for consumer in list(self.consumers.values()):
            consumer.start()
        self.pulls.serve()

    def lay_down(self, status: str) -> None:
        """Another server leads it."""
        self._started = self.expecting = False
        self.retention.close()
        for consumer in list(self.consumers.values()):
            consumer.close(status)
        self.consumers.clear()
        self.kept.clear()

    def listen(self) -> None:
        """Collect what is published on its subjects."""
        subjects = self.published
        if self.binding is None and subjects:
            ready, filling = self._on_ready, self._on_filling
            self.binding = self.services.bus.collect([], ready, account=self.account, on_filling=filling)
        if self.binding is not None:
            self.binding.set_subjects(subjects)

    def park(self) -> None:
        """Nobody leads it: keep what is asked of its consumers, and what is published."""
        self.pulls.open()
        self.listen()

    def unlisten(self) -> None:
        """Collect no more; what has not been taken is gone."""
        self.pulls.end(LEADERSHIP_CHANGE if self.frozen else "")
        if self.binding is not None:
            self.binding.close()
            self.binding = None

    @property
    def published(self) -> list[str]:
        """Subjects that everybody may publish to, which a channel's private one is not."""
        private = () if self.channel is None else (CHANNELS_PREFIX,)
        return [subject for subject in self.subjects if not subject.startswith(private)]

    def take(self, limit_bytes: int) -> list[tuple[Stream, Batch]]:
        """Publishes that wait."""
        batch = None if self.binding is None or self.frozen or self.expecting else self.binding.take(limit_bytes)
        return [] if batch is None else [(self, batch)]

    def close(self, status: str) -> None:
        """Stop taking publishes and end every consumer."""
        self.closed = True
        self.pulls.end(status)
        if self.binding is not None:
            self.binding.close()
        self.retention.close()
        self.direct.close()
        for consumer in list(self.consumers.values()):
            consumer.close(status)
        self.consumers.clear()
        for reader in list(self.readers):
            reader.stream_closed()
        self.readers.clear()

    def shut_down(self) -> None:
        """The server stops: waiting requests are told, nothing is removed."""
        self.retention.close()
        for consumer in self.consumers.values():
            consumer.close("409 Server Shutdown")

    def reconfigure(self, config: StreamConfig, options: dict[str, Any]) -> None:
        """Take on a new configuration that is already durable; only in a job of the commits."""
        self.config = config
        if self.state.configure(**options) and self.checked(self.rebuild_queues):
            self._changes = CHECKPOINT_AT_ONCE  # without it each restart reads all records
            self.services.commits.touch(self)
        if self._started or self.binding is not None:
            self.listen()
        self.retention.close()
        self.retention.arm()
        self.direct.reconfigure()

    def checked(self, read: Callable[[], None]) -> bool:
        """Read of it; False if that found damage."""
        try:
            read()
        except CorruptRecord as error:
            self.damaged(error)
            return False
        return True

    def next_consumer_id(self, name: str = "") -> int:
        """A number for the store that no consumer of this stream has, nor one whose deletion isn't agreed on or durable yet:
        but the number of that one if it gets its name."""
        if name in self.going:
            return self.going[name].consumer_id
        taken = [saved.consumer_id for saved in (*self.consumers.values(), *self.readers, *self.going.values())]
        return max([*taken, *self.kept, *self.rows], default=0) + 1

    def delete_consumer(self, consumer: Consumer, done: Callable[[StoreError | None], None] | None = None) -> None:
        """Remove a consumer; `done` once that is durable."""
        self.services.remove_consumer(self, consumer, done)

    def _on_ready(self) -> None:
        self.changes.ready(self)

    def _on_filling(self) -> None:
        self.changes.filling(self)

    # what a commit takes along

    def part(self, work: Work) -> LogWork:
        """What a commit does to this stream; only one on disk has that."""
        assert isinstance(self.log, StreamLog)
        return self.log.of(work)

    def checkpoint_due(self, changes: int) -> bool:
        """Whether the index should be stored whole now, given so many more changes since the last time."""
        self._changes += changes
        due = checkpoint_due(self._changes, self.state.num_subjects)
        self._changes = 0 if due else self._changes
        return due

    def remember_ids(self, work: Work, segment: bytes, now_ns: int) -> None:
        """Store message ids, and drop those that have left the window."""
        if not self.stream_id:
            return
        part = self.part(work)
        part.ids.append(segment)
        self._id_segments.append(now_ns)
        horizon_ns = now_ns - self.config.duplicate_window
        expired = 0
        while self._id_segments[expired] < horizon_ns:
            expired += 1
        del self._id_segments[:expired]
        part.ids_drop += expired

    def forget_ids(self, work: Work) -> None:
        """Drop all stored message ids."""
        self.part(work).ids_drop += len(self._id_segments)
        self._id_segments.clear()

    def replace_state(self, state: StreamState, config: StreamConfig, version: int) -> None:
        """Take over what a leader's machine knows; the log is brought there in the same commit."""
        self.state, self.config, self.version = state, config, version
        self.committed_seq = state.last_seq
        self._changes = 0

    def ids_found(self, segments: int, now_ns: int) -> None:
        """So many segments are stored, since a time that isn't known; these were the last ones by `now_ns`."""
        self._id_segments = [now_ns] * segments

    def damaged(self, error: Exception) -> None:
        """Something stored is not what was written."""
        if self.offline is None:
            way_out = (
                "It is fetched anew from the leader of its group"
                if self.replica is not None
                else f"Restore {self.services.store_dir} from a backup, or delete the stream if its data can be spared"
            )
            self.go_offline(f"stream {self.name}: {error}; it is offline and nothing of it was deleted. {way_out}")

    def go_offline(self, reason: str) -> None:
        """Serve nothing of this stream any more, and delete nothing."""
        self.offline = reason
        self.fetching = False  # what is damaged is no part that could be gone on with
        self.direct.withdraw()
        self.services.log.error("%s", reason)
        for consumer in self.consumers.values():
            consumer.state.requests_end(self.services.bus.engine, self.account, "409 Server Shutdown")
        self.services.bus.flush_soon()
        if self.replica is not None:
            self.services.clock.call_soon(self.replica.heal)

    def await_state(self) -> None:
        """Its state is being fetched: until all of it is here nothing is applied to it or served."""
        self.fetching = True
        self.offline = f"stream {self.name} is being fetched from the leader of group {self.group}"
        self.direct.withdraw()

    def state_came(self) -> None:
        """All of its state is here."""
        if self.fetching:
            self.fetching, self.offline = False, None
            self.direct.reconfigure()

    def restore(self) -> None:
        """Read the machine back from the store, as a commit of its changes failed. Errors: StoreError."""
        if self.stream_id:
            self.state = self.services.restore_state(self)
            for consumer in self.consumers.values():
                self.checked(consumer.pending.begin)

    def put_back(self) -> None:
        """As `restore`, for jobs; damage, or whatever else keeps it from being read, takes the stream offline."""
        try:
            self.restore()
        except StoreError as damage:
            self.go_offline(str(damage))
        except Exception as error:
            self.damaged(error)

    # after a commit

    def committed(self, admission: Admission) -> None:
        """What was admitted is durable: readers may see it."""
        if admission.last_seq:
            self.committed_seq = max(self.committed_seq, admission.last_seq)
        try:
            for consumer in self.consumers.values():
                consumer.appended(admission)
            for reader in self.readers:
                reader.appended(admission)
        except CorruptRecord as error:
            self.damaged(error)

    def deleted(self, sequences: Sequence[int]) -> None:
        """Interior deletes are durable."""
        for consumer in self.consumers.values():
            consumer.forget(sequences)
            self.checked(consumer.pending.begin)
        for reader in self.readers:
            reader.deleted(sequences)

    def trimmed(self, first: int) -> None:
        """Everything below a sequence has gone."""
        for consumer in self.consumers.values():
            if consumer.state.ack_floor_stream_seq + 1 < first:
                behind = consumer.state.next_seq < first
                consumer.forget_below(first)
                if behind:
                    self.checked(consumer.pending.begin)
        for reader in self.readers:
            reader.trimmed(first)
