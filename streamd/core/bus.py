"""The service bus: how everything in Python that is not a client hears and speaks.

A service binds subjects to a handler and publishes through the bus. It receives batches, one call for all that one read
brought, never one call a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from streamd._engine import Batch, Engine
    from streamd.core.core import Core


class Binding:
    """Subjects whose messages go to one handler. With `on_ready` instead the owner takes them when it wants."""

    __slots__ = ("_bus", "_subjects", "account", "handler", "on_filling", "on_ready", "tap")

    def __init__(
        self,
        bus: Bus,
        account: str,
        tap: int,
        handler: Callable[[Batch], None] | None,
        on_ready: Callable[[], None] | None,
        on_filling: Callable[[], None] | None = None,
    ) -> None:
        self._bus = bus
        self._subjects: tuple[str, ...] = ()  # few, and a set has 216 bytes: there are several bindings a stream
        self.account = account
        self.tap = tap
        self.handler = handler
        self.on_ready = on_ready
        self.on_filling = on_filling

    def set_subjects(self, subjects: Iterable[str], queue: str | None = None) -> None:
        """Bind exactly these subjects. Errors: ValueError for a malformed one, before anything changes there."""
        wanted, bound = set(subjects), set(self._subjects)
        for subject in wanted - bound:
            self._bus.engine.tap_add(self.tap, subject, queue)
        for subject in bound - wanted:
            self._bus.engine.tap_remove(self.tap, subject)
        self._subjects = tuple(wanted)

    def take(self, limit_bytes: int = 0) -> Batch | None:
        """What has arrived, oldest first; None if nothing has."""
        return self._bus.engine.take(self.tap, limit_bytes)

    def dispatch(self) -> None:
        """Called by the core once the tap has something."""
        if self.on_ready is not None:
            self.on_ready()
        elif self.handler is not None:
            batch = self._bus.engine.take(self.tap, 0)
            if batch is not None:
                self.handler(batch)

    def close(self) -> None:
        """Unbind everything; what has not been taken is gone."""
        self._bus.unbind(self)


class Watch:
    """Whether clients listen on a literal subject, and a call when that changes."""

    __slots__ = ("_bus", "changed", "watch")

    def __init__(self, bus: Bus, watch: int, changed: Callable[[bool], None]) -> None:
        self._bus = bus
        self.watch = watch
        self.changed = changed

    @property
    def interested(self) -> bool:
        """The state now."""
        return self._bus.engine.interested(self.watch)

    def close(self) -> None:
        """Stop watching."""
        self._bus.unwatch(self)


class Bus:
    """Binds, watches and publishes for the services of a server."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.engine: Engine = core.engine
        self._bindings: dict[int, Binding] = {}
        self._watches: dict[int, Watch] = {}
        self._drained: dict[int, list[Callable[[], None]]] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server."""
        return self._core.loop

    def bind(
        self,
        subjects: Iterable[str],
        handler: Callable[[Batch], None],
        *,
        account: str = "$G",
        queue: str | None = None,
    ) -> Binding:
        """Call `handler` with every batch that arrives on the subjects."""
        return self._bind(subjects, account, queue, handler, None)

    def collect(
        self,
        subjects: Iterable[str],
        on_ready: Callable[[], None],
        *,
        account: str = "$G",
        on_filling: Callable[[], None] | None = None,
    ) -> Binding:
        """Call `on_ready` once when something has arrived, and `on_filling` once when much has; the owner calls `take` at
        its own pace."""
        return self._bind(subjects, account, None, None, on_ready, on_filling)

    def sink(self, subjects: Iterable[str], *, account: str = "$G") -> Binding:
        """Count as a responder on the subjects and drop what arrives."""
        tap = self.engine.tap(account, discard=True)
        binding = Binding(self, account, tap, None, None)
        binding.set_subjects(subjects)
        return binding

    def _bind(
        self,
        subjects: Iterable[str],
        account: str,
        queue: str | None,
        handler: Callable[[Batch], None] | None,
        on_ready: Callable[[], None] | None,
        on_filling: Callable[[], None] | None = None,
    ) -> Binding:
        tap = self.engine.tap(account)
        binding = Binding(self, account, tap, handler, on_ready, on_filling)
        self._bindings[tap] = binding
        binding.set_subjects(subjects, queue)
        return binding

    def unbind(self, binding: Binding) -> None:
        """Forget a binding."""
        self.engine.untap(binding.tap)
        self._bindings.pop(binding.tap, None)

    def watch(
        self, subject: str, changed: Callable[[bool], None], *, queue: str | None = None, account: str = "$G"
    ) -> Watch:
        """Call `changed` whenever interest of clients in a literal subject comes or goes."""
        watch = Watch(self, self.engine.watch(account, subject, queue), changed)
        self._watches[watch.watch] = watch
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch."""
        self.engine.unwatch(watch.watch)
        self._watches.pop(watch.watch, None)

    def when_drained(self, conn: int, call: Callable[[], None]) -> None:
        """Call once when the client's pending output has fallen, or the client has gone."""
        self._drained.setdefault(conn, []).append(call)
        self.engine.notify_drained(conn)

    def publish(
        self,
        subject: str,
        payload: bytes | Sequence[bytes],
        *,
        reply: str = "",
        headers: bytes = b"",
        account: str = "$G",
    ) -> int:
        """Publish as the server, a payload in one piece or in several. Returns how many took it. The output leaves at the end
        of this loop callback."""
        receivers = self.engine.publish(account, subject, payload, reply=reply, headers=headers)
        self._core.flush_soon()
        return receivers

    def heard(self, subject: str, *, account: str = "$G") -> bool:
        """Whether anybody takes what is published on a subject: for what is costly to make."""
        return self.engine.heard(account, subject)

    def flush(self) -> None:
        """Let what the engine holds leave now."""
        self._core.turn(self.engine.flush())

    def flush_soon(self) -> None:
        """Let what the engine holds leave at the end of this loop iteration."""
        self._core.flush_soon()

    # the core's side

    def binding_of(self, tap: int) -> Binding | None:
        """The binding of a tap, None if it has gone."""
        return self._bindings.get(tap)

    def interest_changed(self, watch: int, interested: bool) -> None:
        """Pass an INTEREST event on."""
        entry = self._watches.get(watch)
        if entry is not None:
            entry.changed(interested)

    def drained(self, conn: int) -> None:
        """Pass a DRAINED event on."""
        for call in self._drained.pop(conn, ()):
            call()
