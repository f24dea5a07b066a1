"""Servers of a cluster in virtual time: the real engine, store, Raft and streams on a simulated network and disk, no sockets.

Guarantee:  a seed gives the same history each time. A server that says that it must end is started again a second later, as
            its supervisor would.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from streamd import _engine
from streamd._engine import CorruptRecord, Engine
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.core.bus import Bus
from streamd.raft.config import Config
from streamd.raft.host import Host
from streamd.raft.options import Options
from streamd.sim.clock import MS, SECOND, Life, NodeClock, Time
from streamd.sim.disk import Disk
from streamd.sim.network import ORDERED, Network
from streamd.state.limits import Limits
from streamd.store import Sync
from streamd.streams.jetstream import JetStream
from streamd.streams.replication.node import Replication
from streamd.streams.replication.setting_aside import open_member
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from streamd.core.core import Core as RealCore
    from streamd.streams.stream import Stream

INBOX: Final = "_INBOX.world"
RAM: Final = Path("/dev/shm")
ROOM_BYTES: Final = 1 << 30


class Core:
    """An engine without connections."""

    def __init__(self, clock: NodeClock) -> None:
        self.engine = Engine()
        self.bus = Bus(cast("RealCore", self))
        self._clock = clock
        self._planned = False

    def flush_soon(self) -> None:
        """Let taps hear what came."""
        if not self._planned:
            self._planned = True
            self._clock.call_soon(self._flush)

    def _flush(self) -> None:
        self._planned = False
        self.turn(self.engine.flush())

    def turn(self, turn: Any) -> None:
        """Hand batches to those who listen."""
        while turn is not None and turn[1]:
            for kind, ident, _ in turn[1]:
                binding = self.bus.binding_of(ident)
                if kind == _engine.TAP and binding is not None:
                    binding.dispatch()
            turn = self.engine.flush()


class Server:
    """A machine with its disk, and the process on it."""

    def __init__(self, world: World, name: str, directory: Path) -> None:
        self.name = name
        self.disk = Disk(directory / "jetstream", world.rng, world.counts)
        self.directory = directory
        self.answers: list[tuple[str, dict[str, Any]]] = []  # with the subject that they came to
        self.ended: list[str] = []  # why its processes ended by themselves
        self.life = Life()
        self.life.over = True
        self.log = logging.getLogger(f"world.{name}")
        self.clock: NodeClock
        self.core: Core
        self.jetstream: JetStream
        self.replication: Replication
        self._world = world

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return not self.life.over

    @property
    def meta(self) -> bool:
        """Whether it leads the meta group."""
        return self.runs and self.replication.meta.leading

    def start(self) -> Self:
        """A process begins. Errors: StoreError."""
        world = self._world
        self.life = Life()
        clock = self.clock = NodeClock(world.time, self.life)
        self.core = Core(clock)

        jetstream = self.jetstream = open_member(self.disk.directory, self.make, self.log, now=world.stamp)
        node = jetstream.identity or f"{self.name}#{world.rng.getrandbits(60):012x}"
        net = world.network.join(node, clock, self.life)
        host = Host(net, clock, world.rng, jetstream.services.commits.at_rest, options=world.options, log=self.log)
        jetstream.start()
        self.replication = Replication(
            jetstream,
            net,
            host,
            name=self.name,
            cluster=lambda: "C",
            tags=(),
            expected=lambda: frozenset(world.servers),
            echo=self._echo,
            streaming=world.streaming,
            failed=self._failed,
        )
        self.answers.clear()
        for account in (DEFAULT_ACCOUNT, SYSTEM_ACCOUNT):
            self.core.bus.bind([f"{INBOX}.>"], self._heard, account=account)
        return self

    def make(self, directory: Path, *, clustered: bool = True) -> JetStream:
        """What its store holds. Errors: StoreError."""
        directory.mkdir(parents=True, exist_ok=True)
        return JetStream(
            directory,
            self.core.bus,
            self.clock,
            self.log,
            server_name=self.name,
            sync=Sync("always"),
            strict=False,
            limits=Limits(clustered=clustered),
            max_memory_bytes=ROOM_BYTES,
            max_storage_bytes=ROOM_BYTES,
            notify=None,
            store=self.disk.start(self.clock),
        )

    def _echo(self, heard: Callable[[], None]) -> int:
        self.clock.call_soon(heard)
        return 1

    def _failed(self, error: Exception) -> None:
        self.ended.append(str(error))
        self._world.time.after(0, self.kill)
        self._world.time.after(SECOND, self.revive)

    def revive(self) -> None:
        """Start it, unless it runs."""
        if not self.runs:
            self.start()

    def _heard(self, batch: Any) -> None:
        for index in range(len(batch)):
            message = batch[index]
            # A status has no payload.
            answer = json.loads(message.payload) if message.payload else {"status": message.headers.decode().strip()}
            self.answers.append((message.subject, answer))

    def request(
        self, subject: str, body: bytes | dict[str, Any], reply: str, *, account: str = DEFAULT_ACCOUNT
    ) -> None:
        """Publish with a subject of the inbox as reply."""
        payload = json.dumps(body).encode() if isinstance(body, dict) else body
        self.core.bus.publish(subject, payload, reply=reply, account=account)

    def kill(self, *, flip: bool = False) -> None:
        """The power is cut, and maybe bits or sectors of its disk aren't what they were."""
        if not self.life.over:
            self.life.over = True
            self._world.network.leave(self.replication.net.node)
        self.disk.stop(flip=flip)

    def wipe(self) -> None:
        """The power is cut, and an empty disk takes the place of the old one."""
        self.kill()
        shutil.rmtree(self.directory)

    def stream(self, name: str) -> Stream | None:
        """Its copy of a stream."""
        return self.jetstream.streams.get(name)

    def aside(self) -> list[Path]:
        """Stores that it has set aside."""
        return sorted(self.directory.glob("jetstream.damaged-*"))


