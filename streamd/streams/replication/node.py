"""This server as a member of a cluster: its groups, and what follows here from what the meta group agrees on.

Place in the walk: the server builds it over JetStream and the network between nodes; API handlers ask it who answers.
Guarantee:  a group is opened here only when the meta group names this server, and its journal is in the store before that.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd.api.errors import ApiError
from streamd.clock import wait_for
from streamd.raft.storage import Storage, define
from streamd.state.meta import STREAMING_GROUP, GroupPlan, MetaState
from streamd.store import Work
from streamd.streams.journals import META
from streamd.streams.replication import ops
from streamd.streams.replication.announcing import Announcing
from streamd.streams.replication.answers import Answers
from streamd.streams.replication.api import ClusterApi
from streamd.streams.replication.assigned import Assigned
from streamd.streams.replication.bringing import Bringing
from streamd.streams.replication.holding import Holding
from streamd.streams.replication.infos import Infos
from streamd.streams.replication.joining import Joining
from streamd.streams.replication.membership import Membership
from streamd.streams.replication.metagroup import STATE_ROW, MetaGroup
from streamd.streams.replication.mover import Mover
from streamd.streams.replication.passing import Passing
from streamd.streams.replication.placing import Placing
from streamd.streams.replication.reads import Reads
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW, Replica
from streamd.streams.replication.standing import Standing
from streamd.streams.replication.transfer import Transfer
from streamd.streams.replication.view import View
from streamd.streams.replication.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.stream import StreamConfig
    from streamd.raft.group import Group
    from streamd.raft.host import Host
    from streamd.raft.net import Net, NodeId
    from streamd.state.meta import Change
    from streamd.store import Outcome, StoredStream, StreamLog
    from streamd.streams.jetstream import JetStream
    from streamd.streams.shelf import Shelf
    from streamd.streams.stream import Stream

#: How often leaders look whether something of what the meta group wants is still missing.
TEND_NS: Final = 1_000_000_000
#: And every so many times, whether anything at all is.
LOOK_EVERY: Final = 5
#: A server that stops waits so long for others to lead.
LEAVE_SECONDS: Final = 1.0
#: And looks so often whether they do.
LOOK_NS: Final = 1_000_000


class Replication:
    """The groups of one server."""

    def __init__(
        self,
        jetstream: JetStream,
        net: Net,
        host: Host,
        *,
        name: str,
        cluster: Callable[[], str],
        tags: tuple[str, ...],
        expected: Callable[[], frozenset[str] | None],
        echo: Callable[[Callable[[], None]], int],
        streaming: bool,
        failed: Callable[[Exception], None],
    ) -> None:
        """`expected`: names of the servers, this one included, that are to found the cluster; None while that isn't known.
        `echo`: have its argument called for each connected server, later, once all that it published before is here; returns
        how many these are. `streaming`: whether NATS Streaming is to be replicated. `failed`: told why this server must end,
        and be started again. Opens the groups that the store has. Errors: StoreError."""
        self.jetstream = jetstream
        self.services = jetstream.services
        self.net = net
        self.host = host
        self.name = name
        self._cluster = cluster
        self.tags = tags
        self.streaming = streaming
        self.holding = Holding(jetstream)
        self.holding.wanted = self._wanted
        self.holding.known = lambda index: self.meta.applied >= index
        self.answers = Answers(self)
        self.infos = Infos(self)
        self.reads = jetstream.reads = Reads(self)
        self.transfer = Transfer(self)
        self.mover = Mover(self)
        self.holding.laid_aside = self.mover.lay_aside
        self.holding.arrived = self.mover.expect
        self.passing = Passing(self, echo)
        self.waiting = Waiting(self)
        self.bringing = Bringing(self)
        self.placing = Placing(self)
        self.replicas: dict[str, Replica] = {}
        #: The voters that the meta group began with, if this server was one of them.
        self.founded: tuple[NodeId, ...] = jetstream.founded
        self.standing = Standing(self, failed)
        self.assigned = Assigned(self)
        self._told: dict[str, Callable[[Replica], None]] = {}
        self._beats = 0
        self._making: set[str] = set()  # groups whose journal is being stored
        self.meta = self._open_meta()
        self.membership = Membership(self)
        net.on_link(self._linked)
        self.joining = Joining(self, expected)
        for group in [group for group in jetstream.journals if group != META]:
            self._open_group(group, jetstream.journals[group])
        self.view = jetstream.view = self.services.advisories.view = View(self)
        self.announcing = Announcing(self)
        self.cluster_api = jetstream.api.join(ClusterApi(self))
        self._leaderless_ns = self.services.clock.monotonic_ns()
        self._tend_timer = self.services.clock.call_later(TEND_NS, self._tend_due)

    # groups

    def _open_meta(self) -> MetaGroup:
        stored = self.jetstream.journals.get(META)
        state, applied = MetaState(), 0
        if stored is not None:
            journal_id = stored.stream
            row = stored.consumers.get(STATE_ROW)
            if row is not None:
                state, applied = MetaState.decode(row.definition), _applied(stored)
            storage = Storage.found(self._journal_log(journal_id), stored)
        else:
            journal_id = self.jetstream.new_id()
            self._define_meta(journal_id)
            storage = Storage(self._journal_log(journal_id), {})
        meta = MetaGroup(self.services, self.net, journal_id, state, applied, self._changed, self._meta_role)
        meta.group = self.host.open(META, storage, meta, applied, prompt=True)
        return meta

    def _define_meta(self, journal_id: int) -> None:
        work = Work()
        joins = {"joins": self.jetstream.must_join} if self.jetstream.must_join else {}
        define(work, journal_id, META, node=self.net.node, founded=" ".join(self.founded), **joins)
        self.services.commits.at_once(work)

    def found(self, voters: tuple[NodeId, ...]) -> None:
        """Begin the meta group with servers that all do the same."""
        self.services.log.info("RAFT: founding the cluster with %s", ", ".join(voters))
        self.founded = voters
        self._define_meta(self.meta.journal_id)
        self.meta.group.bootstrap(voters)

    @property
    def cluster(self) -> str:
        """The cluster's name, which may change while it was made up."""
        return self._cluster()

    @property
    def fresh(self) -> bool:
        """Whether this server's store has never been part of a cluster, and it may found one."""
        return not self.joined and not self.jetstream.must_join

    def _journal_log(self, number: int) -> StreamLog:
        return self.jetstream.stored_log(number, None, cached=False)

    @property
    def joined(self) -> bool:
        """Whether this server's store is part of a cluster."""
        return bool(self.meta.group.last_index or self.meta.group.config.voters)

    def _open_group(self, name: str, stored: StoredStream) -> None:
        storage = Storage.found(self._journal_log(stored.stream), stored)
        self._begin(name, stored.stream, storage, _applied(stored))

    def _begin(self, name: str, journal_id: int, storage: Storage, applied: int) -> Replica:
        owners: dict[int, Stream | Shelf] = {
            stream.uid: stream
            for stream in self.jetstream.streams.values()
            if stream.group == name and not stream.partial
        }
        owners |= {shelf.uid: shelf for shelf in self.jetstream.replicated_shelves(name)}
        replica = Replica(
            self.services, self.holding, name, journal_id, applied, owners, self.transfer.fetch, self.net.linked
        )
        self.replicas[name] = replica
        if (told := self._told.get(name)) is not None:
            told(replica)
        replica.lead.began = partial(self._leads, replica)
        replica.lead.led = lambda: self.cluster_api.look(name)
        replica.lead.pass_publishes = partial(self.passing.on, replica)
        replica.lead.pulled, replica.lead.told = self.waiting.note, partial(self.waiting.told, replica)
        replica.failed = self.standing.fail
        replica.group = self.host.open(name, storage, replica, applied)
        for owner in owners.values():
            owner.stand_by()
        replica.role_changed()
        replica.lacks_room(self.standing.full)
        return replica

    def _ensure_group(self, plan: GroupPlan) -> None:
        """This server is one of a group's: have its journal, and begin it with the others if it is new."""
        if plan.name in self._making or self.name not in plan.names:
            return
        if plan.name in self.replicas:
            self._start_group(plan)
            return
        self._making.add(plan.name)
        journal_id = self.jetstream.new_id()

        def job(work: Work) -> Callable[[Outcome], None]:
            define(work, journal_id, plan.name)
            return after

        def after(outcome: Outcome) -> None:
            self._making.discard(plan.name)
            if outcome.error is not None:
                return  # the next look tries again
            self._begin(plan.name, journal_id, Storage(self._journal_log(journal_id), {}), 0)
            self._start_group(plan)

        self.services.commits.at_rest(job)

    def _start_group(self, plan: GroupPlan) -> None:
        """Begin a group with the others, unless it has begun. The journal may have been made in an earlier run that was cut
        short, or for a group of that name of which nobody has anything any more."""
        group = self.replicas[plan.name].group
        current = self.meta.state.groups.get(plan.name) is plan
        if current and self.net.node in plan.first and not group.last_index and not group.config.voters:
            group.bootstrap(plan.first, leader=self.who_leads(plan))

    def who_leads(self, plan: GroupPlan) -> NodeId | None:
        """The node that is to lead a group. Of NATS Streaming's there is one, and with each new leader its clients hear again
        what they haven't acked: whoever serves it leads it."""
        if plan.name != STREAMING_GROUP:
            return self.node_named(plan.names[0])
        return None if self.streaming else self.joining.one_that_streams(plan)

    def when_there(self, group: str, call: Callable[[Replica], None]) -> None:
        """Call with this server's replica of a group, as soon as there is one and before it does anything."""
        self._told[group] = call
        if group in self.replicas:
            call(self.replicas[group])

    def owner_of(self, uid: int) -> Stream | Shelf | None:
        """What this server has of a uid."""
        return next((each.owners[uid] for each in self.replicas.values() if uid in each.owners), None)

    # what the meta group says

    def _wanted(self, uid: int, group: str) -> bool:
        """Whether a stream is still to be in a group; of what the meta group doesn't decide on, the group's own log does."""
        if uid > self.meta.applied:
            return True
        wanted = self.meta.state.by_uid.get(uid)
        return wanted is not None and group in (wanted.group, wanted.moving)

    def belongs(self, uid: int, group: str) -> bool:
        """Whether a stream is in a group, or nowhere any more, rather than on its way to another one."""
        wanted = self.meta.state.by_uid.get(uid)
        return wanted is None or wanted.group == group

    def _changed(self, change: Change, command: dict[str, Any]) -> None:
        """An entry of the meta group, or a whole new state, came."""
        self.answers.expect(change, command)
        if change.kind == "all":
            self.look()
            return
        if change.group is not None:
            self._ensure_group(change.group)
        if change.kind in ("node", "forgotten", "group"):
            self.membership.look()
            self.mover.evacuate()
        if change.kind == "forgotten" and change.node is not None and self.meta.leading:
            self.services.advisories.server_removed(change.node.name)
        stream = change.stream
        if stream is not None and change.kind != "refused":
            if change.kind == "moved":
                self.mover.moved(stream)
            self.assigned.look_at(stream)
            if change.kind == "removed":
                self.assigned.remove_uid(stream.uid)

    def look(self) -> None:
        """Compare all that the meta group wants with what is here."""
        state = self.meta.state
        for plan in list(state.groups.values()):
            self._ensure_group(plan)
        for stream in list(state.streams.values()):
            self.assigned.look_at(stream)
        for held in list(self.jetstream.streams.values()):
            # One that was made, or copied, by what isn't applied here yet is left alone.
            if not 0 < held.uid < ops.FIRST_OWN_UID or max(held.uid, held.move) > self.meta.applied:
                continue
            wanted = state.by_uid.get(held.uid)
            if wanted is None:
                self.assigned.remove_uid(held.uid)
            elif self.name not in (*wanted.names, *wanted.moving_names):
                self.mover.moved(wanted)
        self.membership.look()
        self.mover.evacuate()

    # leading

    def _leads(self, replica: Replica) -> None:
        """This server leads a group now, and serves it: what it lacks is proposed."""
        self.waiting.end(replica)
        self.cluster_api.look(replica.name)
        for wanted in list(self.meta.state.streams.values()):
            if wanted.group == replica.name:
                self.assigned.look_at(wanted)

    def meta_leaderless_ns(self) -> int:
        """For how long no meta leader has been known."""
        return self.services.clock.monotonic_ns() - self._leaderless_ns if self._leaderless_ns else 0

    def why_no_meta(self) -> str:
        """Why there is no meta leader, for people."""
        if not self.joined:
            return "this server has not found its cluster yet"
        voters = self.meta.group.config.voters
        near = len({*self.net.linked(), self.net.node} & {*voters})
        return f"no meta leader, {near} of {len(voters)} servers of the cluster can be reached from here"

    def _meta_role(self) -> None:
        if self.meta.group.failed is not None:
            self.standing.fail(self.meta.group.failed)
            return
        leader = self.meta.group.leader
        if leader is None or (leader == self.net.node and not self.meta.leading):
            self._leaderless_ns = self._leaderless_ns or self.services.clock.monotonic_ns()
        else:
            self._leaderless_ns = 0
            self.cluster_api.look(META)
        self.membership.look()

    def _tend_due(self) -> None:
        self._tend_timer = self.services.clock.call_later(TEND_NS, self._tend_due)
        self.joining.look()
        self.membership.look()
        self.standing.look()
        self.announcing.look()
        self._beats += 1
        if self._beats % LOOK_EVERY == 0:
            self.look()
        elif self._beats % LOOK_EVERY == 1:
            self.bringing.look()

    def _linked(self, node: NodeId, up: bool) -> None:
        for replica in self.replicas.values() if not up else ():
            replica.lead.unlinked(node)

    # what handlers ask

    def assign(
        self,
        config: StreamConfig,
        names: tuple[str, ...],
        reply: str,
        done: Callable[[ApiError | None], None],
    ) -> None:
        """In a job of the meta group: place a stream; its leader answers to `reply`. `done` hears of an error."""
        state = self.meta.state
        plan = state.pick_group(names) if config.num_replicas > 1 else None
        command = {
            "do": "assign",
            "name": config.name,
            "config": config.wire(),
            "created": self.services.clock.now_ns(),
            "names": names,
            "group": "" if plan is None else plan.name,
            "reply": reply,
        }

        def assigned(change: Change | None) -> None:
            done(ApiError(503, 10008, "JetStream system temporarily unavailable") if change is None else None)

        if plan is None or plan.name in state.groups:
            self.meta.propose(command, assigned)
            return
        group = {"do": "group", "name": plan.name, "names": plan.names, "first": plan.first}

        def grouped(change: Change | None) -> None:
            if change is None:
                assigned(None)
            else:
                self.meta.first(lambda: self.meta.propose(command, assigned), lambda: assigned(None))

        self.meta.propose(group, grouped)

    def node_named(self, name: str) -> NodeId | None:
        """A server's Raft id."""
        node = self.meta.state.nodes.get(name)
        return None if node is None else node.node or None

    async def leave(self) -> None:
        """A clean stop: others lead from now on, if they can, and have what came to this server and wasn't done."""
        moves = [(replica.group, replica.hand_over) for replica in self.replicas.values() if replica.leading]
        if self.meta.leading:
            moves.append((self.meta.group, self.meta.group.transfer))
        waiting = len(moves)
        moved: list[Group] = []
        gone = asyncio.Event()

        def done(group: Group, success: bool) -> None:
            nonlocal waiting
            waiting -= 1
            if success:
                moved.append(group)
            if not waiting:
                gone.set()

        for group, move in moves:
            move(None, partial(done, group))
        if moves:
            await wait_for(gone, LEAVE_SECONDS)
        if moved:
            await self._pass_on(moved)

    async def _pass_on(self, groups: list[Group]) -> None:
        """Wait until somebody else is known to lead the groups: what is left here goes there."""
        passed = asyncio.Event()
        until_ns = self.services.clock.monotonic_ns() + int(LEAVE_SECONDS * 1e9)

        def look() -> None:
            if all(group.leader not in (None, group.node) for group in groups):
                # Behind those that wait for the same before they pass something on.
                self.passing.once_heard(passed.set)
            elif self.services.clock.monotonic_ns() < until_ns:
                self.services.clock.call_later(LOOK_NS, look)

        look()
        await wait_for(passed, LEAVE_SECONDS)

    def close(self) -> None:
        """The server stops."""
        self._tend_timer.cancel()
        self.cluster_api.close()
        for replica in self.replicas.values():
            replica.close()
        self.host.close()


def _applied(stored: StoredStream) -> int:
    row = stored.consumers.get(APPLIED_ROW)
    return 0 if row is None or row.state is None else int(APPLIED.unpack(row.state)[0])
