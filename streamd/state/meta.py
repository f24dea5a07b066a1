"""What the servers of a cluster agree on: which servers there are, which groups, and which streams live where.

Guarantee:  a deterministic machine: the same commands in the same order give the same state on every server. A command was
            checked by the leader that proposed it; what it relied on may have changed meanwhile: `apply` checks the rest.
Shapes:     commands and the stored form are JSON objects. A stream's uid is the index of the entry that made it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

#: The group of all servers that serve NATS Streaming.
STREAMING_GROUP: Final = "STAN"


@dataclass(slots=True)
class Node:
    """A server. `node`: its Raft id now, another one after its store was lost; "" while it is waited for."""

    name: str
    node: str
    cluster: str = ""
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class GroupPlan:
    """A Raft group of streams. The first of `names` is to lead it; `first` are the voters that it began with."""

    name: str
    names: tuple[str, ...]
    first: tuple[str, ...]


@dataclass(slots=True)
class Assignment:
    """A stream and where it lives: in a group, or on one server."""

    uid: int
    name: str
    config: dict[str, Any]
    created_ns: int
    names: tuple[str, ...]
    group: str = ""  # "": the only one of `names` has it
    version: int = 0  # index of the entry that last changed the configuration
    move: int = 0  # index of the entry that last began a move; 0: it was made where it is
    moving: str = ""  # the group, or "=" and the server, that it moves to
    moving_names: tuple[str, ...] = ()


@dataclass(slots=True)
class Change:
    """What a command came to."""

    kind: str  # all | node | forgotten | group | assigned | configured | removed | moving | moved | refused
    stream: Assignment | None = None
    node: Node | None = None
    group: GroupPlan | None = None


@dataclass(slots=True)
class MetaState:
    """The state that the meta group agrees on."""

    nodes: dict[str, Node] = field(default_factory=dict)
    groups: dict[str, GroupPlan] = field(default_factory=dict)
    streams: dict[str, Assignment] = field(default_factory=dict)
    by_uid: dict[int, Assignment] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)  # names of servers that were removed, and didn't come back
    #: Raft ids that an operator gave up: what their stores hold is no part of the cluster any more.
    banned: set[str] = field(default_factory=set)

    # commands

    def apply(self, index: int, command: dict[str, Any]) -> Change:
        """Take a command."""
        what = command["do"]
        if what == "node":
            node = Node(command["name"], command["node"], command["cluster"], tuple(command["tags"]))
            self.nodes[node.name] = node
            if node.name in self.forgotten:
                self.forgotten.remove(node.name)
            return Change("node", node=node)
        if what == "forget":
            return self._forget(command["name"])
        if what == "recover":
            return self._recover(command)
        if what == "group":
            return self._group(command)
        if what == "assign":
            return self._assign(index, command)
        stream = self.by_uid.get(command["uid"])
        if stream is None:
            return Change("refused")
        if what == "configure":
            stream.config, stream.version = command["config"], index
            return Change("configured", stream=stream)
        if what == "remove":
            del self.streams[stream.name]
            del self.by_uid[stream.uid]
            return Change("removed", stream=stream)
        if what == "move":
            stream.moving, stream.moving_names, stream.move = command["to"], tuple(command["names"]), index
            if "config" in command:
                stream.config, stream.version = command["config"], index
            return Change("moving", stream=stream)
        if what == "stay" and stream.moving and stream.move == command["move"]:
            stream.moving, stream.moving_names = "", ()
            # What was asked for and isn't there isn't claimed.
            stream.config, stream.version = {**stream.config, "num_replicas": len(stream.names)}, index
            return Change("moved", stream=stream)
        if what == "moved" and stream.moving == command["to"] and stream.move == command.get("move", stream.move):
            to = stream.moving
            stream.group = "" if to.startswith("=") else to
            stream.names, stream.moving, stream.moving_names = stream.moving_names, "", ()
            return Change("moved", stream=stream)
        return Change("refused", stream=stream)

    def _forget(self, name: str) -> Change:
        node = self.nodes.pop(name, None)
        if node is None:
            return Change("refused")
        self.forgotten.append(name)
        return Change("forgotten", node=node)

    def members(self, now: Iterable[str]) -> set[str]:
        """Who is to be in the meta group, by Raft id: the servers that are known, and of its members `now` those that nobody
        has written down yet."""
        unknown = {node for node in now if node.rpartition("#")[0] not in (*self.nodes, *self.forgotten)}
        return {node.node for node in self.nodes.values() if node.node} | unknown

    def _recover(self, command: dict[str, Any]) -> Change:
        """One server is what is left of the cluster: the others are waited for, with empty stores."""
        for node in self.nodes.values():
            node.node = command["node"] if node.name == command["name"] else ""
        self.banned.update(command["banned"])
        for name in command["groups"]:
            self.groups.pop(name, None)
        for uid in command["uids"]:
            stream = self.by_uid.pop(uid, None)
            if stream is not None:
                del self.streams[stream.name]
        return Change("all")

    def _group(self, command: dict[str, Any]) -> Change:
        group = GroupPlan(command["name"], tuple(command["names"]), tuple(command["first"]))
        existing = self.groups.get(group.name)
        if existing is not None:
            existing.names = group.names
            return Change("group", group=existing)
        self.groups[group.name] = group
        return Change("group", group=group)

    def _assign(self, index: int, command: dict[str, Any]) -> Change:
        name = command["name"]
        if name in self.streams:
            return Change("refused", stream=self.streams[name])
        stream = Assignment(
            index, name, command["config"], command["created"], tuple(command["names"]), command["group"], index
        )
        self.streams[name] = self.by_uid[index] = stream
        return Change("assigned", stream=stream)

    # the stored form

    def encode(self) -> bytes:
        """All of it."""
        lists: dict[str, dict[str, Any]] = {"nodes": self.nodes, "groups": self.groups, "streams": self.streams}
        fields: dict[str, Any] = {kind: [asdict(each) for each in held.values()] for kind, held in lists.items()}
        return json.dumps(fields | {"forgotten": self.forgotten, "banned": sorted(self.banned)}).encode()

    @classmethod
    def decode(cls, data: bytes) -> MetaState:
        """What `encode` gave. Errors: ValueError, KeyError, TypeError for anything else."""
        fields = json.loads(data)
        state = cls(forgotten=fields.get("forgotten", []), banned=set(fields.get("banned", ())))
        for each in fields["nodes"]:
            state.nodes[each["name"]] = Node(**{**each, "tags": tuple(each["tags"])})
        for each in fields["groups"]:
            state.groups[each["name"]] = GroupPlan(each["name"], tuple(each["names"]), tuple(each["first"]))
        for each in fields["streams"]:
            tuples = {name: tuple(each[name]) for name in ("names", "moving_names")}
            stream = Assignment(**{**each, **tuples})
            state.streams[stream.name] = state.by_uid[stream.uid] = stream
        return state

    # placement

    def load(self) -> Counter[str]:
        """How many streams each server has."""
        load: Counter[str] = Counter(dict.fromkeys(self.nodes, 0))
        for stream in self.streams.values():
            load.update(name for name in stream.names if name in self.nodes)
        return load

    def candidates(self, alive: AbstractSet[str], cluster: str, tags: Iterable[str]) -> list[str]:
        """Servers that may have a replica, those with the fewest streams first. Tags compare without regard to case."""
        wanted = {tag.lower() for tag in tags}
        load = self.load()
        fit = [
            node.name
            for node in self.nodes.values()
            if node.name in alive
            and (not cluster or node.cluster == cluster)
            and wanted <= {tag.lower() for tag in node.tags}
        ]
        return sorted(fit, key=lambda name: (load[name], name))

    def place(
        self,
        replicas: int,
        alive: AbstractSet[str],
        cluster: str = "",
        tags: Iterable[str] = (),
        keep: Iterable[str] = (),
        full: AbstractSet[str] = frozenset(),
    ) -> tuple[str, ...] | None:
        """Servers for so many replicas, those of `keep` first; None if there aren't enough. `full`: those without room, which
        come last and get something new only where a quorum has room."""
        fit = self.candidates(alive, cluster, tags)
        kept = [name for name in keep if name in fit][:replicas]
        if len(fit) < replicas:
            return None
        others = sorted((name for name in fit if name not in kept), key=lambda name: name in full)
        rest = others[: replicas - len(kept)]
        roomy = [name for name in (*kept, *rest) if name not in full]
        if any(name in full for name in rest) and len(roomy) <= replicas // 2:
            return None
        return tuple(sorted([*kept, *rest]))

    def pool(self, names: tuple[str, ...]) -> list[GroupPlan]:
        """The groups of a set of servers that there are to be: one that each of them leads."""
        ordered = sorted(names)
        pool = []
        for turn in range(len(ordered)):
            rotated = tuple(ordered[turn:] + ordered[:turn])
            name = "G." + ".".join(rotated)
            first = tuple(self.nodes[each].node for each in rotated if each in self.nodes and self.nodes[each].node)
            pool.append(self.groups.get(name) or GroupPlan(name, rotated, first))
        return pool

    def pick_group(self, names: tuple[str, ...]) -> GroupPlan:
        """The group of a set of servers with the fewest streams; it may be one that is to be made first."""
        count = Counter(stream.moving or stream.group for stream in self.streams.values())
        return min(self.pool(names), key=lambda group: (count[group.name], group.name))
