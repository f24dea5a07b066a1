"""CONNZ: the clients of a server, as `nats server report connections` shows them.

Source: nats-server 2.15.2. Connections that have gone aren't kept, and subscriptions only counted.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from streamd.api.system import PAGE, ConnectionInfo, Connections, ConnzOptions
from streamd.monitor.varz import uptime_text

if TYPE_CHECKING:
    from streamd.core.connection import Connection
    from streamd.core.core import Core

CLOSED: Final = 1
#: Field to sort by; all but the first fall.
_SORTS: Final = {
    "": "cid",
    "cid": "cid",
    "start": "cid",
    "uptime": "cid",
    "subs": "subscriptions",
    "pending": "pending_bytes",
    "msgs_to": "out_msgs",
    "msgs_from": "in_msgs",
    "bytes_to": "out_bytes",
    "bytes_from": "in_bytes",
}
_LATER: Final = ("last", "idle", "stop", "reason", "rtt")
_SECOND_NS: Final = 1_000_000_000
_AT_ONCE: Final = 100


async def connz(core: Core, options: ConnzOptions, server_id: str) -> Connections:
    """One page of clients. Lets the loop go on in between. Errors: LookupError for options that can't be served."""
    if options.sort not in _SORTS:
        later = options.sort in _LATER
        raise LookupError(
            f"sort by {options.sort} is not supported" if later else f"invalid sorting option: {options.sort}"
        )
    if options.filter_subject:
        raise LookupError("filter_subject is not supported")
    now_ns = time.time_ns()
    found = []
    for number, (conn, connection) in enumerate(list(core.connections.items()), 1):
        if conn in core.connections and _fits(conn, connection, options):
            found.append(_info(core, conn, connection, now_ns, options))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    field = _SORTS[options.sort]
    found.sort(key=lambda one: getattr(one, field), reverse=field != "cid")
    offset, limit = max(options.offset, 0), options.limit if options.limit > 0 else PAGE
    page = found[offset : offset + limit]
    return Connections(
        server_id=server_id,
        now=now_ns,
        num_connections=len(page),
        total=len(found),
        offset=offset,
        limit=limit,
        connections=page,
    )


def _fits(conn: int, connection: Connection, options: ConnzOptions) -> bool:
    wanted = ((options.acc, connection.login.account), (options.user, connection.login.user), (options.cid, conn))
    return options.state != CLOSED and all(one in ("", 0, own) for one, own in wanted)


def _info(core: Core, conn: int, connection: Connection, now_ns: int, options: ConnzOptions) -> ConnectionInfo:
    counts, connect, login = core.engine.connection(conn), connection.connect, connection.login
    ip, port = connection.peer
    return ConnectionInfo(
        cid=conn,
        ip=ip,
        port=port,
        start=connection.started_ns,
        uptime=uptime_text(max(now_ns - connection.started_ns, 0) // _SECOND_NS),
        pending_bytes=counts["pending_bytes"],
        in_msgs=counts["in_msgs"],
        out_msgs=counts["out_msgs"],
        in_bytes=counts["in_bytes"],
        out_bytes=counts["out_bytes"],
        subscriptions=counts["subscriptions"],
        name=connect.name if connect is not None else "",
        lang=connect.lang if connect is not None else "",
        version=connect.version if connect is not None else "",
        authorized_user=login.user if options.auth else "",
        account=login.account if options.auth else "",
    )
