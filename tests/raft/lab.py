"""One node of a group whose peers are played by the test."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from streamd.raft import Host, Options, envelope
from streamd.raft.envelope import CONFIG, NO_OP, REGULAR, Entry, Frame, Kind, Message
from tests.raft.doubles import MS, Disk, NodeClock, World
from tests.raft.quick import quick

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamd.raft.net import NodeId

ME = "a"


def regular(term: int, text: str = "x") -> Entry:
    """A command as an entry."""
    return term, bytes((REGULAR,)) + text.encode()


def no_op(term: int) -> Entry:
    """What a leader begins with."""
    return term, bytes((NO_OP,))


class Recorder:
    """A machine that notes what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, bytes]] = []
        self.leaders: list[NodeId] = []  # of `behind`
        self.roles = 0

    def committed(self, index: int, term: int, command: bytes) -> None:
        self.entries.append((index, term, command))

    def role_changed(self) -> None:
        self.roles += 1

    def behind(self, leader: NodeId) -> None:
        self.leaders.append(leader)


class Lab:
    """Node "a" and its group "g", everyone linked; the others say what the test lets them."""

    def __init__(
        self,
        voters: Sequence[NodeId] = ("a", "b", "c"),
        *,
        options: Options | None = None,
        seed: int = 1,
        host: Callable[..., Host] = Host,
    ) -> None:
        self.world = World(seed)
        self.disk = Disk(self.world, {})
        self.disk.latency_ns = (MS, MS)
        self.disk.clock = self.clock = NodeClock(self.world, 0)
        self.node = ME
        self.peers = set(voters) - {ME}
        self.frames: list[Frame] = []
        self._handler: Callable[[bytes], None]
        self._link: Callable[[NodeId, bool], None]
        self._make_host = host
        self.voters = voters
        self.options = options or quick()
        self.machine = Recorder()
        self.open()
        self.group.bootstrap(voters)
        self.run()

    def open(self, applied: int = 0) -> None:
        """A life of the node begins."""
        self.host = self._make_host(
            self,
            self.clock,
            random.Random(1),
            self.disk.at_rest,
            options=self.options,
            log=logging.getLogger("raft"),
        )
        self.group = self.host.open("g", self.disk.storage("g"), self.machine, applied)

    def restart(self, applied: int = 0) -> None:
        """Everything that isn't on the disk is gone."""
        self.clock.alive = False
        self.host.close()
        self.disk.crash()
        self.disk.clock = self.clock = NodeClock(self.world, 0)
        self.frames.clear()
        self.machine = Recorder()
        self.open(applied)

    # Net

    def send(self, to: NodeId, *pieces: bytes) -> None:
        frame = envelope.decode(b"".join(pieces))
        assert frame is not None
        assert frame.receiver == to
        self.frames.append(frame)

    def flush(self) -> None:
        pass

    def on_frame(self, handler: Callable[[bytes], None]) -> None:
        self._handler = handler

    def on_link(self, handler: Callable[[NodeId, bool], None]) -> None:
        self._link = handler

    def linked(self) -> set[NodeId]:
        return set(self.peers)

    def call(self, *args: object, **more: object) -> None:
        raise NotImplementedError

    def serve(self, *args: object) -> None:
        raise NotImplementedError

    # what the test does

    def run(self, ms: float = 5) -> None:
        """Let time pass."""
        self.world.run(int(ms * MS))

    def get(self, sender: NodeId, *messages: Message) -> None:
        """Messages of a peer arrive, and are acted on at once."""
        self._handler(envelope.encode(sender, ME, [message.encode() for message in messages]))
        self.world.run(0)

    def append(
        self,
        sender: NodeId,
        term: int,
        prev: int,
        prev_term: int,
        *entries: Entry,
        commit: int = 0,
        round_: int = 0,
    ) -> None:
        """An append arrives."""
        self.get(sender, Message(Kind.APPEND, "g", term, prev, prev_term, commit, round_, entries))

    def sent(self, *kinds: Kind) -> list[tuple[NodeId, Message]]:
        """Take what was sent since this was called last, of these kinds."""
        frames, self.frames = self.frames, []
        messages = [(frame.receiver, message) for frame in frames for message in frame.messages]
        return [(to, message) for to, message in messages if not kinds or message.kind in kinds]

    def lead(self) -> None:
        """Let the node be elected, and its no-op be committed."""
        assert self.until(lambda: bool(self.sent(Kind.PREVOTE)))
        nonce = self.group.replica.elections._prevote._round
        for peer in sorted(self.peers):
            self.get(peer, Message(Kind.PREVOTED, "g", self.group.term, round=nonce))
        self.run()
        for peer in sorted(self.peers):
            self.get(peer, Message(Kind.VOTED, "g", self.group.term))
        self.run()
        self.ack()
        assert self.group.leading
        self.sent()

    def ack(self, index: int | None = None, *peers: NodeId) -> None:
        """These, or all, have everything, or up to an entry, in the current term."""
        at = self.group.last_index if index is None else index
        round_ = self.group.replica.reads.round
        for peer in peers or sorted(self.peers):
            self.get(peer, Message(Kind.APPENDED, "g", self.group.term, at, round=round_))

    def until(self, condition: Callable[[], bool], ms: float = 3000) -> bool:
        """Let time pass until something holds."""
        return self.world.run(int(ms * MS), condition)

    def log(self) -> list[int]:
        """The terms of the entries, from the base on."""
        terms = self.group.replica.journal.terms
        return [terms.at(index) for index in range(terms.base, terms.last + 1)]


__all__ = ["CONFIG", "ME", "NO_OP", "Kind", "Lab", "Message", "Recorder", "no_op", "regular"]
