"""/routez, and what /varz and the counters of STATSZ say of routes. Source: nats-server 2.15.2."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamd.api.wire import time_text
from streamd.cluster.net import SYSTEM_ACCOUNT
from streamd.config.scalars import duration_text
from streamd.monitor.varz import uptime_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamd.cluster.mesh import Cluster
    from streamd.cluster.route import Route

_NS_PER_S = 1_000_000_000


def routez(cluster: Cluster | None, *, server_id: str, server_name: str) -> dict[str, object]:
    """The page. Shapes: connections without a handshake, or one too many, aren't in it."""
    now_ns = time.time_ns()
    routes = [] if cluster is None else [_route(cluster, route, now_ns) for route in carrying(cluster)]
    return {
        "server_id": server_id,
        "server_name": server_name,
        "now": time_text(now_ns),
        "num_routes": len(routes),
        "routes": routes,
    }


def carrying(cluster: Cluster) -> list[Route]:
    """The connections that carry messages."""
    return [route for route in cluster.routes.values() if cluster.carries(route)]


def _route(cluster: Cluster, route: Route, now_ns: int) -> dict[str, Any]:
    info, counts = route.info, cluster.core.engine.connection(route.conn)
    assert info is not None
    host, port = route.address
    fields: dict[str, Any] = {
        "rid": route.conn,
        "remote_id": info.server_id,
        "remote_name": info.server_name,
        "did_solicit": route.target is not None,
        "is_configured": cluster.is_configured(route),
        "ip": host,
        "port": port,
        "start": time_text(route.started_ns),
        "last_activity": time_text(route.active_ns),
        "rtt": duration_text(route.rtt_ns // 1000 * 1000),
        "uptime": uptime_text((now_ns - route.started_ns) // _NS_PER_S),
        "idle": uptime_text((now_ns - route.active_ns) // _NS_PER_S),
        "pending_size": _pending_bytes(route, counts),
        "in_msgs": counts["in_msgs"],
        "out_msgs": counts["out_msgs"],
        "in_bytes": counts["in_bytes"],
        "out_bytes": counts["out_bytes"],
        "subscriptions": counts["subscriptions"],
    }
    if route.lane:
        fields["account"] = SYSTEM_ACCOUNT
    return fields


def _pending_bytes(route: Route, counts: Mapping[str, int]) -> int:
    return counts["pending_bytes"] + route.transport.get_write_buffer_size()


def statsz(cluster: Cluster | None) -> dict[str, object]:
    """The fields of STATSZ. Shapes: `active_servers` counts this one too: it is how many answers tools wait for when they ask
    all. No `routes` where there are none."""
    if cluster is None:
        return {"active_servers": 1}
    routes = [_stat(cluster, route) for route in carrying(cluster)]
    return {**({"routes": routes} if routes else {}), "active_servers": len(cluster.peers) + 1}


def _stat(cluster: Cluster, route: Route) -> dict[str, object]:
    info, counts = route.info, cluster.core.engine.connection(route.conn)
    assert info is not None
    return {
        "rid": route.conn,
        "name": info.server_name,
        "sent": {"msgs": counts["out_msgs"], "bytes": counts["out_bytes"]},
        "received": {"msgs": counts["in_msgs"], "bytes": counts["in_bytes"]},
        "pending": _pending_bytes(route, counts),
    }


def varz(cluster: Cluster | None) -> dict[str, object]:
    """The fields of /varz: `cluster`, and how many routes and servers there are."""
    if cluster is None:
        return {"cluster": {}, "routes": 0, "remotes": 0}
    config = cluster.config
    block: dict[str, object] = {
        "name": cluster.name,
        "addr": cluster.host,
        "cluster_port": cluster.port,
        "auth_timeout": cluster.handshake_seconds,
        "urls": [f"{target.host}:{target.port}" for target in cluster.configured],
        "pool_size": config.pool_size,
    }
    if cluster.tls is not None:
        block |= {"tls_timeout": cluster.tls.timeout_seconds, "tls_required": True, "tls_verify": True}
    if config.write_deadline_ns is not None:
        block["write_deadline"] = config.write_deadline_ns
    urls = {"connect_urls": list(cluster.connect_urls)} if cluster.connect_urls else {}
    return {"cluster": block, "routes": len(carrying(cluster)), "remotes": len(cluster.peers), **urls}
