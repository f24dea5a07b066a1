"""How a server finds its cluster: founding it with others that were never in one either, or joining one that is there.

Guarantee:  a meta group is founded by servers that agree on who they are, each of them with an empty store, and all write the
            same first entry. A server whose store was lost is a new node of an old name: it learns, and then takes the old
            one's place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.errors import StoreError
from streamd.state.meta import STREAMING_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd.raft.net import NodeId
    from streamd.state.meta import GroupPlan
    from streamd.streams.replication.node import Replication

HELLO: Final = "hello"
HELLO_TIMEOUT_NS: Final = 1_000_000_000
#: More servers than these don't vote for NATS Streaming.
STREAMING_SERVERS_MAX: Final = 5
#: A server that expects no other waits so long for one that may know of a cluster.
ALONE_NS: Final = 2_000_000_000


class GivenUp(StoreError):
    """The cluster was recovered from another server's store."""

    def __init__(self, directory: Path, name: str, survivor: str) -> None:
        super().__init__(
            f'the cluster was recovered from the store of server "{survivor}", and what is in {directory} is no part of it any '
            f"more: move that directory away, and this server joins the cluster anew as {name}"
        )


class Joining:
    """What this server knows of the others, and what it does about it."""

    def __init__(self, replication: Replication, expected: Callable[[], frozenset[str] | None]) -> None:
        self._replication = replication
        self._expected = expected
        self._net = replication.net
        self._clock = replication.services.clock
        self._log = replication.services.log
        self._known: dict[NodeId, dict[str, Any]] = {}
        self._asking: set[NodeId] = set()
        self._told_full: dict[NodeId, bool] = {}  # whether they know that this server has no room
        self._since_ns = self._clock.monotonic_ns()
        self._proposing = False
        self._told = ""
        self._net.serve(HELLO, self._serve)
        self._net.on_link(self._linked)
        self._linked_since: dict[NodeId, None] = {}  # the last ones that came are behind the others
        for node in sorted(self._net.linked()):
            self._linked(node, True)

    def _about(self) -> dict[str, Any]:
        """What this server says of itself."""
        replication = self._replication
        expected = self._expected()
        return {
            "name": replication.name,
            "fresh": replication.fresh,
            "founded": replication.founded,
            "banned": sorted(replication.meta.state.banned),
            "expected": None if expected is None else sorted(expected),
            "cluster": replication.cluster,
            "tags": replication.tags,
            "streaming": replication.streaming,
            "full": replication.standing.full,
        }

    def full(self) -> set[str]:
        """Other servers that say that they have no room."""
        return {fields["name"] for fields in self._known.values() if fields.get("full")}

    def _serve(self, node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        self._learn(node, json.loads(payload))
        answer(json.dumps(self._about()).encode())
        self.look()

    def _linked(self, node: NodeId, up: bool) -> None:
        self._linked_since.pop(node, None)
        if up:
            self._linked_since[node] = None
            self._ask(node)
        else:
            self._known.pop(node, None)
            self._told_full.pop(node, None)

    def _ask(self, node: NodeId) -> None:
        if node in self._asking:
            return
        self._asking.add(node)
        about = self._about()

        def answered(answer: bytes | None) -> None:
            self._asking.discard(node)
            if answer is not None:
                self._told_full[node] = about["full"]
                self._learn(node, json.loads(answer))
                self.look()

        self._net.call(node, HELLO, json.dumps(about).encode(), answered, timeout_ns=HELLO_TIMEOUT_NS)

    def _learn(self, node: NodeId, fields: dict[str, Any]) -> None:
        """What another server says of itself."""
        replication = self._replication
        if node in replication.meta.state.banned:
            return
        self._known[node] = fields
        if self._net.node in fields.get("banned", ()):
            replication.standing.fail(GivenUp(replication.services.store_dir, replication.name, fields["name"]))

    def look(self) -> None:
        """Found or extend the cluster as far as that is possible now."""
        linked = self._net.linked()
        for node in sorted(linked):
            if node not in self._known or not self._replication.joined:
                self._ask_again(node)
            elif self._told_full.get(node) != self._replication.standing.full:
                self._ask(node)
        self._replication.placing.look()
        if self._replication.fresh:
            self._found()
        elif not self._replication.joined:
            self._say(
                f"waiting for the cluster to take this server in; it founds none, as its store was damaged "
                f"({self._replication.jetstream.must_join})"
            )
        elif self._replication.meta.leading:
            self._enter(linked)
        else:
            # What this server was about to write down as a leader went with its leadership.
            self._proposing = False

    def _ask_again(self, node: NodeId) -> None:
        """What a server says of itself changes while clusters are founded."""
        known = self._known.get(node)
        if known is None or known["fresh"]:
            self._clock.call_later(
                HELLO_TIMEOUT_NS // 10, lambda: self._ask(node) if node in self._net.linked() else None
            )

    # founding

    def _found(self) -> None:
        mine = self._net.node
        for fields in self._known.values():
            if mine in fields["founded"]:
                self._replication.found(tuple(fields["founded"]))
                return
        if any(not fields["fresh"] for fields in self._known.values()):
            self._say("joining a cluster that is there")
            return
        expected = self._expected()
        if expected is None:
            self._say("waiting for the servers behind all configured routes")
            return
        others = {fields["name"]: node for node, fields in self._known.items()}
        missing = sorted(expected - others.keys() - {self._replication.name})
        if missing:
            self._say(f"waiting for {', '.join(missing)} to found the cluster")
            return
        disagreeing = [
            name
            for name in sorted(expected & others.keys())
            if self._known[others[name]]["expected"] != sorted(expected)
        ]
        if disagreeing:
            self._say(f"waiting until {', '.join(disagreeing)} expects the same servers: {', '.join(sorted(expected))}")
            return
        if len(expected) == 1 and self._clock.monotonic_ns() - self._since_ns < ALONE_NS:
            return
        self._replication.found(tuple(sorted([mine, *(others[name] for name in expected if name in others)])))

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._log.info("RAFT: %s", text)

    # extending

    def _enter(self, linked: set[NodeId]) -> None:
        """The meta leader writes down who there is."""
        if self._proposing:
            return
        replication = self._replication
        nodes = replication.meta.state.nodes
        # Of two incarnations of a name the one that came last is there: news of the end of the other is late.
        latest = {self._known[node]["name"]: node for node in self._linked_since if node in linked & self._known.keys()}
        latest[replication.name] = self._net.node
        known = {**self._known, self._net.node: self._about()}
        for node in sorted(latest.values()):
            fields = known[node]
            entry = nodes.get(fields["name"])
            same = entry is not None and (entry.node, entry.cluster, list(entry.tags)) == (
                node,
                fields["cluster"],
                list(fields["tags"]),
            )
            if not same:
                command = {
                    "do": "node",
                    "name": fields["name"],
                    "node": node,
                    "cluster": fields["cluster"],
                    "tags": fields["tags"],
                }
                self._propose(command)
                return
        if {*replication.meta.group.config.voters} <= {each.node for each in nodes.values()}:
            self._look_at_streaming()

    def _look_at_streaming(self) -> None:
        """The group of NATS Streaming: up to five servers that serve it. Another one takes the place of one that is removed."""
        state = self._replication.meta.state
        plan = state.groups.get(STREAMING_GROUP)
        names = [name for name in plan.names if name in state.nodes] if plan is not None else []
        names += [name for name in sorted(state.nodes) if name not in names and self._streams(name, founding=not plan)]
        names = names[:STREAMING_SERVERS_MAX]
        if names and (plan is None or names != list(plan.names)):
            first = [node for name in names if (node := state.nodes[name].node)]
            self._propose({"do": "group", "name": STREAMING_GROUP, "names": names, "first": first})

    def _streams(self, name: str, *, founding: bool) -> bool:
        """Whether a server serves NATS Streaming. `founding`: one that can't be asked now does if this one does."""
        if name == self._replication.name:
            return self._replication.streaming
        fields = self._known.get(self._replication.node_named(name) or "")
        if fields is None:
            return founding and self._replication.streaming
        return bool(fields.get("streaming"))

    def one_that_streams(self, plan: GroupPlan) -> NodeId | None:
        """One of a group's servers that serves NATS Streaming and can be reached."""
        found = (name for name in plan.names if self._streams(name, founding=False))
        return next((self._replication.node_named(name) for name in found), None)

    def _propose(self, command: dict[str, Any]) -> None:
        self._proposing = True

        def done(change: object) -> None:
            self._proposing = False
            if change is None:
                # This server hands its leadership over, or can't lead: what comes next tells.
                self._clock.call_later(HELLO_TIMEOUT_NS // 10, self.look)
            else:
                self._clock.call_soon(self.look)

        meta = self._replication.meta
        meta.serially(lambda: meta.propose(command, done), lambda: done(None))
