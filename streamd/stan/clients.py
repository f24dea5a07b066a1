"""Clients: who is connected, whether they still live.

A client of NATS Streaming is an id, not a connection: it lives as long as it answers heartbeats on its inbox.
Source:  nats-streaming-server 0.25.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamd.stan.names import inbox_usable
from streamd.tokens import nuid

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from streamd._engine import Batch, StanPublishers
    from streamd.clock import Clock, Timer
    from streamd.config.streaming import StreamingConfig
    from streamd.core.bus import Bus
    from streamd.stan.group import Group, Member

#: How long a client may take to say that it lives when another one wants its id.
REPLACE_WAIT_NS: Final = 500_000_000
#: A client that pings while it fails its heartbeats is asked again so soon.
ASK_AGAIN_NS: Final = 1_000_000


@dataclass(slots=True)
class Client:
    """One client. Units: ping_interval in seconds, as on the wire."""

    number: int  # its entry on the shelf
    client_id: str
    inbox: str  # where heartbeats go
    conn_id: bytes
    protocol: int
    ping_interval: int
    ping_max_out: int
    failures: int = 0
    subscriptions: dict[str, tuple[Group, Member]] = field(default_factory=dict)  # by ack inbox
    timer: Timer | None = None
    asked: int = 0  # number of the heartbeat that waits for its answer; 0: none

    def entry(self) -> dict[str, Any]:
        """Its stored form."""
        return {
            "client_id": self.client_id,
            "inbox": self.inbox,
            "conn_id": self.conn_id.hex(),
            "protocol": self.protocol,
            "ping_interval": self.ping_interval,
            "ping_max_out": self.ping_max_out,
        }

    @classmethod
    def restored(cls, number: int, entry: dict[str, Any]) -> Client:
        """From its stored form."""
        return cls(
            number,
            entry["client_id"],
            entry["inbox"],
            bytes.fromhex(entry["conn_id"]),
            entry["protocol"],
            entry["ping_interval"],
            entry["ping_max_out"],
        )


class Clients:
    """The registry, and the heartbeats of those who are in it."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        config: StreamingConfig,
        publishers: StanPublishers,
        log: logging.Logger,
        lost: Callable[[Client], None],
    ) -> None:
        """`lost`: a client has failed its heartbeats once too often."""
        self.by_id: dict[str, Client] = {}
        self.by_conn_id: dict[bytes, Client] = {}
        self._bus = bus
        self._clock = clock
        self._config = config
        self._publishers = publishers
        self._log = log
        self._lost = lost
        self._inbox = f"_INBOX.{nuid()}"
        self._binding = bus.bind([f"{self._inbox}.*"], self._on_answers)
        self._questions = 0
        self._waiting: dict[int, Callable[[], None]] = {}  # by question: what an answer does
        self._examinations: set[Timer] = set()

    # who is there

    def add(self, client: Client) -> None:
        """Register a client whose id is free, and begin its heartbeats."""
        self.by_id[client.client_id] = client
        if client.conn_id:
            self.by_conn_id[client.conn_id] = client
        self._publishers.add(client.client_id, client.conn_id)
        self._plan(client, self._config.hb_interval_ns)

    def remove(self, client: Client) -> None:
        """Forget a client."""
        if self.by_id.get(client.client_id) is client:
            del self.by_id[client.client_id]
        if self.by_conn_id.get(client.conn_id) is client:
            del self.by_conn_id[client.conn_id]
        self._publishers.remove(client.client_id, client.conn_id)
        if client.timer is not None:
            client.timer.cancel()
            client.timer = None
        self._waiting.pop(client.asked, None)

    def holds(self, client: Client) -> bool:
        """Whether it is still registered."""
        return self.by_id.get(client.client_id) is client

    def close(self) -> None:
        """The server stops, or serves no more."""
        for client in self.by_id.values():
            if client.timer is not None:
                client.timer.cancel()
        for timer in self._examinations:
            timer.cancel()
        self._waiting.clear()
        self._binding.close()

    # heartbeats

    def _ask(self, client: Client, answered: Callable[[], None]) -> int:
        """Send an empty request to a client. Returns its number, 0 if nobody listens there."""
        self._questions += 1
        question = self._questions
        if not inbox_usable(client.inbox):
            return 0
        receivers = self._bus.publish(client.inbox, b"", reply=f"{self._inbox}.{question}")
        if not receivers:
            return 0
        self._waiting[question] = answered
        return question

    def _on_answers(self, batch: Batch) -> None:
        for index in range(len(batch)):
            token = batch[index].subject.rpartition(".")[2]
            answered = self._waiting.pop(int(token), None) if token.isascii() and token.isdigit() else None
            if answered is not None:
                answered()

    def _plan(self, client: Client, delay_ns: int) -> None:
        if client.timer is not None:
            client.timer.cancel()
        client.timer = self._clock.call_later(delay_ns, lambda: self._heartbeat(client))

    def _heartbeat(self, client: Client) -> None:
        client.timer = None

        def answered() -> None:
            client.asked = 0
            self._set_failures(client, 0)
            for group, member in client.subscriptions.values():
                group.set_present(member)
            self._plan(client, self._config.hb_interval_ns)

        client.asked = self._ask(client, answered)
        if client.asked:
            client.timer = self._clock.call_later(self._config.hb_timeout_ns, lambda: self._silent(client))
        else:
            self._silent(client)

    def _silent(self, client: Client) -> None:
        """A heartbeat was not answered."""
        client.timer = None
        self._waiting.pop(client.asked, None)
        client.asked = 0
        self._set_failures(client, client.failures + 1)
        if client.failures > self._config.hb_fail_count:
            self._log.error("STREAM: [Client:%s] Timed out on heartbeats", client.client_id)
            self._lost(client)
        else:
            self._plan(client, self._config.hb_interval_ns)

    def _set_failures(self, client: Client, failures: int) -> None:
        changed = (client.failures > 0) != (failures > 0)
        client.failures = failures
        if changed:
            for group, member in client.subscriptions.values():
                group.set_failing(member, failures > 0)
                group.wake()

    def pinged(self, client: Client) -> None:
        """The client asked whether it is registered: one that is thought silent is asked anew at once."""
        if client.failures and not client.asked:
            self._plan(client, ASK_AGAIN_NS)

    def examine(self, client: Client, alive: Callable[[], None], dead: Callable[[], None]) -> None:
        """Find out whether a client lives: one of the calls follows within half a second."""
        question = 0

        def overdue() -> None:
            self._examinations.discard(timer)
            if self._waiting.pop(question, None) is not None:
                dead()

        timer = self._clock.call_later(REPLACE_WAIT_NS, overdue)
        self._examinations.add(timer)

        def over(call: Callable[[], None]) -> None:
            timer.cancel()
            self._examinations.discard(timer)
            call()

        question = self._ask(client, lambda: over(alive))
        if not question:
            over(dead)
