"""The service in this process without sockets: time that stands still until it is told to go on, commits in line."""

from __future__ import annotations

import heapq
import itertools
import logging
import shutil
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from streamd import _engine
from streamd._engine import Engine
from streamd.core.bus import Bus
from streamd.stan.service import Streaming
from streamd.state.limits import Limits
from streamd.store import Sync
from streamd.streams.jetstream import JetStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    from streamd._engine import Turn
    from streamd.config.streaming import StreamingConfig
    from streamd.core.core import Core

#: More calls than any step causes: something goes round in circles.
CALLS_MAX: Final = 20_000


class Planned:
    """A call at a moment."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class StillClock:
    """A clock that stands until it is told to go on."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._ready: deque[Callable[[], None]] = deque()
        self._planned: list[tuple[int, int, Planned]] = []
        self._numbers = itertools.count()

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> Planned:
        planned = Planned(call)
        heapq.heappush(self._planned, (self._now_ns + max(delay_ns, 0), next(self._numbers), planned))
        return planned

    def call_soon(self, call: Callable[[], None]) -> None:
        self._ready.append(call)

    def run(self) -> None:
        """Until nothing is left to do at this moment."""
        for _ in range(CALLS_MAX):
            if self._ready:
                self._ready.popleft()()
            elif self._planned and self._planned[0][0] <= self._now_ns:
                call = heapq.heappop(self._planned)[2].call
                if call is not None:
                    call()
            else:
                return
        raise AssertionError("it never comes to rest")

    def advance(self, delay_ns: int, look: Callable[[], None]) -> None:
        """Let time pass, from one planned call to the next; `look` after each."""
        until_ns = self._now_ns + delay_ns
        while self._planned and self._planned[0][0] <= until_ns:
            self._now_ns = self._planned[0][0]
            self.run()
            look()
        self._now_ns = until_ns
        look()

    def forget(self) -> None:
        """Whoever planned something has died."""
        self._ready.clear()
        self._planned.clear()


class LocalCore:
    """What the bus needs of the core, without connections."""

    def __init__(self, clock: StillClock) -> None:
        self.engine = Engine()
        self.bus = Bus(cast("Core", self))
        self._clock = clock
        self._flush_planned = False

    def flush_soon(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._clock.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self.turn(self.engine.flush())

    def turn(self, turn: Turn) -> None:
        while turn is not None:
            for kind, ident, _detail in turn[1]:
                binding = self.bus.binding_of(ident)
                if kind == _engine.TAP and binding is not None:
                    binding.dispatch()
            if not turn[1]:
                return
            turn = self.engine.flush()


class LocalService:
    """JetStream and NATS Streaming over a store."""

    def __init__(
        self, directory: Path, clock: StillClock, config: StreamingConfig, sync: Literal["always", "never"]
    ) -> None:
        self.directory = directory
        self.core = LocalCore(clock)
        self._clock = clock
        log = logging.getLogger("tests.stan")
        log.setLevel(logging.CRITICAL)
        options: dict[str, Any] = {"max_memory_bytes": 1 << 30, "max_storage_bytes": 1 << 30}
        directory.mkdir(exist_ok=True)
        self.jetstream = JetStream(
            directory,
            self.core.bus,
            clock,
            log,
            server_name="local",
            sync=Sync(sync),
            strict=False,
            limits=Limits(),
            notify=None,
            **options,
        )
        self.jetstream.start()
        self.streaming = Streaming(self.jetstream, config, log)

    def serve(self) -> None:
        """Go on with what was found in the store."""
        self.streaming.start()
        self._clock.run()

    def stop(self) -> None:
        """As a server that is asked to."""
        self.streaming.close()
        self.jetstream.close()
        self._clock.forget()

    def die(self, image: Path) -> None:
        """The store as it is now goes to `image`; of what this process knows beyond it nothing is kept."""
        shutil.copytree(self.directory, image)
        self._clock.forget()
        self.jetstream.environment.close()
