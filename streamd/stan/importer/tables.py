"""server.dat, clients.dat and subs.dat: small files, read whole, their records applied in order.

Source: recoverServerInfo, recoverClients and recoverSubscriptions of stores/filestore.go; recoverOneSub and
subStore.updateState of server/server.go for what of it a starting server takes up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from streamd.stan.importer.errors import ImportRefused, StoreDamaged
from streamd.stan.importer.model import Client, Subscription
from streamd.stan.importer.records import HEADER, VERSION_BYTES, Checksum, Tell, records
from streamd.stan.importer.wire import Message

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

CLIENT_ADDED: Final = 1
CLIENT_DELETED: Final = 2
SUB_NEW: Final = 1
SUB_UPDATED: Final = 2
SUB_DELETED: Final = 3
SUB_ACKED: Final = 4
SUB_SENT: Final = 5


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server wrote at its first start. `node_id` is empty unless it was clustered."""

    cluster_id: str
    node_id: str


def read_server(path: Path, checksum: Checksum) -> ServerInfo:
    """Errors: ImportRefused, also when no server has ever finished a start on the directory."""
    torn: list[str] = []
    found = list(records(path, checksum, torn.append, typed=False))
    if not found:
        raise ImportRefused(f"{path} is empty: no nats-streaming-server has kept anything in this directory")
    ends = VERSION_BYTES + HEADER.size + len(found[0].payload)
    if torn or len(found) > 1 or path.stat().st_size != ends:
        raise StoreDamaged(path, ends, "something follows its only record")
    try:
        fields = Message(found[0].payload)
        return ServerInfo(fields.text(1), fields.text(9))
    except ValueError as error:
        raise StoreDamaged(path, found[0].offset, str(error)) from None


def client_of(fields: Message) -> Client:
    """From a ClientInfo. Errors: ValueError."""
    return Client(
        id=fields.text(1),
        hb_inbox=fields.text(2),
        conn_id=fields.raw(3),
        protocol=fields.signed(4),
        ping_interval=fields.signed(5),
        ping_max_out=fields.signed(6),
    )


def subscription_of(fields: Message) -> Subscription:
    """From a SubState. Errors: ValueError."""
    durable_name, queue_group = fields.text(8), fields.text(3)
    return Subscription(
        id=fields.number(1),
        client_id=fields.text(2),
        queue_group=queue_group,
        inbox=fields.text(4),
        ack_inbox=fields.text(5),
        max_in_flight=fields.signed(6),
        ack_wait_s=fields.signed(7),
        durable_name=durable_name,
        last_sent=fields.number(9),
        # Early versions did not store it for plain durables.
        is_durable=bool(fields.number(10)) or bool(durable_name),
        is_closed=bool(fields.number(11)),
    )


def read_clients(path: Path, checksum: Checksum, tell: Tell) -> dict[str, Client]:
    """The clients that were connected. Errors: ImportRefused."""
    clients: dict[str, Client] = {}
    if not path.exists():
        return clients
    for record in records(path, checksum, tell, typed=True):
        try:
            fields = Message(record.payload)
            if record.kind == CLIENT_ADDED:
                client = client_of(fields)
                clients[client.id] = client
            elif record.kind == CLIENT_DELETED:
                clients.pop(fields.text(1), None)
            else:
                raise ValueError(f"record type {record.kind}")
        except ValueError as error:
            raise StoreDamaged(path, record.offset, str(error)) from None
    return clients


def read_subscriptions(path: Path, checksum: Checksum, tell: Tell) -> list[Subscription]:
    """All that the file ends with, by id, as they are stored. Errors: ImportRefused."""
    found: dict[int, Subscription] = {}
    pending: dict[int, set[int]] = {}
    if not path.exists():
        return []
    for record in records(path, checksum, tell, typed=True):
        try:
            _apply(record.kind, Message(record.payload), found, pending)
        except ValueError as error:
            raise StoreDamaged(path, record.offset, str(error)) from None
    return [found[number].with_pending(pending[number]) for number in sorted(found)]


def _apply(kind: int, fields: Message, found: dict[int, Subscription], pending: dict[int, set[int]]) -> None:
    number = fields.number(1)
    if kind == SUB_NEW:
        found[number] = subscription_of(fields)
        pending[number] = set()
    elif kind == SUB_UPDATED:
        found[number] = subscription_of(fields)
        pending.setdefault(number, set())
    elif kind == SUB_DELETED:
        found.pop(number, None)
        pending.pop(number, None)
    elif kind == SUB_ACKED:
        if number in found:
            pending[number].discard(fields.number(2))
    elif kind == SUB_SENT:
        if number in found:
            sequence = fields.number(2)
            pending[number].add(sequence)
            if sequence > found[number].last_sent:
                found[number] = replace(found[number], last_sent=sequence)
    else:
        raise ValueError(f"record type {kind}")


def taken_up(
    stored: Iterable[Subscription], clients: Container[str], channel: str, tell: Tell
) -> tuple[Subscription, ...]:
    """What a starting server makes of stored subscriptions.

    Those of vanished clients are dropped unless they are durable; a plain durable of one is suspended; a member of a
    durable queue group needs its client, and a group has one shadow, the one that got furthest.
    """
    found: list[Subscription] = []
    shadows: dict[str, Subscription] = {}
    for one in stored:
        here = one.client_id in clients
        if one.is_shadow:
            known = shadows.get(one.queue_group)
            if known is not None:
                tell(
                    f"channel {channel}: durable queue group {one.queue_group} is stored twice, the further one is taken"
                )
            if known is None or one.last_sent > known.last_sent:
                shadows[one.queue_group] = one
        elif one.durable_name:
            found.append(one if here or one.is_closed else replace(one, is_closed=True))
        elif here:
            found.append(one)
        else:
            tell(
                f"channel {channel}: {one.kind} subscription {one.id} is left out, its client {one.client_id or '(none)'} "
                f"is not connected; the old server would drop it at its next start"
            )
    return tuple(sorted([*found, *shadows.values()], key=lambda one: one.id))
