"""Dialing other servers: configured ones for ever, those that others tell of as long as it makes sense, lanes beside routes.

Each is one coroutine that dials, waits for the end of what it got, and dials again; while a server is connected some other
way nobody dials it.
"""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from streamd.cluster.addresses import is_local
from streamd.cluster.route import Route
from streamd.config.cluster import is_address

if TYPE_CHECKING:
    from streamd.cluster.mesh import Cluster
    from streamd.cluster.remote import Remote

DIAL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
RETRY_SECONDS_MAX: Final = 30.0
REFUSED_SECONDS_MAX: Final = 5.0
#: After a connection that carried something: it may have been a short break.
AGAIN_SECONDS: Final = 0.1
#: Failures in a row that are logged as errors: the first, and then one of so many.
REPORT_EVERY: Final = 3600


@dataclass(frozen=True, slots=True)
class Target:
    """A route port to dial, and what to say there."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def of(cls, url: str, user: str, password: str) -> Target:
        """A route's URL; what it names as user and password wins. Errors: ValueError."""
        parts = urlsplit(url)
        if not parts.hostname or not parts.port:
            raise ValueError(f"no route: {url.rpartition('@')[2]}")
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        return cls(parts.hostname, parts.port, user, password)

    @property
    def url(self) -> str:
        """Without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nats-route://{host}:{self.port}/"


class Attempts:
    """Failures in a row: what is logged of them, and how long to wait."""

    def __init__(self, cluster: Cluster, target: Target) -> None:
        self._cluster = cluster
        self._target = target
        self.failed = 0
        self._delay = RETRY_SECONDS
        self._refused = AGAIN_SECONDS

    def succeeded(self) -> None:
        """It was a route."""
        self.failed, self._delay, self._refused = 0, RETRY_SECONDS, AGAIN_SECONDS

    async def after(self, error: OSError) -> None:
        """Report a failure and wait."""
        self.failed += 1
        log = self._cluster.core.log
        report = log.error if self.failed % REPORT_EVERY == 1 else log.debug
        reason = str(error) or "timeout"
        report("Error trying to connect to route %s (attempt %d): %s", self._target.url, self.failed, reason)
        await asyncio.sleep(_about(self._delay))
        if self._cluster.config.connect_backoff:
            self._delay = min(self._delay * 2, RETRY_SECONDS_MAX)

    async def after_refusal(self) -> None:
        """There was a server, but no agreement."""
        await asyncio.sleep(_about(self._refused))
        self._refused = min(self._refused * 2, REFUSED_SECONDS_MAX)


async def dial(
    cluster: Cluster, target: Target, *, address: str = "", lane: bool = False, server_id: str | None = None
) -> Route:
    """A connection with its handshake under way. Errors: OSError.

    `address`: the one to dial of those that the target's name has. `server_id`: no other server will do.
    """
    tls = cluster.tls
    name = None
    if tls is not None:
        name = target.host if not is_address(target.host) or not cluster.tls_name else cluster.tls_name
    try:
        async with asyncio.timeout(DIAL_SECONDS + (0 if tls is None else tls.timeout_seconds)):
            _, route = await cluster.core.loop.create_connection(
                lambda: Route(cluster, target, lane=lane, wanted=server_id),
                address or target.host,
                target.port,
                ssl=None if tls is None else tls.dialing,
                server_hostname=name,
            )
    except ValueError as error:
        # No name that could be looked up: an empty label, or one that is too long. Most of these are told by others.
        raise OSError(str(error)) from error
    return route


class _Addresses:
    """Those of a configured target's name. Some may be this server's own, and only the others are dialed then.

    Shapes:  own: found to be this server's; others: those of the last look.
    """

    def __init__(self, cluster: Cluster, target: Target) -> None:
        self._cluster = cluster
        self._target = target
        self.own: set[str] = set()
        self.others: set[str] = set()
        self._dialed = ""

    async def choose(self) -> str | None:
        """The one to dial, "" for any; None: each is this server's. Errors: OSError."""
        self.others, self._dialed = set(), ""
        if not self.own:
            return ""
        try:
            found = await self._cluster.core.loop.getaddrinfo(
                self._target.host, self._target.port, type=socket.SOCK_STREAM
            )
        except ValueError as error:
            raise OSError(str(error)) from error
        self.others = {str(address[0]) for *_, address in found} - self.own
        if not self.others:
            return None
        self._dialed = random.choice(sorted(self.others))
        return self._dialed

    def failed(self) -> None:
        """Nobody was reached at the one that was chosen."""
        if not self.others or not all(is_local(one) for one in self.others):
            return
        # As far as can be known this machine is meant: the founding of a cluster doesn't wait for somebody else there.
        configured = self._cluster.configured
        configured[self._target] = configured[self._target] or self._cluster.server_id
        if (":" in self._dialed) != any(":" in one for one in self.own):
            self.own.add(self._dialed)  # a server listens to IPv4 or to IPv6


async def keep(cluster: Cluster, target: Target) -> None:
    """Have a route to a configured target, for ever. Ends only if each of its addresses is this server's."""
    attempts, addresses = Attempts(cluster, target), _Addresses(cluster, target)
    while True:
        try:
            address = await addresses.choose()
            if address is None:
                cluster.configured.pop(target, None)
                return
            route = await dial(cluster, target, address=address)
        except OSError as error:
            addresses.failed()
            await attempts.after(error)
            continue
        await route.closed.wait()
        if route.to_self:
            addresses.own.add(route.address[0])
            await attempts.after_refusal()
            continue
        found = None if route.info is None else route.info.server_id
        cluster.configured[target] = found
        while (remote := cluster.connected(found)) is not None:
            await remote.gone.wait()
            attempts.succeeded()
        if route.carried:
            attempts.succeeded()
        await attempts.after_refusal()


async def reach(cluster: Cluster, target: Target, server_id: str, first_seconds: float) -> None:
    """Have a route to a server that others told of, for `connect_retries` failures and as long as others are connected to it.

    Source: nats-server's implicit routes, which give up after the retries. A mesh of seeds would stay torn by that.
    """
    await asyncio.sleep(first_seconds)
    attempts = Attempts(cluster, target)
    while cluster.connected(server_id) is None:
        try:
            route = await dial(cluster, target)
        except OSError as error:
            if attempts.failed >= cluster.config.connect_retries and not cluster.vouched(server_id):
                cluster.core.log.debug("Server %s is not dialed any more: %s", server_id, error)
                return
            await attempts.after(error)
            continue
        await route.closed.wait()
        if route.info is not None and route.info.server_id != server_id:
            return  # another one has taken its place, and others tell of it
        if route.carried:
            attempts.succeeded()
        elif not cluster.vouched(server_id):
            return
        await attempts.after_refusal()


async def keep_lane(cluster: Cluster, target: Target, route: Route, remote: Remote) -> None:
    """Have a lane beside a route that this server dialed; cancelled with the route.

    A name with several addresses may lead to another server each time: it is the route's that is dialed.
    """
    attempts = Attempts(cluster, target)
    while True:
        lane = remote.lane.carrying
        if lane is None:
            try:
                lane = await dial(cluster, target, address=route.address[0], lane=True, server_id=remote.peer.server_id)
            except OSError as error:
                await attempts.after(error)
                continue
        await lane.closed.wait()
        if lane.carried:
            attempts.succeeded()
        await attempts.after_refusal()


def _about(seconds: float) -> float:
    return seconds * (0.9 + random.random() * 0.2)
