"""Moves of streams: to another group, to one server, or from one server to a group.

In the walk:  the meta leader writes down where a stream is to go; whoever leads it has every server of its new place copy most
              of it, freezes it, has them copy the rest, and tells the meta leader; once that is agreed on, the new group adopts
              the copies by an entry of its log, and its leader asks for what was published meanwhile. A server of the new place
              that is taken out of the cluster ends the move: the stream goes on where it is.
Guarantee:    a frozen stream doesn't change, so all copies are equal. A copy is served once its place is agreed on, and the old
              ones go only then.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import Batch
from streamd.api.errors import MOVE_IN_PROGRESS, ApiError
from streamd.streams.kept_pulls import LEADERSHIP_CHANGE
from streamd.streams.replication import ops
from streamd.streams.replication.serving import unavailable
from streamd.streams.sources import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.stream import StreamConfig
    from streamd.core.bus import Binding
    from streamd.raft.net import NodeId
    from streamd.state.meta import Assignment, Change
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication
    from streamd.streams.stream import Stream

NEAR: Final = "stream.near"
TAKE: Final = "stream.take"
TAKEN: Final = "stream.taken"
ADOPTED: Final = "stream.adopted"
TIMEOUT_NS: Final = 30_000_000_000
AGAIN_NS: Final = 100_000_000
#: Publishes to a stream that has moved wait so long for those that came elsewhere, and these so long for the new leader.
EXPECT_NS: Final = 500_000_000
LEFT_NS: Final = 5_000_000_000


class Mover:
    """All parts that a server may have in a move."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._clock = replication.services.clock
        self._net = replication.net
        self._driving: set[int] = set()
        self._adopting: set[int] = set()
        self._fetching: set[int] = set()
        #: Of streams that have moved: what is published until their new leader listens.
        self._left: dict[int, tuple[Stream, Binding]] = {}
        self._pieces = replication.transfer.pieces
        self._net.serve(NEAR, self._serve_near)
        self._net.serve(TAKE, self._serve_take)
        self._net.serve(TAKEN, self._serve_taken)
        self._pieces.serve(ADOPTED, self._serve_adopted)

    # the meta leader

    def update(self, call: Call, stream: Assignment, config: StreamConfig, names: tuple[str, ...]) -> None:
        """In a job of the meta group: change the replicas or the placement of a stream. Errors: ApiError."""
        agreed = partial(self._replication.cluster_api.proposed, call)
        self._move(stream, names, agreed, replicas=config.num_replicas, config=config.wire(), reply=call.message.reply)

    def away(self, stream: Assignment, names: tuple[str, ...], agreed: Callable[[Change | None], None]) -> None:
        """The same for a server that is to have a stream no more; `agreed` hears what the command came to. Errors: ApiError."""
        self._move(stream, names, agreed, replicas=len(names))

    def _move(
        self,
        stream: Assignment,
        names: tuple[str, ...],
        agreed: Callable[[Change | None], None],
        *,
        replicas: int,
        config: dict[str, Any] | None = None,
        reply: str = "",
    ) -> None:
        if stream.moving:
            raise MOVE_IN_PROGRESS()
        replication = self._replication
        state, meta = replication.meta.state, replication.meta
        plan = state.pick_group(names) if replicas > 1 else None
        if stream.names == names and bool(stream.group) == (plan is not None):
            command: dict[str, Any] = {"do": "configure", "uid": stream.uid, "config": config or stream.config}
        else:
            to = f"={names[0]}" if plan is None else plan.name
            command = {"do": "move", "uid": stream.uid, "to": to, "names": names}
            if config is not None:
                command["config"] = config
        command["reply"] = reply
        if plan is None or plan.name in state.groups or command["do"] == "configure":
            meta.propose(command, agreed)
            return
        group = {"do": "group", "name": plan.name, "names": plan.names, "first": plan.first}

        def grouped(change: Change | None) -> None:
            if change is None:
                agreed(None)
            else:
                meta.first(lambda: meta.propose(command, agreed), lambda: agreed(None))

        meta.propose(group, grouped)

    def evacuate(self) -> None:
        """The meta leader gives to others what servers have that are no more."""
        meta = self._replication.meta
        nodes = meta.state.nodes
        for stream in meta.state.streams.values() if meta.leading else ():
            names = {*stream.names, *stream.moving_names}
            if not nodes.keys() >= names and any(name in nodes for name in stream.names):
                meta.serially(partial(self._evacuate, stream.uid))

    def _evacuate(self, uid: int) -> None:
        state = self._replication.meta.state
        stream = state.by_uid.get(uid)
        if stream is None:
            return
        if stream.moving:
            if not all(name in state.nodes for name in stream.moving_names):
                command = {"do": "stay", "uid": stream.uid, "move": stream.move}
                self._replication.meta.propose(command, lambda _change: None)
            return
        kept = tuple(name for name in stream.names if name in state.nodes)
        config = self._replication.jetstream.config_of(stream.config)
        try:
            names = kept if kept == stream.names else self._replication.cluster_api.place(config, kept)
        except ApiError as error:
            self._replication.services.log.warning("stream %s lacks a replica: %s", stream.name, error.description)
            return
        if names != stream.names:
            self.away(stream, names, lambda _change: None)

    def _serve_taken(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        """All servers of the new place have their copy."""
        fields = json.loads(payload)
        meta = self._replication.meta
        if not meta.leading:
            return
        command = {"do": "moved", "uid": fields["uid"], "to": fields["to"], "move": fields["move"]}
        meta.serially(lambda: meta.propose(command, lambda _change: answer(b"ok")))

    # the server that leads the stream

    def look_at(self, wanted: Assignment) -> None:
        """Go on with a move, if this server leads the stream that is to go."""
        if not wanted.moving or wanted.uid in self._driving:
            return
        stream = next((each for each in self._replication.jetstream.streams.values() if each.uid == wanted.uid), None)
        if stream is None or stream.group != wanted.group:
            return
        if stream.replica is not None and not stream.replica.leading:
            return
        if not stream.group and wanted.names != (self._replication.name,):
            return
        self._driving.add(wanted.uid)
        if stream.frozen and stream.move == wanted.move:
            self._copies(wanted)
        else:
            self._everywhere(wanted, NEAR, lambda: self._freeze(wanted, stream))

    def _freeze(self, wanted: Assignment, stream: Stream) -> None:
        move = wanted.move

        def frozen(*_result: Any) -> None:
            if stream.frozen and wanted.moving and wanted.move == move:
                self._copies(wanted)
            else:
                self._driving.discard(wanted.uid)

        replica = stream.replica
        if replica is None:
            self._replication.holding.freeze(stream, wanted.move, frozen)
            return
        op = ops.Op(ops.FREEZE, stream.uid, json.dumps(wanted.move).encode())
        # What consumers were told of goes before, as nothing is proposed behind.
        replica.proposals.save_now(lambda: replica.proposals.alone(op, lambda _result, _error: frozen()))

    def _copies(self, wanted: Assignment) -> None:
        self._everywhere(wanted, TAKE, lambda: self._all_taken(wanted))

    def _everywhere(self, wanted: Assignment, what: str, then: Callable[[], None]) -> None:
        """Have every server of the new place take a copy, of all (TAKE) or of nearly all of a stream (NEAR)."""
        waiting, move = list(wanted.moving_names), wanted.move

        def taken(name: str, ok: bool) -> None:
            if not ok or not wanted.moving or wanted.move != move:
                self._driving.discard(wanted.uid)  # the next look tries again
                return
            waiting.remove(name)
            if not waiting and wanted.uid in self._driving:
                then()

        def answered(name: str) -> Callable[[bytes | None], None]:
            return lambda answer: taken(name, answer == b"ok")

        payload = json.dumps({"uid": wanted.uid, "move": wanted.move, "to": wanted.moving}).encode()
        for name in list(waiting):
            node = self._replication.node_named(name)
            if name == self._replication.name:
                taken(name, True)
            elif node is None:
                taken(name, False)
            else:
                self._net.call(node, what, payload, answered(name), timeout_ns=TIMEOUT_NS)

    def _all_taken(self, wanted: Assignment) -> None:
        leader = self._replication.meta.group.leader
        payload = json.dumps({"uid": wanted.uid, "to": wanted.moving, "move": wanted.move}).encode()
        done = self._driving.discard
        if leader == self._net.node:
            self._serve_taken(leader, payload, lambda _answer: done(wanted.uid))
        elif leader is not None:
            self._net.call(leader, TAKEN, payload, lambda _answer: done(wanted.uid), timeout_ns=TIMEOUT_NS)
        else:
            done(wanted.uid)

    # the servers of the new place

    def _serve_near(self, node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        fields = json.loads(payload)
        stream = self._replication.transfer.held(fields["uid"])
        if self._replication.standing.full:
            answer(b"full")
        elif fields["uid"] in self._fetching:
            answer(b"busy")
        elif stream is not None and not stream.partial:
            answer(b"ok")
        else:
            self._fetch(node, fields, answer, early=True)

    def _fetch(self, node: NodeId, fields: dict[str, Any], answer: Callable[[bytes], None], *, early: bool) -> None:
        uid = fields["uid"]
        self._fetching.add(uid)

        def fetched(ok: bool) -> None:
            self._fetching.discard(uid)
            answer(b"ok" if ok else b"failed")

        group = "" if fields["to"].startswith("=") else fields["to"]
        self._replication.transfer.copy(node, uid, group, fetched, early=early)

    def _serve_take(self, node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        fields = json.loads(payload)
        uid = fields["uid"]
        stream = next((each for each in self._replication.jetstream.streams.values() if each.uid == uid), None)
        if uid in self._fetching:
            answer(b"busy")  # what is in memory may not be stored yet
        elif stream is not None and stream.frozen and not stream.partial and stream.move == fields["move"]:
            if stream.offline is not None and stream.replica is None:
                self._replication.assigned.remove(stream)  # the next look has it copied anew
            answer(b"ok" if stream.offline is None else b"damaged")
        elif stream is not None and not stream.partial and stream.replica is not None:
            # It is here in the group that it leaves, whose log this server has yet to catch up with.
            self._clock.call_later(AGAIN_NS, lambda: self._serve_take(node, payload, answer))
        else:
            self._fetch(node, fields, answer, early=False)

    def moved(self, wanted: Assignment) -> None:
        """It is agreed on that a stream has a new place."""
        replication = self._replication
        stream = next((each for each in replication.jetstream.streams.values() if each.uid == wanted.uid), None)
        if stream is not None and replication.name not in wanted.names:
            if stream.move > replication.meta.applied:
                return  # it is a copy for a later move, of which this server has yet to hear
            self.lay_aside(stream)
            stream.pulls.end(LEADERSHIP_CHANGE)
            replication.assigned.remove(stream)
        elif stream is not None and stream.frozen and not wanted.group and wanted.uid not in self._adopting:
            self._adopting.add(wanted.uid)
            replication.holding.settle(stream, lambda: self._served(wanted, stream))
        if wanted.group:
            self.look_for(wanted)

    def look_for(self, wanted: Assignment) -> None:
        """The leader of a group adopts what is to be in it."""
        replica = self._replication.replicas.get(wanted.group)
        if replica is None or not replica.leading or wanted.uid in self._adopting or wanted.moving:
            return
        stream = next((each for each in self._replication.jetstream.streams.values() if each.uid == wanted.uid), None)
        if stream is None or not stream.frozen:
            return
        self._adopting.add(wanted.uid)
        fields = {"at": self._replication.meta.applied, "move": wanted.move}
        body = json.dumps(fields).encode()

        def adopted(_result: tuple[Any, ...], error: Exception | None) -> None:
            if error is None:
                self._served(wanted, stream)
            else:
                self._adopting.discard(wanted.uid)

        replica.proposals.alone(ops.Op(ops.ADOPT, wanted.uid, body), adopted)

    def _served(self, wanted: Assignment, stream: Stream) -> None:
        """A stream has its new place; a configuration that came with the move is taken on next."""
        self._adopting.discard(wanted.uid)
        if stream.version < wanted.version:
            self._replication.assigned.look_at(wanted)
        else:
            self._replication.answers.made(wanted.uid, None)

    # what was published meanwhile

    def lay_aside(self, stream: Stream) -> None:
        """This server doesn't lead a stream any more that has moved: it listens until the new leader does."""
        binding, stream.binding = stream.binding, None
        if binding is not None:
            self._left[stream.uid] = stream, binding
            self._clock.call_later(LEFT_NS, lambda: self._drop_left(stream.uid))

    def left(self, uid: int) -> bool:
        """Whether this server led a stream that has moved, and its new leader hasn't asked for what came meanwhile."""
        return uid in self._left

    def _drop_left(self, uid: int) -> None:
        stream = self._left[uid][0] if uid in self._left else None
        batch = self._take_left(uid)
        if stream is not None and batch is not None:
            error = unavailable(f"stream {stream.name} has moved, and its new leader hasn't asked for this")
            self._replication.services.commits.refusals.answer(stream, batch, error)
            self._replication.services.bus.flush_soon()

    def _take_left(self, uid: int) -> Batch | None:
        if uid not in self._left:
            return None
        binding = self._left.pop(uid)[1]
        batch = binding.take()
        binding.close()
        return batch

    def _serve_adopted(self, payload: bytes, answer: Callable[[bytes], None]) -> None:
        uid = int(payload)
        stream = self._replication.transfer.held(uid)
        if stream is not None and not stream.leads:
            self.lay_aside(stream)  # this server is to hear of the move yet, or is storing that it has
        batch = self._take_left(uid)
        answer(b"" if batch is None else batch.encode())

    def expect(self, stream: Stream) -> None:
        """This server leads a stream from now on that has moved: nothing is stored before what came to others is here."""
        stream.expecting = True
        nodes = self._net.linked()
        waiting = len(nodes)
        found: list[Batch] = []

        def come(answer: bytes | None) -> None:
            nonlocal waiting
            waiting -= 1
            if answer:
                found.append(Batch.decode(answer))
            if not waiting:
                # The calls may have been quicker than the same messages on their own way.
                self._replication.passing.once_heard(lambda: self._all_there(stream, found))

        for node in nodes:
            self._pieces.call(node, ADOPTED, str(stream.uid).encode(), come, timeout_ns=EXPECT_NS)
        if not nodes:
            self._clock.call_soon(lambda: self._all_there(stream, found))

    def _all_there(self, stream: Stream, found: list[Batch]) -> None:
        if not stream.expecting:
            return
        stream.expecting = False
        had = [batch for _, batch in stream.take(0)]
        # For a moment both have listened.
        for batch in [*[batch.without(had) for batch in found], *had]:
            if len(batch):
                stream.changes.ready(Held(stream, batch))
