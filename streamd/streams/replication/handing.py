"""Requests of the JetStream API that one server hands to another one: others left them to it, and it doesn't lead any more.

Guarantee:  who leads does what it is handed, unless it has heard the very same request itself and has done it. What is handed
            may be quicker than the request on its own way, and than the news of who listens to the answer: it waits until that
            way is empty.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd.streams.replication.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from streamd._engine import Message
    from streamd.clock import Clock
    from streamd.raft.net import NodeId
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication

REQUEST: Final = "api.request"
TIMEOUT_NS: Final = 1_000_000_000
#: Requests are remembered so long, and so many of them.
RECENT_NS: Final = 5_000_000_000
RECENT_MAX: Final = 20_000


class Recent:
    """Requests by subject and reply, as far as that is not long ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ns: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, request: Message | Request) -> None:
        """This one, now."""
        key, now_ns = _key(request), self._clock.monotonic_ns()
        self._at_ns[key] = now_ns
        self._at_ns.move_to_end(key)
        while len(self._at_ns) > RECENT_MAX or now_ns - next(iter(self._at_ns.values())) >= RECENT_NS:
            self._at_ns.popitem(last=False)

    def since(self, request: Message | Request, at_ns: int) -> bool:
        """Whether this one was noted at a time or later."""
        noted_ns = self._at_ns.get(_key(request))
        return noted_ns is not None and noted_ns >= at_ns and self._clock.monotonic_ns() - noted_ns < RECENT_NS

    def take(self, request: Message | Request) -> bool:
        """Forget this one. Returns whether it was there."""
        return self._at_ns.pop(_key(request), None) is not None


def _key(request: Message | Request) -> tuple[str, str]:
    return request.subject, request.reply


class Handing:
    """Both ends."""

    def __init__(self, replication: Replication, serve: Callable[[Request], None]) -> None:
        """`serve` is given what other servers hand to this one."""
        self._net = replication.net
        self._clock = replication.services.clock
        self._serve = serve
        self._heard = Recent(self._clock)  # by this server itself
        self._served = Recent(self._clock)
        self._ahead = Recent(self._clock)  # served as it was handed, before this server heard it itself
        self._once_heard = replication.passing.once_heard
        self._coming: list[Request] = []  # handed to this server, of which none was looked at
        self._hearing = False  # others are asked for what they sent before
        self._net.serve(REQUEST, self._come)

    # copies of a request

    def hears(self, call: Call) -> bool:
        """A request came from a client. Returns whether that is news: another copy may have been quicker. A client may ask the
        same again, and have the answer where it had the last."""
        if not call.message.reply:
            return True
        if self._ahead.take(call.message):
            return False
        self._heard.note(call.message)
        return True

    def first(self, call: Call) -> bool:
        """Whether a request that is about to be served hasn't been yet, in another copy."""
        if not call.message.reply:
            return True
        kept_ns = None if call.kept is None else call.kept.since_ns
        since_ns = 0 if call.held else kept_ns
        if since_ns is not None and self._served.since(call.message, since_ns):
            return False
        self._served.note(call.message)
        if call.held and not self._heard.since(call.message, 0):
            self._ahead.note(call.message)
        return True

    def undone(self, call: Call) -> None:
        """What was served came to nothing."""
        self._served.take(call.message)

    # handing over

    def to(self, call: Call, nodes: Collection[NodeId], failed: Callable[[], None]) -> None:
        """Give a request to other servers, of which one serves it. `failed` is called if none of them has taken it."""
        message = call.message
        payload = Request(message.subject, message.reply, message.headers, message.payload, call.account).encode()
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
        self._coming.append(Request.decode(payload))
        if not self._hearing:
            self._hear()

    def _hear(self) -> None:
        requests, self._coming = self._coming, []
        self._hearing = bool(requests)
        if requests:
            self._once_heard(lambda: self._heard_all(requests))

    def _heard_all(self, requests: list[Request]) -> None:
        """Nothing is on its way any more that is as old as these."""
        for request in requests:
            # One that waits here as well would go on to the next server, which can't know.
            if not (request.reply and self._served.since(request, 0)):
                self._clock.call_soon(partial(self._serve, request))
        self._hear()
