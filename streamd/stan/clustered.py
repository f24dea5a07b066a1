"""NATS Streaming in a cluster: the leader of its group serves, the others have what it needs to take over.

A change of leader is to this room what a restart is: the service is made anew from what is replicated. Clients keep their
connections, as their ids and inboxes are part of that. What they send while there is no leader is kept by every replica, and
the next leader takes its copy as if it had come then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.config import foreign
from streamd.errors import StoreError
from streamd.stan.complaints import Complaints
from streamd.stan.followed import channel_of, clients_of
from streamd.stan.group import SERVICE
from streamd.stan.names import Subjects, shown
from streamd.stan.publishes import Publish, publishes
from streamd.stan.service import Streaming
from streamd.state.meta import STREAMING_GROUP
from streamd.streams.replication.channels import GroupStreams
from streamd.streams.shelf import Shelf

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from streamd._engine import Batch
    from streamd.clock import Timer
    from streamd.config.streaming import StreamingConfig
    from streamd.core.bus import Binding
    from streamd.stan.channels import Channel
    from streamd.stan.clients import Client
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica
    from streamd.streams.stream import Stream

#: The leader before passes on what it has as soon as it knows the next one, who waits so long for it where it was asked to
#: lead,
HANDED_NS: Final = 100_000_000
#: and listens so long for what comes later.
PASSED_NS: Final = 2_000_000_000
#: A service that can't be made is tried again so late, at another server if there is one.
AGAIN_NS: Final = 5_000_000_000
#: What came so long ago isn't kept for the next leader any more: clients wait for seconds.
PARKED_NS: Final = 10_000_000_000


class ClusteredStreaming:
    """The service of this server, while it leads."""

    def __init__(
        self,
        replication: Replication,
        config: StreamingConfig,
        log: logging.Logger,
        changed: Callable[[Streaming | None], None],
    ) -> None:
        """`changed`: hears of the service when this server begins to lead, and of None when it ceases to."""
        self._replication = replication
        self._config = config
        self._log = log
        self._complaints = Complaints(log, replication.services.clock)
        self._changed = changed
        self._subjects = Subjects(config.cluster_id, config.discover_prefix)
        self._replica: Replica | None = None
        self._service: Streaming | None = None
        self._parked: Binding | None = None
        self._left: list[Publish] = []  # came to this server before it ceased to lead
        self._last: Streaming | None = None  # what served then
        self._handed: Binding | None = None  # hears that the leader before has passed on all that it had
        self._is_handed = False  # it has, since this server parks
        self._waiting: Timer | None = None  # for that; nothing is served so far
        self._taken: set[Publish] = set()  # what this leader took of what was parked or passed on
        self._passed: Binding | None = None
        self._members: Binding | None = None  # requests that add and remove nodes
        self._timer: Timer | None = None
        replication.when_there(STREAMING_GROUP, self._attach)

    @property
    def role(self) -> str:
        """Leader, Follower or Candidate, as /streaming/serverz shows it."""
        if self._replica is None or self._replica.group.leader is None:
            return "Candidate"
        return "Leader" if self._service is not None else "Follower"

    @property
    def node_id(self) -> str:
        """As configured."""
        return self._replication.name

    # what monitoring is shown of a server that doesn't lead

    def streams(self) -> dict[str, Stream]:
        """The streams that this server has of channels, by channel."""
        streams = self._replication.jetstream.streams.values()
        return {stream.channel: stream for stream in streams if stream.channel is not None and stream.group}

    def channel(self, name: str) -> Channel | None:
        """A channel as this server has it."""
        stream = self.streams().get(name)
        return None if stream is None else channel_of(stream, name, self._config, self._complaints)

    def clients(self, *, subscriptions: bool) -> dict[str, Client]:
        """The clients as this server has them; with their subscriptions if they are asked for."""
        shelf = self._shelf()
        if shelf is None:
            return {}
        streams = self.streams().items() if subscriptions else ()
        channels = [channel_of(stream, name, self._config, self._complaints) for name, stream in streams]
        return clients_of(shelf, channels)

    def _shelf(self) -> Shelf | None:
        owners = () if self._replica is None else self._replica.owners.values()
        return next((owner for owner in owners if isinstance(owner, Shelf)), None)

    # leading

    def _attach(self, replica: Replica) -> None:
        self._replica = replica
        replica.lead.service = self._leads
        replica.lead.parking = self._park
        replica.lead.pass_on = self._pass_on

    def _leads(self, leading: bool) -> None:
        if not leading:
            service, self._service = self._service, None
            if service is not None:
                self._log.info("STREAM: server lost leadership, performing leader stepdown actions")
                self._left, self._last = service.lay_down(), service
                if self._waiting is not None:
                    self._waiting.cancel()
                    self._waiting = None
                    self._left = publishes(None if self._parked is None else self._parked.take())
                self._end_passing()
                if self._members is not None:
                    self._members.close()
                    self._members = None
                self._changed(None)
                self._log.info("STREAM: finished leader stepdown actions")
            return
        assert self._replica is not None
        self._log.info("STREAM: server became leader, performing leader promotion actions")
        shelf = self._shelf()
        if shelf is not None:
            self._begin(shelf)
        else:
            about = {"cluster_id": self._config.cluster_id}
            GroupStreams(self._replica).open_shelf(SERVICE, about, self._begin)

    def _begin(self, shelf: Shelf) -> None:
        replica = self._replica
        assert replica is not None
        if not replica.leading or self._service is not None:
            return
        replication = self._replication
        try:
            service = Streaming(
                replication.jetstream,
                self._config,
                self._log,
                shelf=shelf,
                streams=GroupStreams(replica),
                elsewhere=self._elsewhere,
            )
        except StoreError as error:
            self._log.critical("STREAM: %s", error)
            # The fault may be this server's alone.
            replication.services.clock.call_later(AGAIN_NS, lambda: self._begin_elsewhere(shelf))
            return
        self._service = service
        if replica.group.was_asked and not self._is_handed:
            self._waiting = replication.services.clock.call_later(HANDED_NS, self._all_handed)
        else:
            self._all_handed()

    def _all_handed(self) -> None:
        """What the leader before had is here; and what is as old and comes from elsewhere, once that has been asked for."""
        service, replica = self._service, self._replica
        if service is None or replica is None:
            return
        if self._waiting is not None:
            self._waiting.cancel()
        if replica.group.was_asked:
            self._waiting = self._replication.passing.once_heard(lambda: self._serve(service))
        else:
            self._serve(service)

    def _elsewhere(self) -> dict[str, list[str]]:
        streams = self._replication.meta.state.streams
        return {name: stream.config.get("subjects", []) for name, stream in streams.items()}

    def _begin_elsewhere(self, shelf: Shelf) -> None:
        """What this server can't serve another one may; with none, it is tried again."""
        replica = self._replica
        if replica is not None and replica.leading and self._service is None:
            replica.hand_over(None, lambda moved: None if moved else self._begin(shelf))

    def _serve(self, service: Streaming) -> None:
        if self._service is not service:
            return
        self._waiting = None
        service.start()
        self._changed(service)
        replication = self._replication
        cluster = self._config.cluster
        if cluster is not None and cluster.allow_add_remove_node:
            subjects = [f"_STAN.raft.{self._config.cluster_id}.node.{verb}" for verb in ("add", "remove")]
            self._members = replication.services.bus.bind(subjects, self._refuse_members)
        self._log.info("STREAM: finished leader promotion actions")
        self._log.info("STREAM: Streaming Server is ready")
        self._take_parked()

    def _refuse_members(self, batch: Batch) -> None:
        for index in range(len(batch)):
            message = batch[index]
            verb = "adding" if message.subject.endswith(".add") else "removing"
            name = shown(message.payload.decode("utf-8", "surrogateescape"))
            if message.reply:
                answer = f'-ERR {verb} node "{name}": not supported: {foreign.MEMBERS}'
                self._replication.services.bus.publish(message.reply, answer.encode())

    # without a leader

    def _park(self, parked: bool) -> None:
        """Keep what clients send, as long as there is no leader; the next one has its own copy. But some may not have heard yet
        that it listens, and sent it to the leader before alone."""
        if not parked and self._parked is not None and self._last is not None:
            self._left += publishes(self._parked.take())
        self._drop_parked()
        if parked:
            subjects = self._subjects
            services = self._replication.services
            self._timer = services.clock.call_later(PARKED_NS, self._park_anew)
            self._is_handed = False
            self._handed = services.bus.collect([self._handed_subject], self._on_handed)
            self._parked = services.bus.collect(
                [
                    f"{subjects.publish}.>",
                    subjects.connect,
                    subjects.pings,
                    subjects.subscribe,
                    subjects.unsubscribe,
                    subjects.close_subscription,
                    subjects.close,
                    self._passed_subject(""),
                ],
                lambda: None,
            )

    def _park_anew(self) -> None:
        """There has been no leader for long: who sent what is kept has given it up."""
        self._left, self._last = [], None
        self._park(True)

    def _take_parked(self) -> None:
        """This server is the next leader: it takes what came before, in the order in which clients sent it. First what it left
        itself, if it was the leader before; then what that one passed on; then its own copies of what came meanwhile."""
        services = self._replication.services
        self._passed = services.bus.bind([self._passed_subject("")], lambda batch: self._take_passed(publishes(batch)))
        services.clock.call_later(PASSED_NS, self._end_passing)
        found = publishes(None if self._parked is None else self._parked.take())
        self._drop_parked()
        prefix = self._passed_subject("")[:-1]
        self._taken = set()
        self._take_passed([*self._leave(), *(publish for publish in found if publish[0].startswith(prefix))])
        own = [publish for publish in found if not publish[0].startswith(prefix) and publish not in self._taken]
        self._taken.update(own)
        for subject, reply, payload in own:
            services.bus.publish(subject, payload, reply=reply)

    def _on_handed(self) -> None:
        self._is_handed = True
        if self._waiting is not None:
            self._all_handed()

    # handing over: the leader before has what the next one may have as well

    def _passed_subject(self, subject: str) -> str:
        return f"_STAN.passed.{self._config.cluster_id}.{subject or '>'}"

    @property
    def _handed_subject(self) -> str:
        return f"_STAN.handed.{self._config.cluster_id}"

    def _pass_on(self, led: bool) -> None:
        """Another server leads: what came here goes there."""
        left = self._leave()
        if led:
            # Once it is known here that the other one listens.
            self._replication.passing.once_heard(lambda: self._hand_over(left))

    def _hand_over(self, left: list[Publish]) -> None:
        bus = self._replication.services.bus
        for subject, reply, payload in left:
            bus.publish(subject, payload, reply=reply)
        bus.publish(self._handed_subject, b"")

    def _leave(self) -> list[Publish]:
        """What came to this server while it led and wasn't done: as it is passed on."""
        left, self._left = self._left, []
        last, self._last = self._last, None
        requests = [] if last is None else last.unanswered()
        found = [(request.subject, request.reply, request.payload) for request in requests]
        prefix = self._passed_subject("")[:-1]
        return [
            (subject if subject.startswith(prefix) else self._passed_subject(subject), reply, payload)
            for subject, reply, payload in [*found, *left]
        ]

    def _take_passed(self, passed: list[Publish]) -> None:
        """What came to the leader before and wasn't kept here too."""
        start = len(self._passed_subject("")) - 1
        for name, reply, payload in passed:
            publish = (name[start:], reply, payload)
            if publish not in self._taken:
                self._taken.add(publish)
                self._replication.services.bus.publish(publish[0], payload, reply=reply)

    def _end_passing(self) -> None:
        self._taken.clear()
        if self._passed is not None:
            self._passed.close()
            self._passed = None

    def _drop_parked(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for binding in (self._parked, self._handed):
            if binding is not None:
                binding.close()
        self._parked = self._handed = None

    def close(self) -> None:
        """The server stops."""
        self._drop_parked()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._service is not None:
            self._service.close()
            self._service = None
