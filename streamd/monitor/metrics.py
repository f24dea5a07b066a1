"""`/metrics` for Prometheus: this process, and the series of NATS Streaming that prometheus-nats-exporter made.

Source: prometheus-nats-exporter up to 0.16, collector/streaming.go (flags `-channelz` and `-serverz`; 0.17 has them no
longer): names and labels are the same. Types: what can fall is a gauge here, where the exporter called some a counter; and as
the name of a counter has to end in `_total`, those that only grow and don't are of no stated type. Queries see no difference.

This module is imported by the first request for /metrics, for the library's sake.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streamd import __version__
from streamd.api.wire import time_text
from streamd.monitor import streaming as pages
from streamd.monitor.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamd.stan.views import ChannelView, ServerView, StreamingStatistics, SubscriptionView

#: Name behind `nss_server_`, the text, and the field of the view.
_SERVER: Final = (
    ("bytes_total", "Bytes that the channels hold", "total_bytes"),
    ("msgs_total", "Messages that the channels hold", "total_msgs"),
    ("channels", "Channels", "channels"),
    ("subscriptions", "Subscriptions, offline durables too", "subscriptions"),
    ("clients", "Connected clients", "clients"),
)
_SERVER_GROWING: Final = (
    ("bytes_in", "Bytes of publishes since the start", "in_bytes"),
    ("bytes_out", "Bytes of deliveries since the start", "out_bytes"),
    ("msgs_in", "Publishes since the start", "in_msgs"),
    ("msgs_out", "Deliveries since the start, redeliveries too", "out_msgs"),
)
#: The same behind `nss_chan_`, of a channel and of its subscriptions.
_CHANNEL: Final = (
    ("bytes_total", "Bytes that the channel holds", "bytes"),
    ("msgs_total", "Messages that the channel holds", "msgs"),
    ("last_seq", "Sequence of the last message", "last_seq"),
)
_SUBSCRIPTION: Final = (
    ("subs_last_sent", "Sequence of the last message sent", "last_sent"),
    ("subs_pending_count", "Messages sent and not acked", "pending_count"),
    ("subs_max_inflight", "Messages that may be sent and not acked", "max_inflight"),
)


@dataclass(frozen=True)
class Taken:
    """The views of one scrape."""

    cluster_id: str
    server_id: str
    state: str
    server: ServerView
    channels: list[ChannelView]


async def take(streaming: StreamingStatistics) -> Taken:
    """All views that the series need, taken in the server's loop a few at a time."""
    channels = await pages.views(streaming.channel_names(), lambda name: streaming.channel(name, subscriptions=True))
    return Taken(streaming.cluster_id, streaming.server_id, streaming.state(), streaming.server(), channels)


def render(taken: Taken | None, headers: Mapping[str, str], query: str) -> Answer:
    """The answer to a scrape: format, compression and `name[]` as the library does. Touches nothing of the server's.

    Shapes:  names of headers in small letters.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_About())
    ProcessCollector(registry=registry)
    if taken is not None:
        registry.register(_Streaming(taken))
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": query,
        "HTTP_ACCEPT": headers.get("accept", ""),
        "HTTP_ACCEPT_ENCODING": headers.get("accept-encoding", ""),
    }
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _problem: Any = None) -> Any:
        started.append((status, headers))

    body = b"".join(make_wsgi_app(registry)(environ, start_response))
    status, given = started[0]
    rest = {name.lower(): value for name, value in given}
    return Answer(int(status.split()[0]), rest.pop("content-type"), body, tuple(rest.items()))


class _About(Collector):
    """Which streamd this is."""

    def collect(self) -> Iterable[Metric]:
        about = {"version": __version__, "python_version": platform.python_version()}
        yield InfoMetricFamily("streamd", "Versions", about)

    describe = collect


class _Streaming(Collector):
    """The series of one scrape. What `describe` yields has names only, for `name[]`."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken

    def describe(self) -> Iterable[Metric]:
        return [*_families("gauge", "nss_server", _SERVER), *self._growing(), *self._states(), *self._held()]

    def collect(self) -> Iterable[Metric]:
        taken = self._taken
        labels = {"server_id": taken.server_id}
        server = [*_families("gauge", "nss_server", _SERVER), *self._growing()]
        for family, (_, _, field) in zip(server, _SERVER + _SERVER_GROWING, strict=True):
            family.add_sample(family.name, labels, getattr(taken.server, field))
        yield from server
        active, info = self._states()
        active.add_sample(active.name, labels, taken.state == pages.FT_ACTIVE)
        info.add_sample(info.name, self._info_labels(), 1)
        yield from (active, info)
        held = self._held()
        for channel in taken.channels:
            self._add_channel(held, channel)
        yield from held

    def _growing(self) -> list[Metric]:
        return _families("unknown", "nss_server", _SERVER_GROWING)

    def _states(self) -> tuple[Metric, Metric]:
        active = Metric("nss_server_active", "1 if this is the active server of a fault tolerance group", "gauge")
        return active, Metric("nss_server_info", "The streaming server, always 1", "gauge")

    def _held(self) -> list[Metric]:
        return _families("gauge", "nss_chan", _CHANNEL + _SUBSCRIPTION)

    def _info_labels(self) -> dict[str, str]:
        taken = self._taken
        return {
            "server_id": taken.server_id,
            "cluster_id": taken.cluster_id,
            "version": __version__,
            "go_version": pages.LANGUAGE,
            "state": taken.state,
            "role": taken.server.role,
            "start_time": time_text(taken.server.start_ns),
        }

    def _add_channel(self, families: list[Metric], channel: ChannelView) -> None:
        taken = self._taken
        labels = {"server_id": taken.server_id, "server_role": taken.server.role, "channel": channel.name}
        for family, (_, _, field) in zip(families, _CHANNEL, strict=False):
            family.add_sample(family.name, labels, getattr(channel, field))
        for one in channel.subscriptions:
            of_subscription = {**labels, **_labels(one)}
            for family, (_, _, field) in zip(families[len(_CHANNEL) :], _SUBSCRIPTION, strict=True):
                family.add_sample(family.name, of_subscription, getattr(one, field))


def _families(kind: str, prefix: str, table: tuple[tuple[str, str, str], ...]) -> list[Metric]:
    return [Metric(f"{prefix}_{name}", text, kind) for name, text, _ in table]


def _labels(one: SubscriptionView) -> dict[str, str]:
    return {
        "client_id": one.client_id,
        "inbox": one.inbox,
        "queue_name": one.queue_name,
        "is_durable": str(bool(one.durable_name)).lower(),
        "is_offline": str(one.is_offline).lower(),
        "durable_name": one.durable_name,
    }
