"""Infos of streams and usage, wherever in the cluster they are: asked of the servers that have them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.api import stream as wire

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
        jetstream = self._replication.jetstream
        stream = jetstream.streams.get(name)
        return None if stream is None or stream.offline is not None else jetstream.api.streams.info(stream)

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
        """Infos in the order of the names, and the names of those that nobody told."""
        infos: dict[str, wire.StreamInfo | None] = {}
        state = self._replication.meta.state
        waiting = 1

        def came(name: str, info: wire.StreamInfo | None) -> None:
            nonlocal waiting
            infos[name] = info
            waiting -= 1
            if not waiting:
                found = [each for name in names if (each := infos.get(name)) is not None]
                done(found, [name for name in names if infos.get(name) is None])

        for name in names:
            own = self._info(name)
            waiting += 1
            wanted = state.streams.get(name)
            nodes = [] if wanted is None else [self._replication.node_named(each) for each in wanted.names]
            node = next((each for each in nodes if each is not None and each in self._net.linked()), None)
            if own is not None or node is None:
                came(name, own)
            else:
                self._ask(node, name, came)
        waiting -= 1
        if not waiting:
            done(
                [each for name in names if (each := infos.get(name)) is not None],
                [n for n in names if infos[n] is None],
            )

    def _ask(self, node: NodeId, name: str, came: Callable[[str, wire.StreamInfo | None], None]) -> None:
        def answered(answer: bytes | None) -> None:
            came(name, wire.StreamInfo.model_validate_json(answer, strict=False) if answer else None)

        self._net.call(node, INFO, name.encode(), answered, timeout_ns=TIMEOUT_NS)

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