class World:
    """Servers, all started."""

    def __init__(
        self, seed: int, names: Sequence[str] = "abc", *, streaming: bool = False, tail_bytes: int = 32 << 20
    ) -> None:
        """`tail_bytes`: how much of a group's log is kept for those who are behind."""
        self.rng = random.Random(seed)
        self.time = Time()
        self.counts: Counter[str] = Counter()
        self.network = Network(self.time, self.rng, ORDERED, self.counts)
        self.streaming = streaming
        self._asked = 0
        self.options = Options(tail_bytes=tail_bytes)
        self._directory = Path(tempfile.mkdtemp(prefix="streamd-world-", dir=RAM if RAM.is_dir() else None))
        self.servers = {name: Server(self, name, self._directory / name) for name in names}

    def __enter__(self) -> Self:
        for server in self.servers.values():
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers.values():
            server.kill()
        shutil.rmtree(self._directory)

    def stamp(self) -> float:
        """Seconds, for names of files."""
        return 1_700_000_000 + self.time.now_ns / SECOND

    @property
    def running(self) -> list[Server]:
        """Servers with a process."""
        return [server for server in self.servers.values() if server.runs]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(self.time.now_ns + int(seconds * SECOND))

    def until(self, condition: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
        """Let time pass until something is so, and return it."""
        end_ns = self.time.now_ns + int(seconds * SECOND)
        while not (found := condition()):
            assert self.time.now_ns < end_ns, f"not within {seconds} s: {what or condition}\n{self.told()}"
            self.time.run(self.time.now_ns + 10 * MS)
        return found

    def step_until(self, condition: Callable[[], Any]) -> None:
        """Let as little time pass as that takes."""
        end_ns = self.time.now_ns + SECOND
        while not condition():
            assert self.time.now_ns < end_ns, self.told()
            self.time.run(self.time.now_ns + MS // 10)

    def told(self) -> str:
        """What each server has, for people."""
        lines = []
        for server in self.running:
            groups = {
                name: (each.leading, each.applied, each.group.leader, each.damaged, each.group.config)
                for name, each in server.replication.replicas.items()
            }
            streams = {
                name: (each.state.last_seq, each.group, each.offline, each.partial)
                for name, each in server.jetstream.streams.items()
            }
            meta = server.replication.meta
            lines.append(
                f"{server.name} meta {meta.leading, meta.group.leader, meta.group.config}\n {groups}\n {streams}"
            )
        return "\n".join(lines)

    # who leads

    def meta_leader(self) -> Server | None:
        """Who leads the meta group, if one server does."""
        leaders = [server for server in self.running if server.meta]
        return leaders[0] if len(leaders) == 1 else None

    def leader(self, name: str) -> Server | None:
        """Who leads a stream, if one server does."""
        leaders = [server for server in self.running if (stream := server.stream(name)) is not None and stream.leads]
        return leaders[0] if len(leaders) == 1 else None

    def formed(self) -> bool:
        """Whether all running servers vote, and nobody else is there."""
        leader = self.meta_leader()
        nodes = sorted(server.replication.net.node for server in self.running)
        if leader is None or sorted(each.node for each in leader.replication.meta.state.nodes.values()) != nodes:
            return False
        if any(sorted(server.replication.meta.group.config.voters) != nodes for server in self.running):
            return False
        plans = leader.replication.meta.state.groups
        return all(
            {name_of(voter) for voter in config.voters} == {*plan.names} and {*config.voters} <= {*nodes}
            for plan in plans.values()
            for server in self.running
            if server.name in plan.names
            for config in [self._config(server, plan.name)]
        )

    @staticmethod
    def _config(server: Server, group: str) -> Config:
        replica = server.replication.replicas.get(group)
        return Config() if replica is None else replica.group.config

    # clients

    def ask(
        self, subject: str, body: bytes | dict[str, Any] = b"", *, at: Server | None = None, seconds: float = 5
    ) -> Any:
        """The first answer to a request that every server hears, or one alone; None if none came."""
        servers = self.running if at is None else [at]
        self._asked += 1
        inbox = f"{INBOX}.{self._asked}"
        for server in servers:
            server.answers.clear()
            server.request(subject, body, inbox)
        end_ns = self.time.now_ns + int(seconds * SECOND)
        while self.time.now_ns < end_ns:
            self.time.run(self.time.now_ns + MS)
            for server in self.running:  # a leader that was handed the request answers where it is
                for reply, answer in server.answers:
                    if reply == inbox:
                        return answer
        return None

    def create(self, name: str, replicas: int = 3, **config: Any) -> None:
        """A stream."""
        body = {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas, **config}
        answer = self.ask(f"$JS.API.STREAM.CREATE.{name}", body)
        assert answer is not None, self.told()
        assert "error" not in answer, answer
        self.until(lambda: self.leader(name), what=f"leader of {name}")

    def publish(self, name: str, payload: bytes, seconds: float = 5) -> dict[str, Any] | None:
        """The ack of the leader, or its error; None if there was no leader or no answer."""
        leader = self.leader(name)
        if leader is None:
            return None
        answer: dict[str, Any] | None = self.ask(f"{name}.x", payload, at=leader, seconds=seconds)
        return answer

    def store(self, name: str, count: int, size: int = 20) -> list[bytes]:
        """Publish until so many are acked; returns those, in order."""
        acked: list[bytes] = []
        for number in range(count):

            def stored(number: int = number) -> bytes | None:
                # What wasn't answered may be stored, so each try is another message.
                payload = b"%d of %d at %d " % (number, count, self.time.now_ns) + b"." * size
                answer = self.publish(name, payload, 3)
                return payload if answer is not None and "error" not in answer else None

            acked.append(self.until(stored, 60, f"ack of {number}"))
        return acked

    # what is stored

    @staticmethod
    def content(server: Server, name: str) -> list[bytes]:
        """Records of a server's copy, checked. Errors: CorruptRecord."""
        stream = server.stream(name)
        assert stream is not None
        found: list[bytes] = []
        sequence = 1
        while sequence <= stream.state.last_seq:
            values, covered = stream.read(sequence, 1 << 20, 1 << 30)
            found += values
            sequence = covered + 1
        return found

    def equal(self, name: str) -> bool:
        """Whether all servers that are to have a stream have the same of it: records, rows, and nothing damaged."""
        leader = self.meta_leader()
        if leader is None or (wanted := leader.replication.meta.state.streams.get(name)) is None:
            return False
        copies = []
        for server in self.running:
            stream = server.stream(name)
            if server.name not in wanted.names:
                continue
            if stream is None or stream.offline is not None or stream.partial or stream.group != wanted.group:
                return False
            try:
                copies.append((self.content(server, name), stream.state.last_seq, sorted(stream.rows.items())))
            except CorruptRecord as error:
                stream.damaged(error)  # as it is found by whoever reads it
                return False
        return len(copies) == len(wanted.names) and all(copy == copies[0] for copy in copies)

    def payloads(self, server: Server, name: str) -> list[bytes]:
        """Payloads of a server's copy."""
        return [_engine.record_decode(value).payload for value in self.content(server, name)]
