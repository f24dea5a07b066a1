"""One server, built out of the rooms: `async with Server(config) as server`.

Purpose:    start in the order store → core → monitor, say `Server is ready`, stop in the opposite order.
Guarantee:  when the block is left everything that was acked is stored, clients were written out, ports are free.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamd import __version__, settings, startup
from streamd.clock import wait_for
from streamd.config.models import Config, JetStreamConfig
from streamd.config.reading import host_port
from streamd.core.access import Access
from streamd.core.core import Core
from streamd.core.info import Identity, new_server_id
from streamd.errors import StoreError
from streamd.monitor.process import Process
from streamd.monitor.system import System

if TYPE_CHECKING:
    from types import TracebackType

    from streamd.cluster.mesh import Cluster
    from streamd.config.streaming import StreamingConfig
    from streamd.monitor.jsz import ClusterFacts
    from streamd.monitor.reports import Reports
    from streamd.raft.net import Net
    from streamd.stan.clustered import ClusteredStreaming
    from streamd.stan.service import Streaming
    from streamd.stan.views import StreamingStatistics
    from streamd.streams.jetstream import JetStream
    from streamd.streams.replication.node import Replication

#: How long a thread that waits for the interpreter lets another one run. The writer's thread shares it with the loop, and
#: Python's default of 5 ms would delay the end of every commit by that while the loop is busy.
SWITCH_SECONDS: Final = 1e-5
SECOND_NS: Final = 1_000_000_000
#: How often a standby looks whether the store is free.
STAND_BY_SECONDS: Final = 0.25


class Server:
    """A streamd server in this process, in the running asyncio loop."""

    def __init__(self, config: Config | None = None, *, logger: logging.Logger | None = None) -> None:
        """Without a configuration: JetStream on a temporary store, a free port on the loopback address."""
        self._temporary = config is None or (config.jetstream is not None and config.jetstream.store_dir is None)
        self.config = config or Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig())
        self.log = logger or logging.getLogger("streamd")
        self.server_id = new_server_id()
        self.name = self.config.server_name or self.server_id
        self.host = self.config.host
        self.port = -1
        self.monitor_port: int | None = None
        self.started_ns = 0
        self.core: Core
        self.jetstream: JetStream | None = None
        self.cluster: Cluster | None = None
        self.replication: Replication | None = None
        self.clustered: ClusteredStreaming | None = None
        self.streaming: Streaming | None = None
        self.store_dir: Path | None = None
        self.process = Process()
        self.cluster_facts: ClusterFacts | None = None
        self._stack = contextlib.AsyncExitStack()
        self._stopped: asyncio.Event
        self._failure: Exception | None = None

    @functools.cached_property
    def reports(self) -> Reports:
        """What it says of itself, to those who ask."""
        from streamd.monitor.reports import Reports

        return Reports(self)

    # where it is

    @property
    def client_url(self) -> str:
        """What clients connect to."""
        return f"nats://{settings.reachable(self.host)}:{self.port}"

    @property
    def monitor_url(self) -> str | None:
        """Where /varz and /healthz are, if monitoring is on."""
        if self.monitor_port is None:
            return None
        return f"http://{settings.reachable(self.config.http_host or self.host)}:{self.monitor_port}"

    @property
    def cluster_url(self) -> str | None:
        """Where other servers connect, if routes are on."""
        if self.cluster is None:
            return None
        return f"nats://{settings.reachable(self.cluster.host)}:{self.cluster.port}"

    # life

    async def __aenter__(self) -> Server:
        """Start. Errors: OSError (port, directory), StoreError, ConfigError; nothing is left running then."""
        self._stopped = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.info("Initiating Shutdown...")
        await self._stack.aclose()
        self.log.info("Server Exiting..")

    def stop(self) -> None:
        """Let `wait_stopped` return."""
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Wait for `stop`. Errors: what this server can't go on with; it is left, and started again, to go on."""
        await self._stopped.wait()
        if self._failure is not None:
            raise self._failure

    def _failed(self, error: Exception) -> None:
        self.log.critical("this server ends, to be started again: %s", error)
        self._failure = error
        self.stop()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config
        self.started_ns = time.time_ns()
        startup.log_starting(self.log, config, server_id=self.server_id, server_name=self.name)
        switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        stack.callback(sys.setswitchinterval, switch_seconds)
        self.core = Core(
            settings.core_limits(config),
            log=self.log,
            access=Access(config.authorization, config.system_users),
            headers=not config.no_header_support,
        )
        shared = config.streaming is not None and config.streaming.ft_group is not None
        if shared:
            # A standby has no clients, so it takes their port with the store; probes want to see it before.
            if config.http_port is not None:
                await self._start_monitor(stack)
            assert config.jetstream is not None
            if not await self._stand_by(stack, config.jetstream):
                return
        self.host, self.port = await self.core.listen(config.host, config.port)
        stack.push_async_callback(self.core.close)
        if config.jetstream is not None and not shared:
            self._start_jetstream(stack, config.jetstream)
        await self._start_cluster(stack)
        if config.streaming is not None:
            self._start_streaming(stack, config.streaming)
        if config.http_port is not None and not shared:
            await self._start_monitor(stack)
        host, port = config.host, self.port
        if config.client_advertise:
            host, named = host_port(config.client_advertise)
            port = named or self.port
        await self._start_system(stack)
        identity = Identity(
            server_id=self.server_id,
            server_name=self.name,
            version=__version__,
            host=host,
            port=port,
            max_payload_bytes=config.max_payload,
            headers=not config.no_header_support,
            auth_required=self.core.access.required,
            jetstream=self.jetstream is not None,
            cluster="" if self.cluster is None else self.cluster.name,
        )
        if config.pid_file:
            startup.write_pid_file(config.pid_file)
        await self.core.serve(identity)
        startup.log_listening(self.log, config.host, self.port)
        if self.cluster is not None:
            await self.cluster.serve(host, port)
        if config.ports_file_dir:
            path = startup.ports_path(config.ports_file_dir)
            monitoring = [self.monitor_url] if self.monitor_url else []
            cluster = [self.cluster_url] if self.cluster_url else []
            startup.write_ports_file(path, {"nats": [self.client_url], "monitoring": monitoring, "cluster": cluster})
            stack.callback(startup.remove_ports_file, path)
        startup.log_ready(self.log)
        if self.streaming is not None:
            self.log.info("STREAM: Streaming Server is ready")
        if self.jetstream is not None and self.cluster is not None:
            stack.push_async_callback(self._end_requests, self.jetstream)
        if self.replication is not None:
            stack.push_async_callback(self.replication.leave)

    async def _end_requests(self, jetstream: JetStream) -> None:
        """Who waits at another server, for a stream that nobody took over, hears of the end while there are routes."""
        jetstream.shut_down()
        self.core.flush_soon()
        await asyncio.sleep(0)

    async def _stand_by(self, stack: contextlib.AsyncExitStack, config: JetStreamConfig) -> bool:
        """A member of a fault tolerance group: wait until the store is free, and take it. False: stopped before that.

        The lock is the operating system's: it ends with the process that holds it, however that ends.
        """
        from streamd.errors import StoreLocked

        told = False
        while not self._stopped.is_set():
            try:
                self._start_jetstream(stack, config)
            except StoreLocked as locked:
                if not told:
                    told = True
                    text = "STREAM: Starting in standby mode: process %s has the store in %s"
                    self.log.info(text, locked.pid or "?", locked.directory)
                await wait_for(self._stopped, STAND_BY_SECONDS)
            else:
                self.log.info("STREAM: Server is active")
                return True
        return False

    def _start_jetstream(self, stack: contextlib.AsyncExitStack, config: JetStreamConfig) -> None:
        from streamd.clock import LoopClock
        from streamd.state.limits import Limits
        from streamd.store import Sync
        from streamd.store.directory import make_directory
        from streamd.streams.jetstream import JetStream
        from streamd.streams.replication.setting_aside import open_member

        if self.config.streaming is not None and config.store_dir is not None:
            startup.refuse_theirs(Path(config.store_dir))
        if self._temporary:
            # With a file or flags the command line has chosen a directory; this is for servers inside a program.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamd-")))
        else:
            assert config.store_dir is not None
            startup.refuse_unfinished(Path(config.store_dir))
            directory = Path(config.store_dir) / "jetstream"
        self.store_dir = directory
        sync = (
            Sync(config.sync_interval)
            if isinstance(config.sync_interval, str)
            else Sync("interval", config.sync_interval)
        )
        make_directory(directory)
        max_memory, max_storage = settings.bounds(config, directory)
        clustered = settings.clustered(self.config)

        def make(directory: Path) -> JetStream:
            return JetStream(
                directory,
                self.core.bus,
                LoopClock(),
                self.log,
                server_name=self.name,
                sync=sync,
                strict=config.strict,
                limits=Limits(
                    duplicate_window_ns_max=config.limits.duplicate_window_ns or 0,
                    max_ack_pending=config.limits.max_ack_pending or -1,
                    max_request_batch=config.limits.max_request_batch or 0,
                    clustered=clustered,
                ),
                max_memory_bytes=max_memory,
                max_storage_bytes=max_storage,
                notify=self.core.loop.call_soon_threadsafe,
                encryption=settings.encryption(self.config.streaming),
            )

        jetstream = open_member(directory, make, self.log) if clustered else make(directory)
        stack.callback(jetstream.close)
        startup.log_jetstream(
            self.log,
            store_dir=str(directory),
            max_memory_bytes=max_memory,
            max_storage_bytes=max_storage,
            sync_interval=config.sync_interval,
        )
        self.log.info("  Durability:      %s", sync.description)
        self._take_name(jetstream)
        self._refuse_change_of_kind(jetstream)
        jetstream.start()
        self.jetstream = jetstream

    def _refuse_change_of_kind(self, jetstream: JetStream) -> None:
        """What NATS Streaming has stored alone isn't replicated later, nor the other way round. Errors: StoreError."""
        streaming = self.config.streaming
        group = None if streaming is None else jetstream.group_of("stan")
        if streaming is None or group is None:
            return
        clustered = settings.clustered(self.config) and streaming.cluster is not None
        if clustered and not group:
            raise StoreError("stan: cannot restart server in clustered mode if it was not previously clustered")
        if group and not clustered:
            raise StoreError(
                f"the store in {self.store_dir} is one replica of a cluster's NATS Streaming: "
                f"give streaming a cluster block, beside one with listen and routes, or choose another dir"
            )

    def _take_name(self, jetstream: JetStream) -> None:
        """A store that belongs to a cluster goes with the name that its server has there. Errors: StoreError."""
        stored = jetstream.identity.rpartition("#")[0] or jetstream.former_name
        if not stored:
            return
        if self.config.server_name and self.config.server_name != stored:
            raise StoreError(
                f'the store in {self.store_dir} is that of server "{stored}" of a cluster, and this one is called '
                f'"{self.config.server_name}": set server_name to that, or choose another store_dir'
            )
        self.name = jetstream.server_name = stored

    async def _start_cluster(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config.cluster
        if config is None or not config.port:
            return
        from streamd.cluster.mesh import Cluster
        from streamd.raft.storage import new_node

        cluster = Cluster(
            self.core,
            config,
            server_id=self.server_id,
            server_name=self.name,
            version=__version__,
            node=None if self.jetstream is None else self.jetstream.identity or new_node(self.name),
            changed=self._cluster_changed,
        )
        host, port = await cluster.listen()
        stack.push_async_callback(cluster.close)
        startup.log_cluster(self.log, cluster.name, host, port, dynamic=cluster.dynamic)
        self.cluster = cluster
        if self.jetstream is not None and cluster.net is not None:
            self._start_replication(stack, self.jetstream, cluster, cluster.net)

    def _start_replication(
        self, stack: contextlib.AsyncExitStack, jetstream: JetStream, cluster: Cluster, net: Net
    ) -> None:
        from streamd.raft.host import Host
        from streamd.streams.replication.node import Replication

        streaming = self.config.streaming
        members = None if streaming is None or streaming.cluster is None else streaming.cluster
        peers = frozenset() if members is None else frozenset(members.peers)

        def expected() -> frozenset[str] | None:
            return peers | {self.name} if peers else cluster.founders()

        services = jetstream.services
        host = Host(
            net, services.clock, random.Random(), services.commits.join, settle=services.commits.settle, log=self.log
        )
        self.replication = Replication(
            jetstream,
            net,
            host,
            name=self.name,
            cluster=lambda: cluster.name,
            tags=tuple(self.config.server_tags),
            expected=expected,
            echo=cluster.echo,
            streaming=members is not None,
            failed=self._failed,
        )
        stack.callback(self.replication.close)
        self.cluster_facts = self.replication.view

    def _cluster_changed(self) -> None:
        """Clients are told of servers that came and went."""
        cluster, identity = self.cluster, self.core.identity
        if cluster is None or identity is None:
            return
        changed = replace(identity, cluster=cluster.name, connect_urls=cluster.connect_urls)
        if changed != identity:
            self.core.announce(changed)

    def _start_streaming(self, stack: contextlib.AsyncExitStack, config: StreamingConfig) -> None:
        from streamd.stan.service import Streaming

        assert self.jetstream is not None, "the configuration brings JetStream along"
        clustered = self.replication is not None and config.cluster is not None
        startup.log_streaming(self.log, config, str(self.store_dir), self.name, clustered=clustered)
        log = self.log.getChild("stan")
        if config.stan_debug or config.stan_trace:
            log.setLevel(logging.DEBUG)
        if self.replication is not None and config.cluster is not None:
            from streamd.stan.clustered import ClusteredStreaming

            self.clustered = ClusteredStreaming(self.replication, config, log, self._streaming_changed)
            stack.callback(self.clustered.close)
            return
        streaming = Streaming(self.jetstream, config, log)
        stack.callback(streaming.close)
        streaming.start()
        self.streaming = streaming

    def _streaming_changed(self, streaming: Streaming | None) -> None:
        self.streaming = streaming

    async def _start_system(self, stack: contextlib.AsyncExitStack) -> None:
        system = System(self.core, lambda: self.reports, self.server_id, self.log)
        system.bind()
        await stack.enter_async_context(self.core.beside(system.serve(), self._failed))

    def _statistics(self) -> StreamingStatistics | None:
        if self.config.streaming is None:
            return None
        from streamd.stan.statistics import Statistics

        return Statistics(self.config.streaming, lambda: self.streaming, self.started_ns, lambda: self.clustered)

    async def _start_monitor(self, stack: contextlib.AsyncExitStack) -> None:
        from streamd.monitor.serve import MonitorServer

        config = self.config
        assert config.http_port is not None
        host = config.http_host or config.host
        monitor = MonitorServer(self.reports, host, config.http_port, self._statistics())
        monitor.bind()
        await stack.enter_async_context(self.core.beside(monitor.serve(), self._failed, monitor.stop))
        await monitor.started.wait()
        self.monitor_port = monitor.port
        startup.log_monitoring(self.log, host, monitor.port)
