"""A directory, from the outside in: is it a store, is it in use, what is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamd.stan.importer import raft
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.in_use import refuse_if_used
from streamd.stan.importer.model import ChannelData, StanStore
from streamd.stan.importer.records import IEEE, Checksum, Tell, checksum_of
from streamd.stan.importer.sealed import channel_opener
from streamd.stan.importer.slices import Limits, Messages, find_slices, within
from streamd.stan.importer.tables import read_clients, read_server, read_subscriptions, taken_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd.stan.importer.model import Client, Subscription
    from streamd.stan.importer.replay import Replay
    from streamd.stan.importer.slices import Extent

SERVER_FILE: Final = "server.dat"
CLIENTS_FILE: Final = "clients.dat"
SUBS_FILE: Final = "subs.dat"


@dataclass(frozen=True, slots=True)
class Options:
    """What the files themselves don't say.

    `encryption_key` None: refuse what looks encrypted; empty: take everything as plain. `limits` are those the old server
    had for a channel; without them, messages that it had dropped but not yet removed from its files are read, too.
    """

    encryption_key: str | None = None
    raft_dir: Path | None = None
    crc_poly: int = IEEE
    limits: Callable[[str], Limits] = lambda channel: Limits()
    now_ns: int | None = None


def read(directory: Path, options: Options | None = None) -> StanStore:
    """Everything but the messages, whose files are surveyed. Errors: ImportRefused."""
    options = options or Options()
    checksum = checksum_of(options.crc_poly)
    notices: list[str] = []
    if not (directory / SERVER_FILE).is_file():
        raise ImportRefused(
            f"{directory} is not the store directory of a nats-streaming-server, it has no {SERVER_FILE}: "
            f"name the directory that the server had as `dir`"
        )
    refuse_if_used(directory)
    info = read_server(directory / SERVER_FILE, checksum)
    logs = _logs(directory, options, checksum, notices.append)
    now_ns = time.time_ns() if options.now_ns is None else options.now_ns
    extents = {name: within(log, options.limits(name), now_ns) for name, log in logs.items()}
    if info.node_id:
        replay = _replay(raft.find(directory, info, options.raft_dir), extents, options, notices.append)
        clients = replay.clients
        subscriptions = {name: replay.subscriptions(name) for name in extents}
        extents = {name: replay.extent(name, extent) for name, extent in extents.items()}
    else:
        if options.raft_dir is not None:
            notices.append(f"{options.raft_dir} is not read: this server was not clustered")
        clients, subscriptions = _standalone(directory, extents, checksum, notices.append)
    channels = tuple(
        ChannelData(
            name=name,
            first_seq=extent.first,
            last_seq=extent.last,
            count=extent.count,
            stored_bytes=extent.stored_bytes,
            subscriptions=subscriptions[name],
            log=logs[name],
        )
        for name, extent in extents.items()
    )
    known = tuple(clients[name] for name in sorted(clients))
    return StanStore(info.cluster_id, info.node_id, known, channels, tuple(notices))


def _logs(directory: Path, options: Options, checksum: Checksum, tell: Tell) -> dict[str, Messages]:
    """The channels by name, and their messages."""
    found = {}
    for path in sorted(directory.iterdir()):
        if not path.is_dir():
            continue
        if any("\udc80" <= character <= "\udcff" for character in path.name):
            raise ImportRefused(f"{str(path)!a} is no channel's name, it is not UTF-8: import a copy without it")
        if not (path / SUBS_FILE).exists() and not any(path.glob("msgs.*.dat")):
            tell(f"{path} is left out: a directory without {SUBS_FILE} and messages is no channel")
            continue
        unseal = None
        if options.encryption_key is not None:
            key = options.encryption_key
            unseal = channel_opener(key, path.name) if key else _as_it_is
        found[path.name] = Messages(find_slices(path, checksum, tell), checksum, unseal)
    return found


def _as_it_is(data: bytes) -> bytes:
    return data


def _standalone(
    directory: Path, extents: dict[str, Extent], checksum: Checksum, tell: Tell
) -> tuple[dict[str, Client], dict[str, tuple[Subscription, ...]]]:
    clients = read_clients(directory / CLIENTS_FILE, checksum, tell)
    subscriptions = {}
    for name in extents:
        stored = read_subscriptions(directory / name / SUBS_FILE, checksum, tell)
        subscriptions[name] = taken_up(stored, clients, name, tell)
    return clients, subscriptions


def _replay(found: Path, extents: dict[str, Extent], options: Options, tell: Tell) -> Replay:
    refuse_if_used(found)
    tell(
        f"a clustered server: clients and subscriptions are read from {found}. What was sent and acked in the last second "
        f"before it stopped may be missing there, then messages come once more"
    )
    return raft.read(found, extents, options.encryption_key, tell)
