"""Subscriptions against a model: start positions, acks, redelivery, silence, resumes, restarts and crashes in any order."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.config.streaming import ChannelLimits, StreamingConfig
from streamd.stan import errors
from streamd.stan.schema_pb2 import (
    Ack,
    CloseRequest,
    CloseResponse,
    ConnectRequest,
    ConnectResponse,
    MsgProto,
    PubAck,
    PubMsg,
    StartPosition,
    SubscriptionRequest,
    SubscriptionResponse,
    UnsubscribeRequest,
)
from tests.stan.local import LocalService, StillClock
from tests.stan.model import MS, Expected, Log, Sub

if TYPE_CHECKING:
    from streamd._engine import Batch
    from streamd.core.bus import Binding

SECOND: Final = 10**9
BEGIN: Final = 1_700_000_000 * SECOND
CLUSTER: Final = "test-cluster"
INVALID_PUBLISH: Final = "stan: invalid publish request"
REPLACE: Final = 500 * MS
HB_INTERVAL, HB_TIMEOUT, HB_FAILURES = 3 * SECOND, SECOND, 1

CLIENTS: Final = st.sampled_from(["a", "b", "c"])
CHANNELS: Final = st.sampled_from(["foo", "foo", "few"])
#: (queue, durable)
KINDS: Final = st.sampled_from([("", ""), ("", "d"), ("", "d"), ("q", ""), ("q", "d"), ("q", "d")])
#: Start position and its argument, whatever that means there; times ago are rounded so that they hit.
STARTS: Final = st.one_of(
    st.tuples(st.sampled_from([4, 4, 1, 0]), st.just(0)),
    st.tuples(st.just(3), st.integers(0, 12)),
    st.tuples(st.just(2), st.integers(-1, 8).map(lambda halves: halves * SECOND // 2)),
)
PICK: Final = st.integers(0, 11)
RARELY: Final = st.sampled_from([False] * 9 + [True])
SYNCS: Final = st.sampled_from(["never", "never", "always"])
WAITS: Final = st.sampled_from([MS, 4 * MS, 6 * MS, 500 * MS, SECOND, 5 * SECOND, 9 * SECOND])


@dataclass(eq=False)
class Connected:
    """A client as it knows itself."""

    client_id: str
    conn_id: bytes
    inbox: str
    heart: Binding | None  # None: nobody listens there
    silent_since: int | None = None
    spoke_again_ns: int = 0


class Subscriptions:
    """The service, and what each subscription of it must see."""

    def __init__(self, sync: Literal["always", "never"]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="stan-model-"))
        self.images = 0
        self.clock = StillClock(BEGIN)
        self.logs = {"foo": Log("foo", 0), "few": Log("few", 4)}
        self.clients: dict[str, Connected] = {}
        self.subs: dict[str, tuple[Sub, Expected]] = {}  # by inbox, also those that have gone
        self.groups: dict[tuple[str, str, str], Expected] = {}  # by channel, client or none, and name
        self.replies: dict[str, bytes] = {}
        self.number = 0
        self.joining = ""  # where the answer to a good subscription comes
        self.config = StreamingConfig(
            store="file",
            dir=str(self.directory),
            hb_interval_ns=HB_INTERVAL,
            hb_timeout_ns=HB_TIMEOUT,
            hb_fail_count=HB_FAILURES,
            channels={"few": ChannelLimits(max_msgs=4)},
        )
        self.sync = sync
        self.start(self.directory / "0")

    def close(self) -> None:
        self.service.stop()
        shutil.rmtree(self.directory)

    # the clients' side

    def start(self, directory: Path, *, crashed: bool = False) -> None:
        self.service = LocalService(directory, self.clock, self.config, self.sync)
        self.bus = self.service.core.bus
        self.streaming = self.service.streaming
        self.bus.bind(["client.>"], self.on_messages)
        for client in self.clients.values():
            if client.heart is not None:
                self.listen(client)
        assert self.streaming.clients.by_id.keys() == self.clients.keys()
        for group in self.groups.values():
            next_seq, pending = self.machine(group)
            group.restarted(next_seq, pending, self.clock.now_ns(), crashed=crashed)
        self.service.serve()
        self.look()

    def listen(self, client: Connected) -> None:
        client.heart = self.bus.bind([client.inbox], partial(self.on_heartbeats, client))

    def on_heartbeats(self, client: Connected, batch: Batch) -> None:
        for index in range(len(batch)):
            if client.silent_since is None:
                self.bus.publish(batch[index].reply, b"")

    def on_messages(self, batch: Batch) -> None:
        for index in range(len(batch)):
            message = batch[index]
            if message.subject.startswith("client.reply."):
                assert message.subject not in self.replies, "one answer"
                self.replies[message.subject] = message.payload
                if message.subject == self.joining:
                    self.join(message.payload)
            else:
                sub, group = self.subs[message.subject]
                group.delivered(sub, MsgProto.FromString(message.payload), self.clock.now_ns())

    def join(self, payload: bytes) -> None:
        """A subscription begins with its answer; messages may follow in the same moment."""
        sub, group = self.joiner
        sub.ack_inbox = SubscriptionResponse.FromString(payload).ackInbox
        if sub.ack_inbox:
            group.join(sub, self.clock.now_ns())

    def unique(self, kind: str) -> str:
        self.number += 1
        return f"client.{kind}.{self.number}"

    def ask(self, subject: str, request: Any) -> str:
        """Send a request; returns where the answer comes."""
        reply = self.unique("reply")
        self.bus.publish(subject, request.SerializeToString(), reply=reply)
        return reply

    def settle(self) -> None:
        """Everything that can happen now has happened; look whether it did."""
        self.clock.run()
        self.look()

    def look(self) -> None:
        now_ns = self.clock.now_ns()
        by_id = self.streaming.clients.by_id
        gone = []
        for client in self.clients.values():
            found = by_id.get(client.client_id)
            if found is None or found.conn_id != client.conn_id:
                silent_ns = now_ns if client.silent_since is not None else client.spoke_again_ns
                assert now_ns - silent_ns <= HB_TIMEOUT, "what was asked of the silent is never answered, the rest is"
                gone.append(client)
        self.forget(gone)
        for group in self.groups.values():
            silent = [sub for sub in group.members if by_id[sub.client].failures]
            if silent and not group.queue:
                group.silent(now_ns)
            group.look(now_ns)

    def machine(self, group: Expected) -> tuple[int, dict[int, str]]:
        """The next sequence of a group in the service, and who holds what is pending."""
        name = next(name for name, known in self.groups.items() if known is group)
        channel = self.streaming.channels.by_name[group.log.name]
        if group.queue:
            found = channel.queues[name[2]]
        elif group.durable:
            found = channel.durables[(name[1], name[2])]
        else:
            found = self.streaming.clients.by_id[name[1]].subscriptions[group.members[0].ack_inbox][0]
        members = {number: member.ack_inbox for number, member in found.members.items()}
        pending = found.state.pending_list(found.state.num_pending)
        return found.state.next_seq, {entry[0]: members.get(entry[2], "") for entry in pending}

    def leave(self, subs: list[Sub], group: Expected, *, forget: bool) -> None:
        """Members have left a group in the same moment."""
        if len(group.members) > len(subs):
            group.leave(subs, self.clock.now_ns(), self.machine(group)[1])
        elif group.durable and not forget:
            group.leave(subs, self.clock.now_ns(), {})
        else:
            group.members.clear()
            self.groups = {name: other for name, other in self.groups.items() if other is not group}

    def forget(self, clients: list[Connected]) -> None:
        """Clients have gone in the same moment, with what they subscribed to."""
        names = {client.client_id for client in clients}
        for name in names:
            del self.clients[name]
        for group in list(self.groups.values()):
            if subs := [sub for sub in group.members if sub.client in names]:
                self.leave(subs, group, forget=False)

    def client(self, pick: int) -> Connected | None:
        return list(self.clients.values())[pick % len(self.clients)] if self.clients else None

    def subscription(self, pick: int) -> tuple[Sub, Expected] | None:
        """One that is online."""
        subs = [(sub, group) for group in self.groups.values() for sub in group.members]
        return subs[pick % len(subs)] if subs else None

    # steps

    def connect(self, client_id: str) -> None:
        old = self.clients.get(client_id)
        self.number += 1
        inbox = f"hearts.{client_id}.{self.number}"
        client = Connected(client_id, b"%d" % self.number, inbox, None)
        self.listen(client)
        request = ConnectRequest(
            clientID=client_id.encode(), heartbeatInbox=inbox.encode(), connID=client.conn_id, protocol=1
        )
        reply = self.ask(f"_STAN.discover.{CLUSTER}", request)
        self.clock.run()
        if old is not None and old.silent_since is not None and old.heart is not None:
            assert reply not in self.replies, "it takes a while to be sure"
            self.clock.advance(REPLACE, self.look)
        response = ConnectResponse.FromString(self.replies[reply])
        if old is not None and old.silent_since is None:
            assert response.error == errors.CLIENT_TAKEN
        else:
            assert not response.error
            if old is not None and self.clients.get(client_id) is old:
                self.forget([old])
            self.clients[client_id] = client
        self.settle()

    def fall_silent(self, pick: int, gone: bool) -> None:
        client = self.client(pick)
        if client is None:
            return
        if client.silent_since is None:
            client.silent_since = self.clock.now_ns()
        if gone and client.heart is not None:
            client.heart.close()
            client.heart = None
        self.settle()

    def speak_again(self, pick: int) -> None:
        client = self.client(pick)
        if client is None:
            return
        if client.silent_since is not None:
            client.silent_since, client.spoke_again_ns = None, self.clock.now_ns()
        if client.heart is None:
            self.listen(client)
        self.settle()

    def publish(self, pick: int, channel: str, count: int, stale: bool) -> None:
        client = self.client(pick)
        if client is None:
            return
        log = self.logs[channel]
        expected = {}
        for _ in range(count):
            self.number += 1
            guid, body = f"guid {self.number}", b"body %d" % self.number
            conn_id = b"stale" if stale else client.conn_id
            message = PubMsg(clientID=client.client_id, guid=guid, subject=channel, data=body, connID=conn_id)
            expected[self.ask(f"_STAN.pub.{CLUSTER}.{channel}", message)] = guid
            if not stale:
                log.store(body, self.clock.now_ns())
        for group in self.groups.values():
            group.trim()
        self.settle()
        for reply, guid in expected.items():
            assert PubAck.FromString(self.replies[reply]) == PubAck(guid=guid, error=INVALID_PUBLISH if stale else "")

    def subscribe(
        self, client_id: str, channel: str, kind: tuple[str, str], start: tuple[int, int], most: int, wait: int
    ) -> None:
        (queue, durable), (position, argument) = kind, start
        inbox = self.unique("inbox")
        name = (
            channel,
            "" if queue else client_id,
            f"{durable}:{queue}" if queue and durable else queue or durable or inbox,
        )
        group, log, now_ns = self.groups.get(name), self.logs[channel], self.clock.now_ns()
        refusal = ""
        if client_id not in self.clients:
            refusal = errors.CLIENT_UNKNOWN
        elif group is not None and group.members and not queue:
            refusal = errors.DURABLE_TAKEN
        request = SubscriptionRequest(
            clientID=client_id.encode(),
            subject=channel.encode(),
            qGroup=queue.encode(),
            durableName=durable.encode(),
            inbox=inbox.encode(),
            maxInFlight=most,
            ackWaitInSecs=wait,
            startPosition=StartPosition.Name(position),
            startSequence=argument if position == 3 else 0,
            startTimeDelta=argument if position == 2 else 0,
        )
        if not refusal:
            if group is None:
                first = log.start(position, argument, now_ns)
                group = self.groups[name] = Expected(log, first, queue=bool(queue), durable=bool(durable))
            sub = Sub(client_id, inbox, wait * SECOND, most)
            self.joiner = self.subs[inbox] = (sub, group)
        reply = self.ask(f"_STAN.sub.{CLUSTER}", request)
        self.joining = "" if refusal else reply
        self.settle()
        assert SubscriptionResponse.FromString(self.replies[reply]).error == refusal

    def ack(self, pick: int, which: list[int], foreign: bool) -> None:
        """Right ones, twice, of what was never sent, on the inbox of another member."""
        found = self.subscription(pick)
        if found is None:
            return
        sub, group = found
        for place in which:
            held = sorted(group.held)
            sequence = held[place] if place < len(held) else group.next + place
            self.bus.publish(
                sub.ack_inbox, Ack(subject="bar" if foreign else group.log.name, sequence=sequence).SerializeToString()
            )
            if not foreign:
                group.ack(sequence, self.clock.now_ns())
        self.settle()

    def ack_all(self, pick: int) -> None:
        found = self.subscription(pick)
        if found is None:
            return
        sub, group = found
        while group.held and group in self.groups.values():
            for sequence in list(group.held):
                self.bus.publish(sub.ack_inbox, Ack(subject=group.log.name, sequence=sequence).SerializeToString())
                group.ack(sequence, self.clock.now_ns())
            self.settle()

    def pass_time(self, delay_ns: int) -> None:
        self.clock.advance(delay_ns, self.look)

    def unsubscribe(self, pick: int, forget: bool) -> None:
        found = self.subscription(pick)
        if found is None:
            return
        sub, group = found
        request = UnsubscribeRequest(
            clientID=sub.client.encode(), subject=group.log.name.encode(), inbox=sub.ack_inbox.encode()
        )
        reply = self.ask(f"_STAN.{'unsub' if forget else 'subclose'}.{CLUSTER}", request)
        self.clock.run()
        assert self.replies[reply] == b""
        self.leave([sub], group, forget=forget)
        self.look()

    def close_client(self, client_id: str) -> None:
        reply = self.ask(f"_STAN.close.{CLUSTER}", CloseRequest(clientID=client_id.encode()))
        self.clock.run()
        client = self.clients.get(client_id)
        if client is not None:
            self.forget([client])
        error = errors.CLIENT_UNKNOWN if client is None else ""
        assert CloseResponse.FromString(self.replies[reply]).error == error
        self.look()

    def restart(self, crash: bool, away_ns: int) -> None:
        self.images += 1
        directory = self.service.directory
        if crash:
            directory = self.directory / str(self.images)
            self.service.die(directory)
        else:
            self.service.stop()
        self.clock.advance(away_ns, lambda: None)
        self.start(directory, crashed=crash)


Step = tuple[str, dict[str, Any]]


ARGUMENTS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "publish": {"pick": PICK, "channel": CHANNELS, "count": st.integers(1, 6), "stale": RARELY},
    "subscribe": {
        "client_id": CLIENTS,
        "channel": CHANNELS,
        "kind": KINDS,
        "start": STARTS,
        "most": st.integers(1, 5),
        "wait": st.integers(1, 4),
    },
    "ack": {"pick": PICK, "which": st.lists(st.integers(0, 6), min_size=1, max_size=4), "foreign": RARELY},
    "ack_all": {"pick": PICK},
    "pass_time": {"delay_ns": WAITS},
    "connect": {"client_id": CLIENTS},
    "unsubscribe": {"pick": PICK, "forget": st.booleans()},
    "close_client": {"client_id": CLIENTS},
    "fall_silent": {"pick": PICK, "gone": st.booleans()},
    "speak_again": {"pick": PICK},
    "restart": {"crash": st.booleans(), "away_ns": WAITS},
}
#: What most of a subscription's life consists of comes more often.
OFTEN: Final = ["pass_time", "subscribe", "ack", "publish"] * 4 + ["connect"] * 2


@st.composite
def one_step(draw: st.DrawFn) -> Step:
    name = draw(st.sampled_from(OFTEN + list(ARGUMENTS)))
    return name, draw(st.fixed_dictionaries(ARGUMENTS[name]))


STEPS: Final = st.lists(one_step(), min_size=30, max_size=80)


def run(sync: Literal["always", "never"], steps: list[Step]) -> None:
    world = Subscriptions(sync)
    try:
        for client_id in ("a", "b", "c"):
            world.connect(client_id)
        for name, arguments in steps:
            getattr(world, name)(**arguments)
    finally:
        world.close()


@settings(derandomize=True, deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(sync=SYNCS, steps=STEPS)
def test_what_subscriptions_see(sync: Literal["always", "never"], steps: list[Step]) -> None:
    run(sync, steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(sync=SYNCS, steps=STEPS)
def test_what_subscriptions_see_for_long(sync: Literal["always", "never"], steps: list[Step]) -> None:
    run(sync, steps)
