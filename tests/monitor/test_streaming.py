"""The pages under /streaming: byte for byte what a real nats-streaming-server answered, and the rest.

golden/record.py says how the recording was made.
"""

from __future__ import annotations

import json
import platform
import re
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import pytest

from streamd import __version__
from streamd.stan.views import ChannelView, ClientView, ServerView, SubscriptionView
from tests.monitor.asking import Heard, Told, ask, asked, with_monitor
from tests.monitor.golden.record import EMPTY, GOLDEN, PATHS
from tests.monitor.scene import Scene, recorded_scene

#: What is another in each run, on each machine or in each product.
OTHER: Final = re.compile(r'("(?:now|version|go|uptime|open_fds|max_fds)": )("[^"]*"|\d+)')
HEADS: Final[dict[str, Any]] = json.loads((GOLDEN / "heads.json").read_text())


def neutral(body: str) -> str:
    return OTHER.sub(r"\1*", body)


def fields(found: Heard) -> Any:
    """The body, which has to be JSON."""
    assert found.status == 200, found.body
    assert found.kind == "application/json"
    return found.json()


@pytest.mark.parametrize("name", [*PATHS, *EMPTY])
def test_the_answer_is_that_of_the_real_server(name: str) -> None:
    path, status, kind = HEADS[name]
    scene = recorded_scene()
    if name in EMPTY:
        scene.clients.clear()
        scene.channels.clear()
    recorded = (GOLDEN / name).read_text()
    if name in EMPTY:
        recorded = re.sub(r'"server_id": "\w+"', f'"server_id": "{scene.server_id}"', recorded)

    found = asked(path, scene)

    assert (status, kind) == (found.status, found.kind)
    assert neutral(recorded) == neutral(found.body)


def test_the_recording_has_what_it_is_about() -> None:
    """The comparison above can fail: these are in it."""
    subscriptions = json.loads((GOLDEN / "channel_subs.json").read_text())["subscriptions"]

    assert len(HEADS) == len(PATHS) + len(EMPTY)
    assert {one.get("queue_name") for one in subscriptions} == {None, "workers", "dq:workers", "dq2:gone"}
    assert sum(one["is_offline"] for one in subscriptions) == 2
    assert sum(one["is_stalled"] for one in subscriptions) == 3


def test_serverz_is_ours_where_it_has_to_be() -> None:
    scene = Scene()
    scene.server_view = ServerView(1_700_000_000_500_000_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, role="Leader", node_id="n1")
    scene.now_state = "CLUSTERED"

    found = fields(asked("/streaming/serverz", scene))

    assert list(found)[:10] == [
        "cluster_id", "server_id", "version", "go", "state", "role", "node_id", "now", "start_time", "uptime",
    ]  # fmt: skip
    assert found["version"] == __version__
    assert found["go"] == f"Python {platform.python_version()}"
    assert (found["state"], found["role"], found["node_id"]) == ("CLUSTERED", "Leader", "n1")
    assert found["start_time"] == "2023-11-14T22:13:20.5Z"
    assert datetime.fromisoformat(found["now"]) > datetime.fromisoformat(found["start_time"])
    assert re.fullmatch(r"\d+y\d+d\d+h\d+m\d+s", found["uptime"])
    assert 0 < found["open_fds"] < found["max_fds"]


@pytest.mark.parametrize(
    ("state", "status"),
    [("FT_ACTIVE", 200), ("FT_STANDBY", 204), ("STANDALONE", 204), ("CLUSTERED", 204), ("FAILED", 204)],
)
def test_only_the_active_one_says_so(state: str, status: int) -> None:
    scene = Scene()
    scene.now_state = state

    async def test(port: int, _told: Told) -> None:
        found = await ask(port, "/streaming/isFTActive")

        assert (found.status, found.raw) == (status, b"")

    with_monitor(test, scene)


def many(count: int) -> Scene:
    scene = Scene()
    for number in range(count):
        name = f"ch.{number:05}"
        scene.channels[name] = ChannelView(name, 1, 10, 1, 1, 0)
        scene.clients[f"c{number:05}"] = ClientView(f"c{number:05}", "hb", 0)
    return scene


