"""Requests of the JetStream API that one server hands to another one: its leader can't answer them any more.

Guarantee:  the next leader does what it is handed unless it has heard the very same request itself, and has done it.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd.streams.replication.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from streamd.raft.net import NodeId
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication

REQUEST: Final = "api.request"
TIMEOUT_NS: Final = 1_000_000_000
#: What was served is remembered so long, and so much of it.
SERVED_NS: Final = 5_000_000_000
SERVED_MAX: Final = 20_000


class Handing:
    """Both ends."""

    def __init__(self, replication: Replication, serve: Callable[[Request], None]) -> None:
        """`serve` is given what other servers hand to this one."""
        self._net = replication.net
        self._clock = replication.services.clock
        self._serve = serve
        self._served: OrderedDict[tuple[str, str], int] = OrderedDict()  # when, by subject and reply
        self._net.serve(REQUEST, self._come)

    # what was served

    def first(self, call: Call) -> bool:
        """Whether a request that is about to be served hasn't been yet, in another copy."""
        message, now_ns = call.message, self._clock.monotonic_ns()
        if not message.reply:
            return True
        key = message.subject, message.reply
        served_ns = self._served.get(key, -SERVED_NS)
        # Only of these there may be two: a client may ask the same again, and have the answer where it had the last.
        other = call.held or (call.kept is not None and served_ns >= call.kept.since_ns)
        if other and now_ns - served_ns < SERVED_NS:
            return False
        self._served[key] = now_ns
        self._served.move_to_end(key)
        while len(self._served) > SERVED_MAX or now_ns - next(iter(self._served.values())) >= SERVED_NS:
            self._served.popitem(last=False)
        return True

    def undone(self, call: Call) -> None:
        """What was served came to nothing."""
        self._served.pop((call.message.subject, call.message.reply), None)

    # handing over

    def to(self, call: Call, nodes: Collection[NodeId], failed: Callable[[], None]) -> None:
        """Give a request to other servers, of which one serves it. `failed` is called if none of them has taken it."""
        message = call.message
        payload = Request(message.subject, message.reply, message.headers, message.payload).encode()
        waiting, taken = len(nodes), False

        def answered(answer: bytes | None) -> None:
            nonlocal waiting, taken
            waiting -= 1
            taken = taken or answer is not None
            if not (waiting or taken):
                failed()

        for node in nodes:
            self._net.call(node, REQUEST, payload, answered, timeout_ns=TIMEOUT_NS)
        if not nodes:
            self._clock.call_soon(failed)

    def _come(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        answer(b"ok")
        self._clock.call_soon(partial(self._serve, Request.decode(payload)))
