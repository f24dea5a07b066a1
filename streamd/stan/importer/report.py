"""The verification report of an import: what there is, counted and summed up, for people and as JSON.

Every message is read for it, so that damage is found here and not halfway through an import.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.stan.importer.model import ChannelData, StanStore, StoredMessage, Subscription

DIGITS: Final = 16
PENDING_SHOWN: Final = 8


class Summary:
    """Count, bytes of data, first and last sequence, and checksum of messages that are shown to it one by one.

    Checksum: SHA-256 over, for each message in order, sequence and time of 8 bytes each, then length of 4 and content of
    the reply subject and of the data, all big-endian; its first 16 hex digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.data_bytes = 0
        self.first = 0
        self.last = 0
        self._hash = sha256()

    def add(self, message: StoredMessage) -> None:
        """The next message."""
        self.first = self.first or message.sequence
        self.last = message.sequence
        self.count += 1
        self.data_bytes += len(message.data)
        head = message.sequence.to_bytes(8, "big") + message.timestamp_ns.to_bytes(8, "big", signed=True)
        for part in (message.reply, message.data):
            head += len(part).to_bytes(4, "big") + part
        self._hash.update(head)

    @property
    def checksum(self) -> str:
        """Of what was shown so far."""
        return self._hash.hexdigest()[:DIGITS]


def summarise(messages: Iterable[StoredMessage]) -> Summary:
    """Of all of them. Errors: those of the iterator."""
    summary = Summary()
    for message in messages:
        summary.add(message)
    return summary


def checksum(messages: Iterable[StoredMessage]) -> str:
    """The same for a store of either kind that has the same messages."""
    return summarise(messages).checksum


def report(store: StanStore) -> dict[str, Any]:
    """As JSON. Errors: ImportRefused, if a message can't be read."""
    channels = [_channel(channel) for channel in store.channels]
    names = ("messages", "missing", "data_bytes", "stored_bytes")
    totals = {name: sum(channel[name] for channel in channels) for name in names}
    return {
        "cluster_id": store.cluster_id,
        "node_id": store.node_id,
        "clients": [client.id for client in store.clients],
        "channels": channels,
        "totals": {
            "clients": len(store.clients),
            "channels": len(channels),
            **totals,
            "subscriptions": sum(len(channel.subscriptions) for channel in store.channels),
            "pending": sum(len(one.pending) for channel in store.channels for one in channel.subscriptions),
        },
        "notices": list(store.notices),
    }


def _channel(channel: ChannelData) -> dict[str, Any]:
    summary = summarise(channel.messages())
    span = channel.last_seq - channel.first_seq + 1 if channel.last_seq else 0
    return {
        "name": channel.name,
        "messages": summary.count,
        "first_seq": channel.first_seq,
        "last_seq": channel.last_seq,
        "missing": span - summary.count,
        "data_bytes": summary.data_bytes,
        "stored_bytes": channel.stored_bytes,
        "checksum": summary.checksum,
        "subscriptions": [_subscription(channel, one) for one in channel.subscriptions],
    }


def _subscription(channel: ChannelData, one: Subscription) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "name": one.durable_name or one.queue_group,
        "client_id": one.client_id,
        "offline": one.is_offline,
        "last_sent": one.last_sent,
        "position": channel.position(one),
        "max_in_flight": one.max_in_flight,
        "ack_wait_s": one.ack_wait_s,
        "pending": list(one.pending),
    }


def text(found: dict[str, Any]) -> str:
    """A report for people."""
    totals = found["totals"]
    node = f", node {found['node_id']}" if found["node_id"] else ""
    lines = [f"cluster {found['cluster_id']}{node}: {_many(totals['clients'], 'client')} connected", ""]
    for channel in found["channels"]:
        lines.append(f"channel {channel['name']}")
        lines.append(f"    {_messages(channel)}")
        lines += [f"    {_position(one)}" for one in channel["subscriptions"]]
    lines += [
        "",
        f"in all {_many(totals['channels'], 'channel')}, {_many(totals['messages'], 'message')} "
        f"of {totals['data_bytes']} bytes, {_many(totals['subscriptions'], 'subscription')}, {totals['pending']} pending",
    ]
    lines += [f"note: {notice}" for notice in found["notices"]]
    return "\n".join(lines) + "\n"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _messages(channel: dict[str, Any]) -> str:
    if not channel["messages"]:
        rest = f"the next one is {channel['last_seq'] + 1}" if channel["last_seq"] else "none was ever stored"
        return f"no messages, {rest}"
    missing = f", {channel['missing']} missing" if channel["missing"] else ""
    return (
        f"{_many(channel['messages'], 'message')}, {channel['first_seq']} to {channel['last_seq']}{missing}, "
        f"{channel['data_bytes']} bytes, checksum {channel['checksum']}"
    )


def _position(one: dict[str, Any]) -> str:
    name = f" {one['name']}" if one["name"] else ""
    who = f" of {one['client_id']}" if one["client_id"] else ""
    state = "offline" if one["offline"] else "online"
    group = f" (its group {one['position']})" if one["position"] != one["last_sent"] else ""
    return f"{one['kind']}{name}{who}, {state}: last sent {one['last_sent']}{group}, {_pending(one['pending'])}"


def _pending(pending: list[int]) -> str:
    if not pending:
        return "nothing pending"
    shown = ", ".join(str(sequence) for sequence in pending[:PENDING_SHOWN])
    return f"{len(pending)} pending ({shown}{', …' if len(pending) > PENDING_SHOWN else ''})"
