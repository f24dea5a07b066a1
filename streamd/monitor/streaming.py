"""The monitoring of NATS Streaming: the pages under `/streaming`.

Source: nats-streaming-server 0.25.6, whose paths, arguments, fields, order, omissions and texts these are; what a real one
answers is recorded in tests/monitor/golden. Not here: Prometheus (metrics.py).
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qs

from streamd import __version__
from streamd.api.wire import time_text
from streamd.monitor.answers import HTML, JSON, Answer, json_bytes, text
from streamd.monitor.varz import uptime_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamd.stan.views import ChannelLimitsView, ChannelView, ClientView, StreamingStatistics, SubscriptionView

    View = TypeVar("View")

ROOT: Final = "/streaming"
PATHS: Final = tuple(ROOT + name for name in ("", "/channelsz", "/clientsz", "/isFTActive", "/serverz", "/storez"))
#: What stands under `go`, which tools read as a text: the language and its version.
LANGUAGE: Final = f"Python {platform.python_version()}"
FT_ACTIVE: Final = "FT_ACTIVE"

_NS_PER_S: Final = 1_000_000_000
_LIMIT: Final = 1024
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
# The original takes any text and puts it in front of the answer, where a page may have it run as anything.
_CALLBACK: Final = re.compile(r"[A-Za-z_$][\w$]{0,99}(?:\.[A-Za-z_$][\w$]{0,99}){0,9}", re.ASCII)
# So many views are made before the loop gets to serve clients again: about a millisecond.
_VIEWS_AT_ONCE: Final = 100


class Query:
    """The arguments of a request. What doesn't parse is as if it weren't there."""

    def __init__(self, query: bytes) -> None:
        self._values = parse_qs(query.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")

    def text(self, name: str) -> str:
        """The first value, or an empty text."""
        return self._values.get(name, [""])[0]

    def number(self, name: str) -> int:
        """A decimal number, or 0."""
        value = self.text(name)
        return int(value) if _INTEGER.fullmatch(value) else 0


async def answer(streaming: StreamingStatistics, path: str, query_string: bytes) -> Answer:
    """The answer of one of PATHS. Errors: what the statistics raise."""
    query = Query(query_string)
    if path == ROOT:
        return Answer(200, HTML, _index())
    if path.endswith("/isFTActive"):
        return Answer(200 if streaming.state() == FT_ACTIVE else 204, "", b"")
    callback = query.text("callback")
    if callback and not _CALLBACK.fullmatch(callback):
        return text(400, "callback must be the name of a JavaScript function, such as show or app.show")
    if path.endswith("/serverz"):
        found: Mapping[str, object] = serverz(streaming)
    elif path.endswith("/storez"):
        found = storez(streaming)
    elif path.endswith("/clientsz"):
        if name := query.text("client"):
            client = streaming.client(name, subscriptions=query.number("subs") == 1)
            if client is None:
                return text(404, f"Client {name} not found")
            found = _client(client)
        else:
            found = await _clientsz(streaming, query)
    elif name := query.text("channel"):
        channel = streaming.channel(name, subscriptions=query.number("subs") == 1)
        if channel is None:
            return text(404, f"Channel {name} not found")
        found = _channel(channel)
    else:
        found = await _channelsz(streaming, query)
    # A long list takes a while to print, and nothing of it belongs to the loop any more.
    body = await asyncio.to_thread(json_bytes, found)
    if callback:
        return Answer(200, "application/javascript", callback.encode() + b"(" + body + b")")
    return Answer(200, JSON, body)


async def views(names: Sequence[str], view: Callable[[str], View | None]) -> list[View]:
    """The views of those names that are still there. Lets the loop go on in between."""
    found = []
    for number, name in enumerate(names, 1):
        if (one := view(name)) is not None:
            found.append(one)
        if number % _VIEWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def serverz(streaming: StreamingStatistics) -> dict[str, object]:
    """The fields of /streaming/serverz."""
    server, now_ns = streaming.server(), time.time_ns()
    return {
        "cluster_id": streaming.cluster_id,
        "server_id": streaming.server_id,
        "version": __version__,
        "go": LANGUAGE,
        "state": streaming.state(),
        **_given(role=server.role, node_id=server.node_id),
        "now": time_text(now_ns),
        "start_time": time_text(server.start_ns),
        "uptime": uptime_text(max(now_ns - server.start_ns, 0) // _NS_PER_S),
        "clients": server.clients,
        "subscriptions": server.subscriptions,
        "channels": server.channels,
        "total_msgs": server.total_msgs,
        "total_bytes": server.total_bytes,
        "in_msgs": server.in_msgs,
        "in_bytes": server.in_bytes,
        "out_msgs": server.out_msgs,
        "out_bytes": server.out_bytes,
        **_given(open_fds=_open_files(), max_fds=_max_files()),
    }


def storez(streaming: StreamingStatistics) -> dict[str, object]:
    """The fields of /streaming/storez."""
    store = streaming.store()
    channels = {name: _limits(store.channels[name]) for name in sorted(store.channels)}
    return {
        **_head(streaming),
        "type": store.type,
        "limits": {"max_channels": store.max_channels, **_limits(store.limits), **_given(channels=channels)},
        "total_msgs": store.total_msgs,
        "total_bytes": store.total_bytes,
    }


async def _clientsz(streaming: StreamingStatistics, query: Query) -> dict[str, object]:
    subscriptions = query.number("subs") == 1
    names, page = _page(streaming.client_names(), query)

    def shown(name: str) -> dict[str, object] | None:
        client = streaming.client(name, subscriptions=subscriptions)
        return _client(client) if client is not None else None

    clients = await views(names, shown)
    page["count"] = len(clients)
    return {**_head(streaming), **page, "clients": clients}


async def _channelsz(streaming: StreamingStatistics, query: Query) -> dict[str, object]:
    names, page = _page(streaming.channel_names(), query)
    if query.number("subs") != 1:
        return {**_head(streaming), **page, **_given(names=list(names))}

    def shown(name: str) -> dict[str, object] | None:
        channel = streaming.channel(name, subscriptions=True)
        return _channel(channel) if channel is not None else None

    channels = await views(names, shown)
    page["count"] = len(channels)
    return {**_head(streaming), **page, **_given(channels=channels)}


def _head(streaming: StreamingStatistics) -> dict[str, object]:
    return {
        "cluster_id": streaming.cluster_id,
        "server_id": streaming.server_id,
        "now": time_text(time.time_ns()),
    }


def _page(names: Sequence[str], query: Query) -> tuple[Sequence[str], dict[str, object]]:
    """The names on the page asked for, and the fields that describe it."""
    offset = max(query.number("offset"), 0)
    limit = query.number("limit")
    limit = limit if limit > 0 else _LIMIT
    shown = names[offset : offset + limit]
    return shown, {"offset": offset, "limit": limit, "count": len(shown), "total": len(names)}


def _client(client: ClientView) -> dict[str, object]:
    subscriptions = {name: _subscriptions(client.subscriptions[name]) for name in sorted(client.subscriptions)}
    return {
        "id": client.client_id,
        "hb_inbox": client.heartbeat_inbox,
        "subs_count": client.subs_count,
        **_given(subscriptions=subscriptions),
    }


def _channel(channel: ChannelView) -> dict[str, object]:
    return {
        "name": channel.name,
        "msgs": channel.msgs,
        "bytes": channel.bytes,
        "first_seq": channel.first_seq,
        "last_seq": channel.last_seq,
        "subs_count": channel.subs_count,
        **_given(subscriptions=_subscriptions(channel.subscriptions)),
    }


def _subscriptions(subscriptions: Sequence[SubscriptionView]) -> list[dict[str, object]]:
    return [_subscription(subscription) for subscription in subscriptions]


def _subscription(one: SubscriptionView) -> dict[str, object]:
    durable, queue = one.durable_name, one.queue_name
    if durable and queue:
        # The original knows a durable queue group by both names as one.
        durable, queue = "", f"{durable}:{queue}"
    return {
        "client_id": one.client_id,
        "inbox": one.inbox,
        "ack_inbox": one.ack_inbox,
        **_given(durable_name=durable, queue_name=queue),
        "is_durable": bool(one.durable_name),
        "is_offline": one.is_offline,
        "max_inflight": one.max_inflight,
        "ack_wait": one.ack_wait_s,
        "last_sent": one.last_sent,
        "pending_count": one.pending_count,
        "is_stalled": one.is_stalled,
    }


def _limits(limits: ChannelLimitsView) -> dict[str, object]:
    return {
        "max_msgs": limits.max_msgs,
        "max_bytes": limits.max_bytes,
        "max_age": limits.max_age_ns,
        "max_subscriptions": limits.max_subscriptions,
        "max_inactivity": limits.max_inactivity_ns,
    }


def _given(**fields: Any) -> dict[str, object]:
    """The fields without the empty ones."""
    return {name: value for name, value in fields.items() if value}


def _open_files() -> int:
    """How many descriptors this process has open; 0 where that can't be known."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _max_files() -> int:
    """How many it may have open; 0 if there is no bound."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 0


def _index() -> bytes:
    links = "\n".join(f'<li><a href=".{path}">{path.rpartition("/")[2]}</a></li>' for path in PATHS[1:])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>streamd: NATS Streaming</title></head>\n'
        f"<body><h1>NATS Streaming</h1>\n<ul>\n{links}\n</ul></body></html>\n"
    ).encode()
