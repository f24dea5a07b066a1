"""A fake streaming server that holds what the recorded answers in golden/ show, or whatever a test puts into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamd.api.wire import time_parse
from streamd.stan.views import ChannelLimitsView, ChannelView, ClientView, ServerView, StoreView, SubscriptionView
from tests.monitor.golden.record import GOLDEN

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = ServerView(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
UNLIMITED = ChannelLimitsView(0, 0, 0, 0, 0)


class Scene:
    """Streaming statistics by hand. `asked` holds the name of each client or channel a view was made of."""

    def __init__(self) -> None:
        self.cluster_id = "c"
        self.server_id = "S"
        self.now_state = "STANDALONE"
        self.server_view = NOTHING
        self.store_view = StoreView("MEMORY", 0, UNLIMITED, {}, 0, 0)
        self.clients: dict[str, ClientView] = {}
        self.channels: dict[str, ChannelView] = {}
        self.asked: list[str] = []
        self.gone: set[str] = set()

    def state(self) -> str:
        return self.now_state

    def server(self) -> ServerView:
        return self.server_view

    def store(self) -> StoreView:
        return self.store_view

    def client_names(self) -> Sequence[str]:
        return sorted(self.clients)

    def client(self, client_id: str, *, subscriptions: bool) -> ClientView | None:
        self.asked.append(client_id)
        view = self.clients.get(client_id)
        if view is None or client_id in self.gone or subscriptions:
            return None if client_id in self.gone else view
        return ClientView(view.client_id, view.heartbeat_inbox, view.subs_count)

    def channel_names(self) -> Sequence[str]:
        return sorted(self.channels)

    def channel(self, name: str, *, subscriptions: bool) -> ChannelView | None:
        self.asked.append(name)
        view = self.channels.get(name)
        if view is None or name in self.gone or subscriptions:
            return None if name in self.gone else view
        return ChannelView(view.name, view.msgs, view.bytes, view.first_seq, view.last_seq, view.subs_count)


def recorded_scene() -> Scene:
    """What the real server held when its answers were recorded."""
    scene = Scene()
    server, store = _golden("serverz.json"), _golden("storez.json")
    scene.cluster_id, scene.server_id, scene.now_state = server["cluster_id"], server["server_id"], server["state"]
    counts = (
        "clients", "subscriptions", "channels", "total_msgs", "total_bytes",
        "in_msgs", "in_bytes", "out_msgs", "out_bytes",
    )  # fmt: skip
    scene.server_view = ServerView(time_parse(server["start_time"])[0], **{name: server[name] for name in counts})
    limits = store["limits"]
    scene.store_view = StoreView(
        store["type"],
        limits["max_channels"],
        _limits(limits),
        # Backwards, as the order of the answer is not the order of the view.
        {name: _limits(limits["channels"][name]) for name in reversed(limits["channels"])},
        store["total_msgs"],
        store["total_bytes"],
    )
    for one in _golden("clientsz_subs.json")["clients"]:
        by_channel = {
            name: [_subscription(each) for each in found]
            for name, found in reversed(one.get("subscriptions", {}).items())
        }
        scene.clients[one["id"]] = ClientView(one["id"], one["hb_inbox"], one["subs_count"], by_channel)
    for one in reversed(_golden("channelsz_subs.json")["channels"]):
        subscriptions = [_subscription(each) for each in one.pop("subscriptions", ())]
        scene.channels[one["name"]] = ChannelView(**one, subscriptions=subscriptions)
    return scene


def _golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def _limits(found: dict[str, int]) -> ChannelLimitsView:
    names = ("max_msgs", "max_bytes", "max_age", "max_subscriptions", "max_inactivity")
    return ChannelLimitsView(*(found[name] for name in names))


def _subscription(found: dict[str, Any]) -> SubscriptionView:
    durable, queue = found.get("durable_name", ""), found.get("queue_name", "")
    if found["is_durable"] and queue:
        durable, _, queue = queue.partition(":")
    return SubscriptionView(
        client_id=found["client_id"],
        inbox=found["inbox"],
        ack_inbox=found["ack_inbox"],
        durable_name=durable,
        queue_name=queue,
        is_offline=found["is_offline"],
        max_inflight=found["max_inflight"],
        ack_wait_s=found["ack_wait"],
        last_sent=found["last_sent"],
        pending_count=found["pending_count"],
        is_stalled=found["is_stalled"],
    )
