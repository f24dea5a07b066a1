"""Infos of streams and usage, wherever in the cluster they are: asked of the servers that lead or have them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd.api import stream as wire
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.state.meta import Assignment
    from streamd.streams.replication.node import Replication

INFO: Final = "stream.info"
USAGE: Final = "usage"
TIMEOUT_NS: Final = 1_000_000_000
#: A stream that is being made has no info yet; it is asked for again so often.
AGAIN_NS: Final = 20_000_000
TRIES_MAX: Final = 200


class Infos:
    """Both ends of the question."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._net = replication.net
        self._net.serve(INFO, self._serve_info)
        self._net.serve(USAGE, self._serve_usage)

    def _info(self, name: str) -> wire.StreamInfo | None:
        """As this server has it; None if it has no whole copy."""
        jetstream = self._replication.jetstream
        stream = jetstream.streams.get(name)
        whole = stream is not None and stream.offline is None and not stream.partial
        return jetstream.api.streams.info(stream) if stream is not None and whole else None

    def _serve_info(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        info = self._info(payload.decode())
        answer(b"" if info is None else info.model_dump_json().encode())

    def get(self, stream: Assignment, done: Callable[[wire.StreamInfo], None], tries: int = TRIES_MAX) -> None:
        """The info of one stream, once it is there; without an answer if that takes too long."""

        def found(infos: list[wire.StreamInfo], _missing: list[str]) -> None:
            if infos:
                done(infos[0])
            elif tries > 0:
                clock = self._replication.services.clock
                clock.call_later(AGAIN_NS, lambda: self.get(stream, done, tries - 1))

        self.all([stream.name], found)

    def all(self, names: list[str], done: Callable[[list[wire.StreamInfo], list[str]], None]) -> None:
        """Infos in the order of the names, each from the server that leads the stream if that answers, and the names of those
        that nobody told."""
        infos: dict[str, wire.StreamInfo | None] = {}

        def came(name: str, info: wire.StreamInfo | None) -> None:
            infos[name] = info
            if len(infos) == len(names):
                found = [each for name in names if (each := infos[name]) is not None]
                done(found, [name for name in names if infos[name] is None])

        if not names:
            done([], [])
        for name in names:
            self._find(name, partial(came, name))

    def _find(self, name: str, came: Callable[[wire.StreamInfo | None], None]) -> None:
        """The info of one stream. Only its leader knows how far the replicas are, so that one is asked first; any other whole
        copy will do."""
        stream, own, others = self._replication.jetstream.streams.get(name), self._info(name), self._others(name)
        group = None if stream is None or stream.replica is None else stream.replica.group
        leader = None if group is None else group.leader

        def told(answers: dict[NodeId, wire.StreamInfo]) -> None:
            came(_best(answers, own))

        def told_by_leader(answers: dict[NodeId, wire.StreamInfo]) -> None:
            if any(_leads(node, info) for node, info in answers.items()):
                told(answers)
            else:
                self._ask([node for node in others if node != leader], name, lambda more: told(answers | more))

        if stream is not None and own is not None and stream.leads:
            came(own)
        elif leader is not None and leader in others:
            self._ask([leader], name, told_by_leader)
        elif own is not None and group is not None:
            came(own)  # if a member knows of no leader that can be reached, hardly anybody does
        else:
            self._ask(others, name, told)

    def _others(self, name: str) -> list[NodeId]:
        """Who may have a copy too, and can be reached."""
        replication = self._replication
        wanted = replication.meta.state.streams.get(name)
        if wanted is not None:
            names = dict.fromkeys((*wanted.names, *wanted.moving_names))
            nodes = [node for each in names if (node := replication.node_named(each)) is not None]
        else:
            # A channel of NATS Streaming.
            stream = replication.jetstream.streams.get(name)
            nodes = [] if stream is None or stream.replica is None else list(stream.replica.group.config.voters)
        linked = self._net.linked()
        return [node for node in nodes if node in linked]

    def _ask(self, nodes: list[NodeId], name: str, done: Callable[[dict[NodeId, wire.StreamInfo]], None]) -> None:
        """`done` hears the answers of those that have a whole copy, in the order of the nodes."""
        answers: dict[NodeId, wire.StreamInfo | None] = {}

        def answered(node: NodeId, answer: bytes | None) -> None:
            answers[node] = wire.StreamInfo.model_validate_json(answer, strict=False) if answer else None
            if len(answers) == len(nodes):
                done({node: info for node in nodes if (info := answers[node]) is not None})

        if not nodes:
            done({})
        for node in nodes:
            self._net.call(node, INFO, name.encode(), partial(answered, node), timeout_ns=TIMEOUT_NS)

    # usage

    def _usage(self) -> dict[str, Any]:
        """Of the streams that this server leads: memory, storage, consumers."""
        led = [stream for stream in self._replication.jetstream.streams.values() if stream.leads]
        return {
            "memory": sum(stream.state.bytes for stream in led if stream.in_memory),
            "storage": sum(stream.state.bytes for stream in led if not stream.in_memory),
            "consumers": sum(len(stream.consumers) for stream in led),
        }

    def _serve_usage(self, _node: NodeId, _payload: bytes, answer: Callable[[bytes], None]) -> None:
        answer(json.dumps(self._usage()).encode())

    def usage(self, done: Callable[[int, int, int], None]) -> None:
        """(memory, storage, consumers) of all servers that answer."""
        total = self._usage()
        nodes = self._net.linked()
        waiting = len(nodes)

        def finish() -> None:
            done(total["memory"], total["storage"], total["consumers"])

        def answered(answer: bytes | None) -> None:
            nonlocal waiting
            for name, count in (json.loads(answer) if answer else {}).items():
                total[name] += count
            waiting -= 1
            if not waiting:
                finish()

        if not nodes:
            finish()
        for node in nodes:
            self._net.call(node, USAGE, b"", answered, timeout_ns=TIMEOUT_NS)


def _leads(node: NodeId, info: wire.StreamInfo) -> bool:
    return info.cluster is not None and info.cluster.leader == name_of(node)


def _best(answers: dict[NodeId, wire.StreamInfo], own: wire.StreamInfo | None) -> wire.StreamInfo | None:
    """The leader's. One that doesn't know yet that it leads no more began before the one that does."""
    leaders = {
        info.cluster.leader_since: info
        for node, info in answers.items()
        if info.cluster is not None and _leads(node, info)
    }
    return leaders[max(leaders)] if leaders else own or next(iter(answers.values()), None)
