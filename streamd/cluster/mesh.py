"""The mesh of servers: listen, dial, who is connected, who is told of whom.

In the walk:  a `Route` that has made its handshake is offered here; the one that carries gets the engine's interest and
              messages, and the other servers are told of the newcomer, so that one seed suffices.
Guarantee:    one connection carries the messages between two servers, and between two streamd servers a second one, the
              lane, those of the system account: what keeps nodes together never waits behind bulk data.
Not here:     interest, messages, the choice among a queue group's members (the engine); what nodes say (net.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
from typing import TYPE_CHECKING, Any, Final

from streamd.cluster import greeting
from streamd.cluster.addresses import client_urls
from streamd.cluster.dial import AGAIN_SECONDS, Target, keep, keep_lane, reach
from streamd.cluster.net import SYSTEM_ACCOUNT, SubjectNet, incarnation_of
from streamd.cluster.remote import Peer, Remote
from streamd.cluster.route import Route
from streamd.cluster.tls import Tls
from streamd.config.cluster import is_address
from streamd.config.reading import host_port
from streamd.core.link import listen, stop_accepting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from streamd.cluster.greeting import Info
    from streamd.config.cluster import ClusterConfig
    from streamd.core.core import Core
    from streamd.raft.net import NodeId

HANDSHAKE_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 1.0


class Cluster:
    """This server among others.

    Shapes:  peers: by server id, those whose messages come and go now. name: the cluster's, which may change while it is
             `dynamic`. routes: all connections by number, also those without a handshake. configured: whom the
             configuration names, with the id of the server that was found there, perhaps this one. net: None without a node id.
    """

    def __init__(
        self,
        core: Core,
        config: ClusterConfig,
        *,
        server_id: str,
        server_name: str,
        version: str,
        node: NodeId | None,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when `name` or `connect_urls` did. Errors: OSError, ssl.SSLError for certificates."""
        self.core = core
        self.config = config
        self.server_id = server_id
        self.server_name = server_name
        self.name = config.name or server_id[-22:]
        self.dynamic = not config.name
        self.node = node
        self.net: SubjectNet | None = SubjectNet(core.bus, node, core.log) if node is not None else None
        self.host, self.port = config.host, -1
        self.tls = Tls(config.tls) if config.tls is not None else None
        self.routes: dict[int, Route] = {}
        self.peers: dict[str, Peer] = {}
        self.configured: dict[Target, str | None] = {}
        access = config.authorization
        self._user, self._password = (access.user, access.password) if access is not None else ("", "")
        # Where this server lets everybody in, others may still want what the URLs of the configuration say.
        self._says = self._user, self._password
        self.handshake_seconds = access.timeout_ns / 1e9 if access is not None else HANDSHAKE_SECONDS
        for url in config.routes:
            target = Target.of(url, self._user, self._password)
            self.configured[target] = None
            if not self._says[0]:
                self._says = target.user, target.password
        #: What a certificate is checked for where only an address was dialed.
        self.tls_name = next((target.host for target in self.configured if not is_address(target.host)), "")
        self._version = version
        self._changed = changed
        self._remotes: dict[str, Remote] = {}
        self._reaching: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: dict[str, Peer] = {}  # peers that have ever been connected
        self._watchers: list[Callable[[Peer, bool], None]] = []
        self._own_urls: tuple[str, ...] = ()
        self._joined = False
        self._closing = False
        self._listener: asyncio.Server | None = None

    # life

    async def listen(self) -> tuple[str, int]:
        """Bind the route port. Returns host and port. Errors: OSError."""
        assert self.config.port is not None
        self._listener = await listen(
            self.core.loop,
            lambda: Route(self, None),
            self.config.host,
            self.config.port,
            tls=None if self.tls is None else self.tls.accepting,
            tls_seconds=None if self.tls is None else self.tls.timeout_seconds,
        )
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self.host, self.port

    async def serve(self, client_host: str, client_port: int) -> None:
        """Take routes, and dial those that are configured. Clients find this server at the host and port."""
        assert self._listener is not None
        if not self.config.no_advertise:
            self._own_urls = client_urls(client_host, client_port)
        await self._listener.start_serving()
        for target in self.configured:
            self._run(keep(self, target))

    async def close(self) -> None:
        """Stop taking routes and dialing, close those that there are."""
        self._closing = True
        if self._listener is not None:
            await stop_accepting(self._listener)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        routes = list(self.routes.values())
        self.core.turn(self.core.engine.flush())
        for route in routes:
            route.close("Server Shutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for route in routes:
                    await route.closed.wait()
        for route in list(self.routes.values()):
            route.transport.abort()

    def founders(self) -> frozenset[str] | None:
        """Names of the servers with streams that the configuration names, this one included; None until all were reached."""
        names = {self.server_name}
        connected = (route for route in self.routes.values() if route.target and route.info and not route.to_self)
        reached = {route.target: route.info.server_id for route in connected if route.info}
        for target, server_id in self.configured.items():
            found = reached.get(target, server_id) if server_id in (None, self.server_id) else server_id
            if found == self.server_id:
                continue
            peer = self._known.get(found or "")
            if peer is None:
                return None
            if peer.node is not None:
                names.add(peer.server_name)
        return frozenset(names)

    def watch(self, call: Callable[[Peer, bool], None]) -> None:
        """Be called when a server came (True) or went. A broken connection is told at once."""
        self._watchers.append(call)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.core.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.core.log.error("dialing failed: %r", error, exc_info=error)

    # what it says

    @property
    def connect_urls(self) -> tuple[str, ...]:
        """Where clients find the cluster's servers: nothing before the first route, then the own addresses first."""
        if self.config.no_advertise or not self._joined:
            return ()
        remotes = (remote for remote in self._remotes.values() if remote.main.carrying is not None)
        others = (url for remote in remotes if not remote.info.ldm for url in remote.info.connect_urls)
        return tuple(dict.fromkeys((*self._own_urls, *others)))

    def myself(self) -> greeting.Myself:
        """What this server says of itself on a route."""
        host, port, url = self.host, self.port, ""
        if self.config.advertise:
            host, named = host_port(self.config.advertise, "cluster_advertise")
            port = named or port
            url = f"nats-route://[{host}]:{port}/" if ":" in host else f"nats-route://{host}:{port}/"
        return greeting.Myself(
            server_id=self.server_id,
            server_name=self.server_name,
            version=self._version,
            node=self.node or "",
            host=host,
            port=port,
            url=url,
            cluster=self.name,
            dynamic=self.dynamic,
            auth_required=bool(self._user),
            tls_required=self.tls is not None,
            max_payload_bytes=self.core.limits.max_payload_bytes,
            headers=self.core.headers,
            connect_urls=self._own_urls,
            routes=tuple(self.peers),
        )

    def echo(self, heard: Callable[[], None]) -> int:
        """Ask all servers; `heard` is called for each once all is here that it had sent to this one when it answered, but for
        what the lane carries, or once its connection has gone; never before this returns. Returns how many were asked."""
        asked = [remote.main.carrying for remote in self._remotes.values() if remote.main.carrying is not None]
        for route in asked:
            route.echo(heard)
        self.core.flush_soon()
        return len(asked)

    # who may

    def authorized(self, user: str, password: str) -> bool:
        """Whether a dialer knows what it must."""
        if not self._user:
            return True
        return _same(user, self._user) and _same(password, self._password)

    def agree(self, route: Route, server_id: str, name: str, *, dynamic: bool) -> bool:
        """Whether the cluster name of another server is this one's, or becomes it; else the connection is closed.

        A made-up name yields to a configured one, and of two made-up ones the smaller one to the greater.
        """
        if name == self.name:
            return True
        yields = self.dynamic and (not dynamic or self.name < name)
        if not yields:
            text = f'Rejecting connection, cluster name "{name}" does not match "{self.name}"'
            route.fail(text if route.target is None else None, "Cluster Name Conflict")
            # A dialer with a made-up name learns the other's from its INFO, and comes again: nothing an operator has to see.
            log = self.core.log.debug if dynamic and not self.dynamic else self.core.log.error
            log("rid:%d - %s", route.conn, text)
            return False
        self.name, self.dynamic = name, dynamic
        self.core.log.info("Cluster name updated to %s", name)
        for other in list(self.routes.values()):
            # Whom this server dialed has its old name, and will refuse it.
            stays = other is route and route.target is None
            if not stays and (other is route or other.info is None or other.info.server_id != server_id):
                other.fail(None, "Cluster Name Conflict" if other is route else "Route Removed")
        self._changed()
        return route.target is None

    # who is there

    def connected(self, server_id: str | None) -> Remote | None:
        """A server whose messages come and go now."""
        remote = self._remotes.get(server_id or "")
        return remote if remote is not None and remote.main.carrying is not None else None

    def carries(self, route: Route) -> bool:
        """Whether a connection is the one that carries messages of its accounts."""
        remote = None if route.info is None else self._remotes.get(route.info.server_id)
        return remote is not None and route in (remote.main.carrying, remote.lane.carrying)

    def is_configured(self, route: Route) -> bool:
        """Whether the configuration names the server at the other end."""
        found = None if route.info is None else route.info.server_id
        return route.target in self.configured or (found is not None and found in self.configured.values())

    def vouched(self, server_id: str) -> bool:
        """Whether a connected server is connected to that one."""
        return any(
            server_id in remote.info.streamd_routes
            for remote in self._remotes.values()
            if remote.main.carrying is not None
        )

    def admit(self, route: Route) -> None:
        """A connection has made its handshake."""
        info = route.info
        assert info is not None
        if self._closing:
            return route.fail(None, "Server Shutdown")
        remote = self._remotes.get(info.server_id)
        if remote is None:
            remote = self._remotes[info.server_id] = Remote(self.core, info, self.server_id)
        slot = remote.slot(route)
        if slot.offer(route):
            self._carry(remote, route)
        elif slot.carrying is not None:
            self.core.log.debug("rid:%d - Detected duplicate remote route %s", route.conn, info.server_id)
        return None

    def told(self, route: Route, info: Info) -> None:
        """A later INFO: the other server's own, or one that it passes on."""
        assert route.info is not None
        if info.server_id != route.info.server_id:
            self._implicit(info)
            return
        remote = self._remotes.get(info.server_id)
        if remote is None:
            return
        if info.streamd_carries:
            self._chosen(remote, route)
        if route is remote.main.carrying:
            remote.info = route.info = info
            self._changed()

    def _chosen(self, remote: Remote, route: Route) -> None:
        """The other server says that a connection carries; one that did has ended there."""
        slot = remote.slot(route)
        if not slot.waits(route):
            return
        before = slot.carrying
        if before is not None:
            before.fail(None, "Stale Connection")
            before.cut("Stale Connection")
            self.lost(before)
        slot.chosen(route)
        self._carry(remote, route)

    def lost(self, route: Route) -> None:
        """A connection has gone."""
        self.routes.pop(route.conn, None)
        if route.info is None or (remote := self._remotes.get(route.info.server_id)) is None:
            return
        slot = remote.slot(route)
        if slot.lost(route):
            self._gone(remote, route)
            if slot.carrying is not None:
                self._carry(remote, slot.carrying)
        if remote.empty:
            self._remotes.pop(remote.peer.server_id, None)

    def _others_of_node(self, remote: Remote) -> list[Remote]:
        """What is left of other processes of a server's node: one that is started again has a new server id."""
        if remote.peer.node is None:
            return []
        incarnation = incarnation_of(remote.peer.node)
        others = (other for other in self._remotes.values() if other is not remote)
        return [one for one in others if one.peer.node is not None and incarnation_of(one.peer.node) == incarnation]

    def _carry(self, remote: Remote, route: Route) -> None:
        route.carried = True
        # The end of the process before need not have been heard: a machine that loses power says nothing.
        for older in self._others_of_node(remote):
            older.cut("Server Restarted")
        engine, peer = self.core.engine, remote.peer
        if remote.slot(route).says:
            engine.write(route.conn, self.myself().info(lane=route.lane, carries=True))
        if route.lane:
            engine.route_ready(route.conn, server_id=peer.server_id, account=SYSTEM_ACCOUNT)
            if self.net is not None and peer.node is not None:
                self.net.lane(peer.node, up=True)
            self.core.flush_soon()
            return
        assert route.info is not None
        again = peer.server_id in self.peers
        remote.info = route.info
        without = (SYSTEM_ACCOUNT,) if route.info.streamd else ()
        engine.route_ready(route.conn, server_id=peer.server_id, without=without)
        self.core.log.debug("rid:%d - Registering remote route %s", route.conn, peer.server_id)
        remote.stop_lane_dialer()
        if route.target is not None and route.info.streamd:
            remote.lane_dialer = self._run(keep_lane(self, route.target, route, remote))
        if again:
            return
        remote.gone = asyncio.Event()
        self.peers[peer.server_id] = self._known[peer.server_id] = peer
        self._joined = True
        self._tell_of(remote, route)
        self._tell(peer, came=True)

    def _gone(self, remote: Remote, route: Route) -> None:
        peer = remote.peer
        if route.lane:
            if self.net is not None and peer.node is not None:
                self.net.lane(peer.node, up=False)
                # The lane of the node's next process may be here already: it found the link in place.
                if any(other.lane.carrying is not None for other in self._others_of_node(remote)):
                    self.net.lane(peer.node, up=True)
            return
        remote.stop_lane_dialer()
        remote.gone.set()
        self.peers.pop(peer.server_id, None)
        self._tell(peer, came=False)
        if remote.main.carrying is None and (route.target is not None or self.vouched(peer.server_id)):
            # Both sides may dial again: one of them begins.
            first = AGAIN_SECONDS if route.target is not None else 10 * AGAIN_SECONDS
            self._reach(peer.server_id, route.url, first * random.random())

    def _tell(self, peer: Peer, *, came: bool) -> None:
        if self._closing:
            return
        info = self.myself().info(lane=False)
        for remote in self._remotes.values():
            if remote.main.carrying is not None and remote.info.streamd:
                self.core.engine.write(remote.main.carrying.conn, info)
        self._changed()
        for call in self._watchers:
            call(peer, came)
        self.core.flush_soon()

    # gossip

    def _tell_of(self, newcomer: Remote, route: Route) -> None:
        """Tell the others of a newcomer, so that they dial it."""
        if newcomer.info.gossip_mode == greeting.GOSSIP_DISABLED:
            return
        line = greeting.passed_on(route.info_text, route.url)
        for remote in self._remotes.values():
            if remote is not newcomer and remote.main.carrying is not None:
                self.core.engine.write(remote.main.carrying.conn, line)

    def _implicit(self, info: Info) -> None:
        """Another server tells of a third one."""
        if info.server_id != self.server_id and info.ip:
            self._reach(info.server_id, info.ip, 0)

    def _reach(self, server_id: str, url: str, first_seconds: float) -> None:
        if self._closing or server_id in self._reaching or self.connected(server_id) is not None:
            return
        try:
            target = Target.of(url, *self._says)
        except ValueError as error:
            self.core.log.error("Error parsing URL from INFO: %s", error)
            return
        found = {known for known in self.configured.values() if known is not None}
        addresses = {(one.host, one.port) for one in self.configured}
        if server_id in found or (target.host, target.port) in addresses:
            return  # there is a dialer already
        task = self._run(reach(self, target, server_id, first_seconds))
        self._reaching[server_id] = task
        task.add_done_callback(lambda _: self._reaching.pop(server_id, None))


def _same(given: str, wanted: str) -> bool:
    # A flag of the command may hold what is no text.
    return hmac.compare_digest(given.encode(errors="surrogatepass"), wanted.encode(errors="surrogatepass"))
