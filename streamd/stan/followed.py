"""What a server that doesn't lead has of NATS Streaming: made from the rows of its replica when somebody looks.

Nothing here serves anybody; it changes nothing and is forgotten at once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamd._engine import CorruptRecord
from streamd.stan.channels import Channel
from streamd.stan.clients import Client
from streamd.stan.group import SERVICE, Group, Sent

if TYPE_CHECKING:
    from streamd.config.streaming import StreamingConfig
    from streamd.stan.complaints import Complaints
    from streamd.streams.shelf import Shelf
    from streamd.streams.stream import Stream


def channel_of(stream: Stream, name: str, config: StreamingConfig, complaints: Complaints) -> Channel:
    """A channel with its subscriptions. What can't be read of those is left out."""
    channel = Channel(name, stream, config.limits_for(name), complaints)
    for number, definition, state in _rows(stream):
        try:
            group = Group.restored(channel, number, definition, state, Sent())
        except CorruptRecord:
            continue
        channel.groups[group.identity] = group
    return channel


def subscriptions_of(stream: Stream) -> int:
    """How many a channel has, those that are offline too."""
    return sum(max(len(definition["members"]), 1) for _, definition, _ in _rows(stream))


def clients_of(shelf: Shelf, channels: list[Channel]) -> dict[str, Client]:
    """The clients, by id, with their subscriptions in these channels."""
    clients: dict[str, Client] = {}
    for number, (definition, _) in list(shelf.rows.items()):
        client = Client.restored(number, json.loads(definition))
        clients[client.client_id] = client
    for channel in channels:
        for group in channel.groups.values():
            for member in group.members.values():
                if member.client_id in clients:
                    clients[member.client_id].subscriptions[member.ack_inbox] = (group, member)
    return clients


def _rows(stream: Stream) -> list[tuple[int, dict[str, Any], bytes | None]]:
    found = [(number, json.loads(definition), state) for number, (definition, state) in list(stream.rows.items())]
    return [row for row in found if row[1].get("service") == SERVICE]
