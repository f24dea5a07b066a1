"""The network between nodes: delays, losses, duplicates, partitions, and news of links that may be late or never come.

Guarantee:  a frame or call reaches the node it was sent to or nobody; what is sent while a way is cut is lost; a call is
            answered once, if only by its timeout; an answer to a call of a process that has ended is heard by nobody.
Model:      a link between two processes comes up a while after both can reach each other. When it breaks, each side is told
            at once, late, or not at all; a side that was not told goes on sending into it. In ordered weather frames keep
            their order and those of a broken link are gone; otherwise they overtake each other and outlive links.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from streamd.sim.clock import MS

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.sim.clock import Life, NodeClock, Time

#: How long after it could be there a link is there.
CONNECT_MS: Final = (1, 60)
#: News of a broken link: (probability of at once, of late), and when late is.
NEWS: Final = (0.45, 0.35)
LATE_MS: Final = (100, 3_000)
#: How often a piece of a stream has to be sent again, and how long that takes.
AGAIN: Final = 0.02
AGAIN_MS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to frames, as probabilities and milliseconds."""

    ordered: bool = False
    loss: float = 0.05
    duplicates: float = 0.05
    late: float = 0.10
    late_ms: float = 300.0
    delay_ms: tuple[float, float] = (0.1, 3.0)


ORDERED: Final = Weather(ordered=True, loss=0.0, duplicates=0.0, late=0.02, late_ms=40.0)
CHAOS: Final = Weather()


def machine(node: NodeId) -> str:
    """The machine that an incarnation lives on."""
    return node.partition("#")[0]


class SimNet:
    """The `Net` of one process."""

    def __init__(self, network: Network, node: NodeId, clock: NodeClock, life: Life) -> None:
        self.node = node
        self.life = life
        self._network = network
        self._clock = clock
        self._frames: Callable[[bytes], None] = lambda data: None
        self._services: dict[str, Callable[[NodeId, bytes, Callable[[bytes], None]], None]] = {}
        self._waiting: dict[int, Callable[[bytes | None], None]] = {}
        self._watchers: list[Callable[[NodeId, bool], None]] = []
        self._linked: dict[NodeId, None] = {}
        self._connections: Callable[[NodeId, int | None], None] = lambda node, number: None
        self._streams: Callable[[NodeId, int, bytes], None] = lambda node, number, data: None

    def send(self, to: NodeId, *pieces: bytes) -> None:
        """A frame, which may be lost."""
        data = b"".join(pieces)
        if to in self._linked:
            self._network.carry(self, to, lambda net: net._frames(data))

    def flush(self) -> None:
        """What was sent is on its way."""

    def on_frame(self, handler: Callable[[bytes], None]) -> None:
        """Where frames go."""
        self._frames = handler

    def call(
        self, to: NodeId, what: str, payload: bytes, done: Callable[[bytes | None], None], *, timeout_ns: int
    ) -> None:
        """A question; `done` hears the answer, or None."""
        number = next(self._network.calls)
        self._waiting[number] = done
        self._clock.call_later(timeout_ns, lambda: self._answered(number, None))
        if to in self._linked:
            self._network.carry(self, to, lambda net: net._asked(self.node, number, what, payload))

    def serve(self, what: str, handler: Callable[[NodeId, bytes, Callable[[bytes], None]], None]) -> None:
        """Who answers."""
        self._services[what] = handler

    def linked(self) -> set[NodeId]:
        """Whom this node believes to be connected with."""
        return set(self._linked)

    def on_link(self, handler: Callable[[NodeId, bool], None]) -> None:
        """Who hears of links that come and go."""
        self._watchers.append(handler)

    def on_stream(
        self, connections: Callable[[NodeId, int | None], None], data: Callable[[NodeId, int, bytes], None]
    ) -> None:
        """Who uses the connections behind links as streams: hears of a new one (its number) or that there is none, and of
        what comes on them."""
        self._connections, self._streams = connections, data

    def stream(self, to: NodeId, number: int, data: bytes) -> None:
        """Send on a connection: everything arrives in order, or nothing more once it is broken."""
        self._network.stream(self, to, number, data)

    def connected(self, node: NodeId, number: int | None) -> None:
        """The network's news of a connection."""
        self._connections(node, number)
        self.tell(node, number is not None)

    def tell(self, node: NodeId, up: bool) -> None:
        """The network's news of a link."""
        if up == (node in self._linked):
            return
        if up:
            self._linked[node] = None
        else:
            del self._linked[node]
        for watcher in self._watchers:
            watcher(node, up)

    def _asked(self, asker: NodeId, number: int, what: str, payload: bytes) -> None:
        handler = self._services.get(what)
        if handler is not None:
            handler(asker, payload, partial(self._answer, asker, number))

    def _answer(self, asker: NodeId, number: int, payload: bytes) -> None:
        if asker in self._linked and not self.life.over:
            self._network.carry(self, asker, lambda net: net._answered(number, payload))

    def _answered(self, number: int, payload: bytes | None) -> None:
        done = self._waiting.pop(number, None)
        if done is not None:
            done(payload)