@pytest.mark.parametrize("what", ["channelsz", "clientsz"])
def test_a_page_makes_no_more_views_than_it_shows(what: str) -> None:
    scene = many(10_000)

    found = fields(asked(f"/streaming/{what}?limit=10&offset=4321&subs=1", scene))

    assert (found["offset"], found["limit"], found["count"], found["total"]) == (4321, 10, 10, 10_000)
    assert [one.get("name") or one["id"] for one in found[what[:-1]]] == scene.asked
    assert len(scene.asked) == 10
    assert scene.asked[0].endswith("04321")


def test_names_make_no_view() -> None:
    scene = many(3000)

    first = fields(asked("/streaming/channelsz", scene))
    last = fields(asked("/streaming/channelsz?offset=2990&limit=5000", scene))

    assert (first["limit"], first["count"], len(first["names"])) == (1024, 1024, 1024)
    assert last["names"] == [f"ch.{number:05}" for number in range(2990, 3000)]
    assert scene.asked == []


@pytest.mark.parametrize(
    ("arguments", "offset", "limit"),
    [
        ("offset=2&offset=3", 2, 1024),
        ("limit=-5&offset=-5", 0, 1024),
        ("limit=1e3&offset=1.0", 0, 1024),
        ("limit=%2B7&offset=1_0", 0, 7),
        ("limit=&offset=", 0, 1024),
        ("limit=%D9%A3", 0, 1024),
        ("limit=9223372036854775807&offset=1", 1, 9223372036854775807),
        ("limit=" + "9" * 5000, 0, 1024),
        ("%ZZ&=&&limit=4", 0, 4),
        ("LIMIT=4", 0, 1024),
    ],
)
def test_odd_arguments(arguments: str, offset: int, limit: int) -> None:
    found = fields(asked(f"/streaming/channelsz?{arguments}", many(12)))

    assert (found["offset"], found["limit"]) == (offset, limit)
    assert found["count"] == min(limit, 12 - offset)


@pytest.mark.parametrize("subs", ["", "?subs=0", "?subs=2", "?subs=true", "?subs=-1"])
def test_only_subs_1_asks_for_subscriptions(subs: str) -> None:
    scene = recorded_scene()

    clients = fields(asked(f"/streaming/clientsz{subs}", scene))["clients"]

    assert [one["subs_count"] for one in clients] == [4, 2, 0]
    assert all(list(one) == ["id", "hb_inbox", "subs_count"] for one in clients)
    assert "channels" not in fields(asked(f"/streaming/channelsz{subs}", scene))


@pytest.mark.parametrize("what", ["channelsz", "clientsz"])
def test_what_goes_meanwhile_is_left_out(what: str) -> None:
    scene = many(3)
    scene.gone = {"ch.00001", "c00001"}

    found = fields(asked(f"/streaming/{what}?subs=1", scene))
    single = asked(f"/streaming/{what}?{what[:-2]}={scene.asked[1]}", scene)

    assert (found["count"], found["total"], len(found[what[:-1]])) == (2, 3, 2)
    assert single.status == 404


