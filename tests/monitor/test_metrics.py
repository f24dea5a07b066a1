"""/metrics: the series of streamd and those of prometheus-nats-exporter, read with the library's own parsers."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from streamd import __version__
from streamd.monitor.streaming import LANGUAGE
from streamd.stan.views import ChannelView, ServerView, SubscriptionView
from tests.monitor.asking import Told, ask, asked, with_monitor
from tests.monitor.scene import Scene, recorded_scene

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"

#: prometheus-nats-exporter 0.16.0, collector/streaming.go: name → its labels.
OF_SERVER: Final = {"server_id"}
OF_CHANNEL: Final = {"server_id", "server_role", "channel"}
OF_SUBSCRIPTION: Final = OF_CHANNEL | {
    "client_id", "inbox", "queue_name", "is_durable", "is_offline", "durable_name",
}  # fmt: skip
EXPORTER: Final = {
    "nss_server_bytes_total": OF_SERVER,
    "nss_server_bytes_in": OF_SERVER,
    "nss_server_bytes_out": OF_SERVER,
    "nss_server_msgs_total": OF_SERVER,
    "nss_server_msgs_in": OF_SERVER,
    "nss_server_msgs_out": OF_SERVER,
    "nss_server_channels": OF_SERVER,
    "nss_server_subscriptions": OF_SERVER,
    "nss_server_clients": OF_SERVER,
    "nss_server_active": OF_SERVER,
    "nss_server_info": OF_SERVER | {"cluster_id", "version", "go_version", "state", "role", "start_time"},
    "nss_chan_bytes_total": OF_CHANNEL,
    "nss_chan_msgs_total": OF_CHANNEL,
    "nss_chan_last_seq": OF_CHANNEL,
    "nss_chan_subs_last_sent": OF_SUBSCRIPTION,
    "nss_chan_subs_pending_count": OF_SUBSCRIPTION,
    "nss_chan_subs_max_inflight": OF_SUBSCRIPTION,
}


class Series:
    """The samples of one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.types: dict[str, str] = {}
        self.samples: list[Sample] = []
        for family in families:
            self.types |= {sample.name: family.type for sample in family.samples}
            self.samples += family.samples

    def value(self, name: str, **labels: str) -> float:
        """The one value of a name with these labels."""
        found = [one for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        assert len(found) == 1, found
        return float(found[0].value)


def scrape(scene: Scene | None) -> Series:
    found = asked("/metrics", scene)

    assert found.status == 200
    assert found.kind.startswith("text/plain; version=0.0.4")
    return Series(parse_text(found.body))


def test_the_names_and_labels_are_the_exporters() -> None:
    series = scrape(recorded_scene())

    labels: dict[str, set[str]] = {}
    for sample in series.samples:
        if sample.name.startswith("nss_"):
            assert labels.setdefault(sample.name, set(sample.labels)) == set(sample.labels)
    assert labels == EXPORTER


def test_both_formats_have_the_same_series() -> None:
    """Prometheus asks for OpenMetrics, where a counter's name has to end in _total."""
    found = asked("/metrics", recorded_scene(), accept=OPENMETRICS)
    opened = Series(parse_openmetrics(found.body))  # type: ignore[no-untyped-call]
    plain = scrape(recorded_scene())

    assert found.kind.startswith("application/openmetrics-text; version=1.0.0")
    ours = [one for one in plain.samples if one.name.startswith("nss_")]
    assert [one for one in opened.samples if one.name.startswith("nss_")] == ours
    assert len(ours) == 11 + 4 * 3 + 8 * 3
    assert {opened.types[name] for name in EXPORTER} == {"gauge", "unknown"}
    assert [name for name in EXPORTER if opened.types[name] == "unknown"] == [
        "nss_server_bytes_in", "nss_server_bytes_out", "nss_server_msgs_in", "nss_server_msgs_out",
    ]  # fmt: skip


def test_the_values_are_those_of_the_views() -> None:
    scene = Scene()
    scene.now_state = "FT_ACTIVE"
    scene.server_view = ServerView(10**18, 1, 2, 3, 4, 5, 6, 7, 8, 9, role="Leader")

    series = scrape(scene)

    of_server = {one.name: one.value for one in series.samples if one.name.startswith("nss_server_")}
    assert of_server == {
        "nss_server_clients": 1, "nss_server_subscriptions": 2, "nss_server_channels": 3,
        "nss_server_msgs_total": 4, "nss_server_bytes_total": 5,
        "nss_server_msgs_in": 6, "nss_server_bytes_in": 7, "nss_server_msgs_out": 8, "nss_server_bytes_out": 9,
        "nss_server_active": 1, "nss_server_info": 1,
    }  # fmt: skip
    info = next(one.labels for one in series.samples if one.name == "nss_server_info")
    assert info == {
        "server_id": "S", "cluster_id": "c", "version": __version__, "go_version": LANGUAGE,
        "state": "FT_ACTIVE", "role": "Leader", "start_time": "2001-09-09T01:46:40Z",
    }  # fmt: skip


def test_a_standby_is_not_active() -> None:
    scene = Scene()
    scene.now_state = "FT_STANDBY"

    assert scrape(scene).value("nss_server_active", server_id="S") == 0


def test_subscriptions_are_told_apart() -> None:
    series = scrape(recorded_scene())

    plain = {"channel": "orders", "inbox": "in.plain", "is_durable": "false", "durable_name": "", "queue_name": ""}
    durable = {"inbox": "in.away", "is_durable": "true", "is_offline": "true", "durable_name": "away"}
    member = {"inbox": "in.durable.queue", "is_durable": "true", "durable_name": "dq", "queue_name": "workers"}
    assert series.value("nss_chan_subs_max_inflight", **plain) == 2
    assert series.value("nss_chan_subs_pending_count", **durable) == 5
    assert series.value("nss_chan_subs_last_sent", **member, is_offline="false") == 5


@pytest.mark.parametrize("name", ["two words", "grün.✓", 'a"b\\c', "line\nfeed", "{x='1'}", "\U0001f600"])
def test_any_name_comes_back_as_it_is(name: str) -> None:
    scene = Scene()
    one = SubscriptionView("c", name, "ack", durable_name=name, queue_name=f"a:{name}", last_sent=7)
    scene.channels[name] = ChannelView(name, 3, 30, 1, 3, 1, [one])

    series = scrape(scene)

    assert series.value("nss_chan_msgs_total", channel=name) == 3
    assert series.value("nss_chan_subs_last_sent", durable_name=name, queue_name=f"a:{name}", inbox=name) == 7


def test_every_channel_is_there() -> None:
    """The exporter saw the 1,024 of one page."""
    scene = Scene()
    scene.channels = {f"ch{number}": ChannelView(f"ch{number}", number, 0, 0, 0, 0) for number in range(2500)}
    scene.gone = {"ch17"}

    series = scrape(scene)

    assert len([one for one in series.samples if one.name == "nss_chan_msgs_total"]) == 2499
    assert series.value("nss_chan_msgs_total", channel="ch2499") == 2499


def test_without_streaming_there_is_the_process() -> None:
    series = scrape(None)

    assert series.value("streamd_info", version=__version__) == 1
    assert series.value("process_start_time_seconds") > 1_000_000_000
    assert not [one.name for one in series.samples if one.name.startswith("nss_")]


def test_only_what_is_asked_for() -> None:
    found = asked("/metrics?name[]=nss_chan_msgs_total&name[]=nss_server_active", recorded_scene())

    names = [one.name for one in Series(parse_text(found.body)).samples]
    assert sorted(set(names)) == ["nss_chan_msgs_total", "nss_server_active"]
    assert len(names) == 5


def test_compression() -> None:
    found = asked("/metrics", recorded_scene(), accept_encoding="gzip")

    assert found.headers["content-encoding"] == "gzip"
    assert int(found.headers["content-length"]) == len(found.raw)
    assert b"nss_chan_last_seq{" in gzip.decompress(found.raw)


def test_a_scrape_over_a_real_socket() -> None:
    async def test(port: int, _told: Told) -> None:
        got, head = [await ask(port, "/metrics", method, accept=OPENMETRICS) for method in ("GET", "HEAD")]

        assert got.status == head.status == 200
        assert got.body.endswith("# EOF\n")
        assert head.raw == b""
        assert int(head.headers["content-length"]) > 1000

    with_monitor(test, recorded_scene())


def test_the_library_is_loaded_by_the_first_scrape() -> None:
    program = """
import sys
from tests.monitor.asking import ask, with_monitor

async def test(port, told):
    for path in ("/", "/varz", "/healthz"):
        await ask(port, path)
    before = "prometheus_client" in sys.modules
    await ask(port, "/metrics")
    print(before, "prometheus_client" in sys.modules)

with_monitor(test)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["False", "True"]
