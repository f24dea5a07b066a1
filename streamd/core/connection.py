"""One client.

Not here: what a CONNECT may do (core).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from streamd.core.access import NOBODY
from streamd.core.link import Link

if TYPE_CHECKING:
    from streamd.core.core import Core
    from streamd.core.info import Connect

#: The first PING comes early, as it measures the round trip.
FIRST_PING_SECONDS: Final = 2.0


class Connection(Link):
    """A client's link."""

    __slots__ = ("client_ip", "connect", "login", "started_ns")

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.connect: Connect | None = None
        self.login = NOBODY
        self.started_ns = time.time_ns()
        self.client_ip = ""

    def opened(self) -> None:
        """Be greeted, or refused."""
        peer = self.transport.get_extra_info("peername")
        self.client_ip = peer[0] if isinstance(peer, tuple) else ""
        self.core.admit(self)

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client, as seen here."""
        peer = self.transport.get_extra_info("peername")
        return (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)

    def lost(self) -> None:
        """Be forgotten."""
        self.core.forget(self)

    def on_connect(self, text: bytes) -> None:
        """Be judged."""
        self.core.judge(self, text)

    def on_stall(self) -> None:
        """Stop reading for a moment, unless the configuration is against it."""
        if self.core.limits.producer_stall:
            super().on_stall()

    def ping_anyway(self) -> bool:
        """A client that hasn't sent its CONNECT is asked whatever it sent."""
        return self.connect is None

    def greet_with_ping(self) -> None:
        """Time the first PING: early, and spread so that many clients don't answer at once."""
        interval = self.core.limits.ping_interval_seconds
        self.start_pings(min(FIRST_PING_SECONDS, interval) * (1 + random.random() * 0.2))
