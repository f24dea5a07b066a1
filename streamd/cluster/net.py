"""What nodes say to each other, over subjects of the system account: Raft's frames and calls.

In the walk:  `$SD.RAFT.<incarnation>` takes a node's frames, `$SD.CALL.<incarnation>.<what>` its calls, whose answers come
              to `$SD.REPLY.<caller's incarnation>.<its process>.<number>`.
Guarantee:    a node is linked once its lane carries and its interest has come, so that what is sent from then on arrives;
              the end of the lane is told at once and fails the calls that wait. A call hears no answer but its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.tokens import token

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable

    from streamd._engine import Batch
    from streamd.core.bus import Bus, Watch
    from streamd.raft.net import Data, NodeId

    Answer = Callable[[bytes], None]
    Handler = Callable[[NodeId, bytes, Answer], None]

SYSTEM_ACCOUNT: Final = "$SYS"
_FRAMES: Final = "$SD.RAFT."
_CALLS: Final = "$SD.CALL."
_REPLIES: Final = "$SD.REPLY."
#: Never asked: interest in it says that the node hears calls.
_PRESENT: Final = "present"
#: What tells the processes of one node apart.
PROCESS_CHARS: Final = 8


def incarnation_of(node: NodeId) -> str:
    """The part of a node id that subjects carry: names may hold dots."""
    return node.rpartition("#")[2]


class _Link:
    """What is known of another node."""

    def __init__(self, node: NodeId, lane: bool) -> None:
        self.node = node
        self.lane = lane
        self.watches: tuple[Watch, ...] = ()
        self.up = False


class _Call:
    """One that waits for its answer."""

    def __init__(self, to: NodeId, done: Callable[[bytes | None], None], timer: asyncio.TimerHandle) -> None:
        self.to = to
        self.done = done
        self.timer = timer


class SubjectNet:
    """The network of a node, as streamd.raft.net has it."""

    def __init__(self, bus: Bus, node: NodeId, log: logging.Logger) -> None:
        self.node = node
        self._bus = bus
        self._log = log
        self._loop = bus.loop
        self._own = incarnation_of(node)
        # Who is asked may answer once the asker has been started again: it is the same node, and counts its calls anew.
        self._replies = f"{_REPLIES}{self._own}.{token(PROCESS_CHARS)}."
        self._links: dict[str, _Link] = {}  # by incarnation
        self._calls: dict[int, _Call] = {}
        self._count = 0
        self._frame: Callable[[Data], None] | None = None
        self._handlers: dict[str, Handler] = {}
        self._link_handlers: list[Callable[[NodeId, bool], None]] = []
        bus.bind([_FRAMES + self._own], self._on_frames, account=SYSTEM_ACCOUNT)
        bus.bind([f"{_CALLS}{self._own}.>"], self._on_calls, account=SYSTEM_ACCOUNT)
        bus.bind([f"{self._replies}*"], self._on_replies, account=SYSTEM_ACCOUNT)

    # streamd.raft.net.Net

    def send(self, to: NodeId, *pieces: bytes) -> None:
        """Send a frame, perhaps."""
        self._bus.publish(_FRAMES + incarnation_of(to), pieces, account=SYSTEM_ACCOUNT)

    def flush(self) -> None:
        """Have what was sent leave now."""
        self._bus.flush()

    def on_frame(self, handler: Callable[[Data], None]) -> None:
        """Who gets the frames that come."""
        self._frame = handler

    def call(
        self, to: NodeId, what: str, payload: bytes, done: Callable[[bytes | None], None], *, timeout_ns: int
    ) -> None:
        """Ask a node; `done` hears the answer, or None. It is never called before this returns."""
        self._count += 1
        number = self._count
        timer = self._loop.call_later(timeout_ns / 1e9, self._answered, number, None)
        self._calls[number] = _Call(to, done, timer)
        subject, reply = f"{_CALLS}{incarnation_of(to)}.{what}", f"{self._replies}{number}"
        if not self._bus.publish(subject, payload, reply=reply, account=SYSTEM_ACCOUNT):
            self._loop.call_soon(self._answered, number, None)

    def serve(self, what: str, handler: Handler) -> None:
        """Who answers a kind of call."""
        self._handlers[what] = handler

    def linked(self) -> set[NodeId]:
        """The nodes that can be reached now."""
        return {link.node for link in self._links.values() if link.up}

    def on_link(self, handler: Callable[[NodeId, bool], None]) -> None:
        """Who is told that a node came or went."""
        self._link_handlers.append(handler)

    # the cluster's side

    def lane(self, node: NodeId, *, up: bool) -> None:
        """The lane to a node carries from now on, or has gone."""
        incarnation = incarnation_of(node)
        link = self._links.get(incarnation)
        if up:
            if link is None:
                link = self._links[incarnation] = _Link(node, lane=True)
                subjects = (_FRAMES + incarnation, f"{_CALLS}{incarnation}.{_PRESENT}")
                link.watches = tuple(
                    self._bus.watch(subject, lambda _: self._judge(incarnation), account=SYSTEM_ACCOUNT)
                    for subject in subjects
                )
            self._judge(incarnation)
        elif link is not None:
            link.lane = False
            self._judge(incarnation)
            for watch in link.watches:
                watch.close()
            self._links.pop(incarnation, None)

    def _judge(self, incarnation: str) -> None:
        """Whether a node is linked may have changed."""
        link = self._links.get(incarnation)
        if link is None:
            return
        up = link.lane and all(watch.interested for watch in link.watches)
        if up == link.up:
            return
        link.up = up
        self._log.debug("node %s is %s", link.node, "linked" if up else "not linked any more")
        if not up:
            for number in [number for number, call in self._calls.items() if call.to == link.node]:
                self._answered(number, None)
        for handler in self._link_handlers:
            handler(link.node, up)

    # what comes

    def _on_frames(self, batch: Batch) -> None:
        if self._frame is not None:
            for payload in batch.payloads():
                self._frame(payload)

    def _on_calls(self, batch: Batch) -> None:
        prefix = len(f"{_CALLS}{self._own}.")
        for index in range(len(batch)):
            message = batch[index]
            handler = self._handlers.get(message.subject[prefix:])
            caller = self._node_of(message.reply)
            if handler is None or caller is None:
                self._log.debug("call %s to %s is not answered", message.subject, message.reply)
                continue
            handler(caller, message.payload, self._answer_to(message.reply))

    def _answer_to(self, reply: str) -> Answer:
        def answer(payload: bytes) -> None:
            self._bus.publish(reply, payload, account=SYSTEM_ACCOUNT)

        return answer

    def _node_of(self, reply: str) -> NodeId | None:
        """Who called, by its inbox."""
        incarnation = reply.removeprefix(_REPLIES).partition(".")[0]
        if incarnation == self._own:
            return self.node
        link = self._links.get(incarnation)
        return None if link is None else link.node

    def _on_replies(self, batch: Batch) -> None:
        for index in range(len(batch)):
            message = batch[index]
            number = message.subject.rpartition(".")[2]
            if number.isdigit():
                self._answered(int(number), message.payload)

    def _answered(self, number: int, payload: bytes | None) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.timer.cancel()
            call.done(payload)