class Network:
    """All links, and what befalls them."""

    def __init__(self, time: Time, rng: random.Random, weather: Weather, counts: Counter[str]) -> None:
        self.weather = weather
        self.nets: dict[NodeId, SimNet] = {}
        #: Numbers of calls: no two processes of a node have the same.
        self.calls = count(1)
        self._time = time
        self._rng = rng
        self._counts = counts
        self._cut: set[tuple[str, str]] = set()  # ways between machines on which nothing gets through
        self._links: dict[tuple[NodeId, NodeId], int] = {}  # that are up: the number of their connection
        self._number = 0
        self._last: dict[tuple[NodeId, NodeId], int] = {}  # when the last frame arrives, in ordered weather
        self._streams: dict[tuple[NodeId, NodeId], int] = {}  # when the last piece of a stream arrives
        self._held: list[tuple[SimNet, NodeId, int, bytes]] = []  # pieces of streams that wait for their way

    # processes

    def join(self, node: NodeId, clock: NodeClock, life: Life) -> SimNet:
        """A process starts; its links come up by themselves."""
        net = self.nets[node] = SimNet(self, node, clock, life)
        for other in self.nets:
            if other != node:
                self._connect_soon(node, other)
        return net

    def leave(self, node: NodeId) -> None:
        """A process has ended."""
        del self.nets[node]
        for other in self.nets:
            self._break(node, other)

    # ways

    def cut(self, ways: list[tuple[str, str]], *, breaks: bool) -> None:
        """Nothing gets through these ways from now on. `breaks`: links over them end, rather than hang; in ordered weather
        they always do, as a stream has no holes."""
        self._cut.update(ways)
        if breaks or self.weather.ordered:
            for a, b in list(self._links):
                if (machine(a), machine(b)) in self._cut or (machine(b), machine(a)) in self._cut:
                    self._break(a, b)

    def heal(self) -> None:
        """All ways are open."""
        self._cut.clear()
        held, self._held = self._held, []
        for piece in held:
            self.stream(*piece)
        nodes = list(self.nets)
        for place, a in enumerate(nodes):
            for b in nodes[place + 1 :]:
                self._connect_soon(a, b)

    def open(self, a: NodeId, b: NodeId) -> bool:
        """Whether both ways between two nodes are open."""
        return not {(machine(a), machine(b)), (machine(b), machine(a))} & self._cut

    def _connect_soon(self, a: NodeId, b: NodeId) -> None:
        delay_ns = self._rng.randint(*CONNECT_MS) * MS
        self._time.after(delay_ns, lambda: self._connect(a, b))

    def _connect(self, a: NodeId, b: NodeId) -> None:
        if a not in self.nets or b not in self.nets or not self.open(a, b) or _pair(a, b) in self._links:
            return
        self._number += 1
        self._links[_pair(a, b)] = self._number
        for here, there in ((a, b), (b, a)):
            net = self.nets[here]
            self._time.after(0, partial(self._told, net, there, self._number), net.life)

    def _told(self, net: SimNet, node: NodeId, number: int) -> None:
        if self._links.get(_pair(net.node, node)) == number:
            net.connected(node, number)

    def _break(self, a: NodeId, b: NodeId) -> None:
        if self._links.pop(_pair(a, b), None) is None:
            return
        self._counts["links broken"] += 1
        for here, there in ((a, b), (b, a)):
            net = self.nets.get(here)
            draw = self._rng.random()
            if draw < NEWS[0]:
                delay_ns = self._rng.randint(0, 5) * MS
            elif draw < NEWS[0] + NEWS[1]:
                delay_ns = self._rng.randint(*LATE_MS) * MS
            else:
                continue
            if net is not None:
                self._time.after(delay_ns, partial(self._lost, net, there), net.life)

    def _lost(self, net: SimNet, node: NodeId) -> None:
        if _pair(net.node, node) not in self._links:
            net.connected(node, None)

    # frames

    def carry(self, sender: SimNet, to: NodeId, deliver: Callable[[SimNet], None]) -> None:
        """Bring something to a node, later, or twice, or not at all."""
        weather, rng = self.weather, self._rng
        number = self._links.get(_pair(sender.node, to))
        cut = (machine(sender.node), machine(to)) in self._cut or (weather.ordered and number is None)
        if cut or to not in self.nets or rng.random() < weather.loss:
            self._counts["frames lost"] += 1
            return
        self._counts["frames"] += 1
        for _ in range(2 if rng.random() < weather.duplicates else 1):
            delay_ns = int(rng.uniform(*weather.delay_ms) * MS)
            if rng.random() < weather.late:
                delay_ns += int(rng.random() * weather.late_ms * MS)
            arrives_ns = self._time.now_ns + delay_ns
            if weather.ordered:
                way = (sender.node, to)
                arrives_ns = self._last[way] = max(arrives_ns, self._last.get(way, 0))
            else:
                number = None  # it outlives the link
            self._time.at(arrives_ns, partial(self._arrive, sender.node, to, number, deliver))

    def _arrive(self, sender: NodeId, to: NodeId, number: int | None, deliver: Callable[[SimNet], None]) -> None:
        if number is not None and self._links.get(_pair(sender, to)) != number:
            return
        net = self.nets.get(to)
        if net is None:
            return
        if net.life.paused_until_ns > self._time.now_ns:
            # Behind what the process has missed already: the news of a connection comes before what comes on it.
            self._time.at(self._time.now_ns, lambda: deliver(net), net.life)
        else:
            deliver(net)

    # streams

    def stream(self, sender: SimNet, to: NodeId, number: int, data: bytes) -> None:
        """Bring a piece of a stream to a node, behind those before; later, if there is no way now."""
        if self._links.get(_pair(sender.node, to)) != number:
            return
        if (machine(sender.node), machine(to)) in self._cut:
            self._held.append((sender, to, number, data))
            return
        delay_ms = self._rng.uniform(*self.weather.delay_ms)
        if self._rng.random() < AGAIN:
            delay_ms += AGAIN_MS
        way = (sender.node, to)
        arrives_ns = self._streams[way] = max(self._time.now_ns + int(delay_ms * MS), self._streams.get(way, 0))
        self._time.at(
            arrives_ns, partial(self._arrive, sender.node, to, number, partial(_streamed, sender, number, data))
        )


def _streamed(sender: SimNet, number: int, data: bytes, net: SimNet) -> None:
    net._streams(sender.node, number, data)


def _pair(a: NodeId, b: NodeId) -> tuple[NodeId, NodeId]:
    return (a, b) if a < b else (b, a)
