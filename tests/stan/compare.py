"""Whether what was read is what the server said, its subscribers heard, and its clients acked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd.stan.importer.slices import Limits

if TYPE_CHECKING:
    from streamd.stan.importer.model import ChannelData, StanStore, Subscription

#: The limits of tests.stan.scenario.
LIMITS = {"dropped": Limits(max_msgs=3), "expired": Limits(max_age_ns=1_000_000_000)}


def limits(channel: str) -> Limits:
    """What the server kept of a channel."""
    return LIMITS.get(channel, Limits())


def differences(store: StanStore, facts: dict[str, Any]) -> list[str]:
    """What is not the same; nothing if all is well."""
    wrong = []
    channels = {channel.name: channel for channel in store.channels}
    if channels.keys() != facts["channels"].keys():
        wrong.append(f"channels {sorted(channels)}")
    for name, told in facts["channels"].items():
        channel = channels[name]
        counted = {
            "name": name,
            "msgs": channel.count,
            "bytes": channel.stored_bytes,
            "first_seq": channel.first_seq,
            "last_seq": channel.last_seq,
            "subs_count": len(channel.subscriptions),
        }
        if counted != {key: told[key] for key in counted}:
            wrong.append(f"{counted}, the server says {told}")
        wrong += _messages(channel, facts["messages"].get(name, []))
        wrong += _subscriptions(channel, told.get("subscriptions") or [], facts["pending"])
    known = [{"id": client.id, "hb_inbox": client.hb_inbox} for client in store.clients]
    if known != [{key: client[key] for key in ("id", "hb_inbox")} for client in facts["clients"]]:
        wrong.append(f"clients {known}")
    return wrong


def _messages(channel: ChannelData, heard: list[list[Any]]) -> list[str]:
    read = [[one.sequence, one.timestamp_ns, one.reply.decode(), one.data.hex()] for one in channel.messages()]
    return [] if read == heard else [f"channel {channel.name} has {read}, heard was {heard}"]


def _subscriptions(channel: ChannelData, told: list[dict[str, Any]], pending: dict[str, list[int]]) -> list[str]:
    read = {one.ack_inbox: _as_told(one) for one in channel.subscriptions}
    said = {one["ack_inbox"]: {key: value for key, value in one.items() if key != "is_stalled"} for one in told}
    return [
        f"subscription {read.get(inbox)}, the server says {said.get(inbox)}"
        for inbox in read.keys() | said.keys()
        if read.get(inbox) != said.get(inbox)
    ] + [
        f"pending {one.pending}, not acked are {pending.get(one.ack_inbox)}"
        for one in channel.subscriptions
        if list(one.pending) != pending.get(one.ack_inbox, [])
    ]


def _as_told(one: Subscription) -> dict[str, Any]:
    """As /streaming/channelsz shows it. The shadow of a durable queue group is shown with its last client."""
    shown = {
        "client_id": one.client_id,
        "inbox": one.inbox,
        "ack_inbox": one.ack_inbox,
        "durable_name": one.durable_name,
        "queue_name": one.queue_group,
        "is_durable": one.is_durable,
        "is_offline": one.is_offline,
        "max_inflight": one.max_in_flight,
        "ack_wait": one.ack_wait_s,
        "last_sent": one.last_sent,
        "pending_count": len(one.pending),
    }
    if one.is_shadow:
        shown["client_id"] = "beta"
    return {key: value for key, value in shown.items() if value != "" or key == "client_id"}