ODD_NAMES: Final = [
    "two words",
    "grün.✓",
    "\"quoted\\'",
    "a&b=c+d%20",
    "<script>",
    "\u2028",
    "tab\tline\n",
    "\U0001f600",
    "#?/",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_comes_back_as_it_is(name: str) -> None:
    scene = Scene()
    one = SubscriptionView("c", "in", "ack", durable_name=name, queue_name=name)
    scene.channels[name] = ChannelView(name, 1, 1, 1, 1, 1, [one])
    scene.clients[name] = ClientView(name, name, 1, {name: [one]})
    given = quote(name, safe="")

    names = fields(asked("/streaming/channelsz", scene))["names"]
    channel = fields(asked(f"/streaming/channelsz?channel={given}&subs=1", scene))
    client = asked(f"/streaming/clientsz?client={given}&subs=1", scene)

    assert names == [name]
    assert channel["name"] == name
    assert channel["subscriptions"][0]["queue_name"] == f"{name}:{name}"
    assert list(fields(client)["subscriptions"]) == [name]
    assert "<" not in client.body


@pytest.mark.parametrize(("what", "text"), [("channel", "Channel"), ("client", "Client")])
def test_an_unknown_name_is_a_404_that_no_browser_runs(what: str, text: str) -> None:
    found = asked(f"/streaming/{what}sz?{what}={quote('<script>☃')}&callback=f", Scene())

    assert (found.status, found.kind) == (404, "text/plain; charset=utf-8")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.body == f"{text} <script>☃ not found\n"


@pytest.mark.parametrize("page", ["serverz", "storez", "clientsz", "channelsz", "channelsz?channel=orders"])
def test_jsonp(page: str) -> None:
    mark = "&" if "?" in page else "?"

    found = asked(f"/streaming/{page}{mark}callback=jQuery12_3.$done", recorded_scene())

    assert (found.status, found.kind) == (200, "application/javascript")
    assert found.body.startswith("jQuery12_3.$done({\n")
    assert found.body.endswith("})")
    assert json.loads(found.body.removeprefix("jQuery12_3.$done(").removesuffix(")"))


@pytest.mark.parametrize("callback", ["alert(1)//", "a b", "<b>", "1st", "a..b", "f\n", "fé", "x" * 200])
def test_a_callback_is_a_name(callback: str) -> None:
    found = asked(f"/streaming/serverz?callback={quote(callback)}", Scene())

    assert (found.status, found.kind) == (400, "text/plain; charset=utf-8")
    assert "callback must be the name" in found.body
    assert callback not in found.body


def test_no_callback_is_json() -> None:
    assert fields(asked("/streaming/serverz?callback=", Scene()))


def test_the_index_leads_to_each_page() -> None:
    async def test(port: int, _told: Told) -> None:
        top = await ask(port, "/")
        index = await ask(port, "/streaming")
        links = re.findall(r'href="\.(/streaming/\w+)"', index.body)

        assert 'href="./streaming"' in top.body
        assert index.kind == "text/html; charset=utf-8"
        assert sorted(links) == sorted(
            f"/streaming/{name}" for name in ("channelsz", "clientsz", "isFTActive", "serverz", "storez")
        )
        assert [(await ask(port, link)).status for link in links] == [204 if "FT" in link else 200 for link in links]

    with_monitor(test, recorded_scene())


def test_head_has_the_length_and_no_body() -> None:
    async def test(port: int, _told: Told) -> None:
        got, head = [await ask(port, "/streaming/storez", method) for method in ("GET", "HEAD")]

        assert (head.status, head.kind, head.raw) == (200, "application/json", b"")
        # The time of day may be a digit or two shorter.
        assert abs(int(head.headers["content-length"]) - len(got.raw)) < 10

    with_monitor(test, recorded_scene())


def test_other_methods_are_refused() -> None:
    assert asked("/streaming/serverz", Scene(), "POST").status == 405


def test_requests_are_counted_by_path() -> None:
    async def test(port: int, _told: Told) -> None:
        for path in ("/streaming/clientsz?subs=1", "/streaming/clientsz", "/streaming", "/streaming/nothing"):
            await ask(port, path)
        counts = fields(await ask(port, "/varz"))["http_req_stats"]

        assert counts["/streaming/clientsz"] == 2
        assert counts["/streaming"] == 1
        assert counts["/streaming/isFTActive"] == 0
        assert "/streaming/nothing" not in counts

    with_monitor(test, Scene())


@pytest.mark.parametrize("path", ["/streaming", "/streaming/serverz", "/streaming/isFTActive"])
def test_without_streaming_there_is_nothing_of_it(path: str) -> None:
    async def test(port: int, _told: Told) -> None:
        found = await ask(port, path)
        index = await ask(port, "/")
        counts = fields(await ask(port, "/varz"))["http_req_stats"]

        assert (found.status, found.body) == (404, "404 page not found\n")
        assert "streaming" not in index.body
        assert path not in counts

    with_monitor(test)
