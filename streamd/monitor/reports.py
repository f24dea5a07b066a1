"""What a running server says of itself: the same over HTTP and to the system account.

Source: nats-server 2.15.2. Not here: how it is asked (app.py, system.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from streamd import __version__
from streamd.api.system import JETSTREAM_ENABLED, JetStreamInfo, JszOptions, ServerInfo
from streamd.api.wire import time_text
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.core.info import PROTOCOL_VERSION
from streamd.monitor import jsz, routez
from streamd.monitor.connz import connz
from streamd.monitor.healthz import healthz
from streamd.monitor.varz import configured, uptime_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from streamd.api.system import AccountDetail, Connections, ConnzOptions, Health, HealthzOptions
    from streamd.cluster.mesh import Cluster
    from streamd.config.models import Config
    from streamd.core.core import Core
    from streamd.monitor.process import Process
    from streamd.streams.jetstream import JetStream

SECOND_NS: Final = 1_000_000_000


class Running(Protocol):
    """The server, as far as it is reported on."""

    config: Config
    core: Core
    server_id: str
    name: str
    host: str
    port: int
    monitor_port: int | None
    started_ns: int
    jetstream: JetStream | None
    cluster: Cluster | None
    store_dir: Path | None
    process: Process
    cluster_facts: jsz.ClusterFacts | None  # of one of several


class Reports:
    """The reports of one server."""

    def __init__(self, server: Running) -> None:
        self._server = server

    def server_info(self) -> ServerInfo:
        """Who answers, without a sequence."""
        server, config = self._server, self._server.config
        jetstream = server.jetstream is not None
        return ServerInfo(
            name=server.name,
            host=server.host,
            id=server.server_id,
            cluster=server.cluster.name if server.cluster is not None else "",
            ver=PROTOCOL_VERSION,
            tags=list(config.server_tags),
            metadata=dict(config.server_metadata),
            jetstream=jetstream,
            flags=JETSTREAM_ENABLED if jetstream else 0,
            time=time.time_ns(),
        )

    def varz(self) -> Mapping[str, Any]:
        """The fields of /varz that there are."""
        server, core = self._server, self._server.core
        counts = core.engine.statistics()
        now_ns = time.time_ns()
        return {
            "server_id": server.server_id,
            "server_name": server.name,
            "version": PROTOCOL_VERSION,
            "streamd": __version__,
            "proto": 1,
            **configured(server.config),
            "port": server.port,
            "http_port": server.monitor_port or 0,
            "auth_required": core.access.required,
            "start": time_text(server.started_ns),
            "config_load_time": time_text(server.started_ns),
            "now": time_text(now_ns),
            "uptime": uptime_text((now_ns - server.started_ns) // SECOND_NS),
            **server.process.fields(),
            "connections": core.num_connections,
            "total_connections": core.total_connections,
            "in_msgs": counts["in_msgs"],
            "out_msgs": counts["out_msgs"],
            "in_bytes": counts["in_bytes"],
            "out_bytes": counts["out_bytes"],
            "slow_consumers": core.slow_consumers,
            "stale_connections": core.stale_connections,
            "stalled_clients": counts["stalled_clients"],
            "subscriptions": counts["subscriptions"],
            "system_account": SYSTEM_ACCOUNT,
            **routez.varz(server.cluster),
            "jetstream": self._jetstream(store_dir=True),
        }

    def routez(self) -> dict[str, Any]:
        """The fields of /routez."""
        server = self._server
        return routez.routez(server.cluster, server_id=server.server_id, server_name=server.name)

    def statsz(self) -> dict[str, Any]:
        """The counters that every server publishes to the system account."""
        server, core = self._server, self._server.core
        counts = core.engine.statistics()
        sent = {"msgs": counts["out_msgs"], "bytes": counts["out_bytes"]}
        received = {"msgs": counts["in_msgs"], "bytes": counts["in_bytes"]}
        accounts = {connection.login.account for connection in core.connections.values()}
        fields: dict[str, Any] = {
            "start": time_text(server.started_ns),
            **server.process.fields(),
            "connections": core.num_connections,
            "total_connections": core.total_connections,
            "active_accounts": len(accounts),
            "subscriptions": counts["subscriptions"],
            "sent": sent,
            "received": received,
            "slow_consumers": core.slow_consumers,
            **routez.statsz(server.cluster),
        }
        if server.jetstream is not None:
            fields["jetstream"] = self._jetstream(store_dir=False)
        return fields

    def _settled(self, *, store_dir: bool = True) -> jsz.Settled | None:
        server = self._server
        if server.jetstream is None or server.config.jetstream is None:
            return None
        return jsz.Settled(server.config.jetstream, server.jetstream, str(server.store_dir) if store_dir else "")

    def _jetstream(self, *, store_dir: bool) -> dict[str, Any]:
        server, settled = self._server, self._settled(store_dir=store_dir)
        if server.jetstream is None or settled is None:
            return {}
        cluster = server.cluster_facts
        fields = {"config": settled.settings.wire(), "stats": jsz.stats(server.jetstream, cluster).wire()}
        if cluster is not None:
            fields["meta"] = cluster.meta().wire()
        return {**fields, "limits": settled.bounds.wire()}

    def healthz(self, options: HealthzOptions) -> Health:
        """Whether it is well."""
        cluster = self._server.cluster_facts
        return healthz(options, self._server.jetstream, cluster.problem() if cluster is not None else None)

    async def jsz(self, options: JszOptions) -> JetStreamInfo | None:
        """What JetStream holds; None if the leader alone was asked and another leads."""
        server = self._server
        return await jsz.jsz(
            server.jetstream,
            self._settled(),
            server.cluster_facts,
            options,
            server_id=server.server_id,
            now_ns=time.time_ns(),
        )

    async def connz(self, options: ConnzOptions) -> Connections:
        """The clients. Errors: LookupError for options that can't be served."""
        return await connz(self._server.core, options, self._server.server_id)

    async def account_jsz(self, account: str, options: JszOptions) -> AccountDetail:
        """The same of one account. Errors: LookupError with nats-server's text."""
        jetstream = self._server.jetstream
        if jetstream is None:
            raise LookupError("jetstream not enabled")
        if account == SYSTEM_ACCOUNT:
            raise LookupError(f'account "{account}" not jetstream enabled')
        if account != DEFAULT_ACCOUNT:
            raise LookupError(f'account "{account}" not found')
        return await jsz.account_detail(jetstream, options, streams=options.streams)

    def account_info(self, account: str) -> dict[str, Any]:
        """Who uses an account. Errors: LookupError with nats-server's text."""
        if account not in (DEFAULT_ACCOUNT, SYSTEM_ACCOUNT):
            raise LookupError(f"Account {account} does not exist")
        core, system = self._server.core, account == SYSTEM_ACCOUNT
        here = [conn for conn, connection in core.connections.items() if connection.login.account == account]
        return {
            "account_name": account,
            "update_time": time_text(self._server.started_ns),
            **({"is_system": True} if system else {}),
            "expired": False,
            "complete": True,
            "jetstream_enabled": not system and self._server.jetstream is not None,
            "leafnode_connections": 0,
            "client_connections": len(here),
            "subscriptions": sum(core.engine.connection(conn)["subscriptions"] for conn in here),
            "name_tag": account,
        }

    def accountz(self) -> dict[str, Any]:
        """The accounts that there are."""
        return {
            "server_id": self._server.server_id,
            "now": time_text(time.time_ns()),
            "system_account": SYSTEM_ACCOUNT,
            "accounts": [DEFAULT_ACCOUNT, SYSTEM_ACCOUNT],
        }
