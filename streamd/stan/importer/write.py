"""Writes what was found into a store of streamd's own, and reads it back before it counts.

Guarantee:  the store appears whole or not at all: it is made beside its place and put there once everything in it was found
            equal to what the other server had; it is on the disk when that is told. Nothing is merged into a store that exists.
"""

from __future__ import annotations

import functools
import logging
import shutil
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Final

import anyio

from streamd._engine import (
    Records,
    StanGroup,
    record_decode,
    record_encode,
    record_key,
    stan_reply,
    stan_reply_headers,
)
from streamd.clock import LoopClock
from streamd.config.streaming import StreamingConfig
from streamd.core.core import Core, CoreLimits
from streamd.stan.clients import Client
from streamd.stan.group import Group, Member, Sent
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.model import StoredMessage
from streamd.stan.importer.report import summarise
from streamd.stan.service import Streaming
from streamd.state.limits import Limits
from streamd.store import Sync
from streamd.store.directory import make_directory, sync_directory
from streamd.streams.changes import WorkRows
from streamd.streams.encryption import Encryption
from streamd.streams.jetstream import JetStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamd.stan.channels import Channel
    from streamd.stan.importer.model import ChannelData, StanStore, Subscription
    from streamd.store import Outcome, Work

#: Under `--store-dir`: where the server looks, and where the import is made.
STORE: Final = "jetstream"
SCRATCH: Final = "jetstream.importing"
#: Messages of one commit.
COMMIT_MESSAGES: Final = 4096
READ_RECORDS: Final = 4096
_log = logging.getLogger("streamd.import")


def write(store: StanStore, *, store_dir: Path, cluster_id: str, encryption_key: str | None = None) -> list[str]:
    """Import into the store directory of a streamd that is not running. Returns what was done, line by line.

    With a key (neither None nor empty) messages are encrypted by it, so what was encrypted stays so.

    Errors: ImportRefused if there is a store already, or if what was written differs from what was read; StoreError.
    """
    target, scratch = store_dir / STORE, store_dir / SCRATCH
    if target.exists() and any(target.iterdir()):
        raise ImportRefused(f"{target} holds a store already: an import needs a --store-dir without one")
    shutil.rmtree(scratch, ignore_errors=True)
    make_directory(scratch)
    config = StreamingConfig(
        cluster_id=cluster_id, store="file", dir=str(store_dir), max_channels=0, max_msgs=0, max_bytes=0, max_subs=0
    )
    anyio.run(_fill, scratch, config, store, encryption_key or None)
    anyio.run(_verify, scratch, config, store, encryption_key or None)
    if target.exists():
        target.rmdir()
    scratch.rename(target)
    # Whoever reads that it is imported may remove the original.
    sync_directory(store_dir)
    messages = sum(channel.count for channel in store.channels)
    sealed = ", encrypt: true" if encryption_key else ""
    return [
        f"imported {len(store.channels)} channels with {messages} messages and {len(store.clients)} clients into {target}",
        "read back and compared: counts, first and last sequences, checksums, and the position of every subscription",
        f'start streamd with: streaming {{ cluster_id: {cluster_id}, store: file, dir: "{store_dir}"{sealed} }}',
    ]


@contextmanager
def _opened(directory: Path, config: StreamingConfig, key: str | None) -> Iterator[Streaming]:
    """The service on a store, without clients. Call in a running loop."""
    core = Core(CoreLimits(), log=_log)
    jetstream = JetStream(
        directory,
        core.bus,
        LoopClock(),
        _log,
        server_name="import",
        sync=Sync("always"),
        strict=True,
        limits=Limits(),
        max_memory_bytes=-1,
        max_storage_bytes=-1,
        notify=None,
        encryption=Encryption(key, serves=True),
    )
    streaming = Streaming(jetstream, config, _log)
    try:
        yield streaming
    finally:
        streaming.close()
        jetstream.close()


async def _fill(directory: Path, config: StreamingConfig, store: StanStore, key: str | None) -> None:
    with _opened(directory, config, key) as streaming:
        for client in store.clients:
            entry = Client(
                0,
                client.id,
                client.hb_inbox,
                client.conn_id,
                client.protocol,
                client.ping_interval,
                client.ping_max_out,
            ).entry()
            await _done(functools.partial(streaming.shelf.add, entry))
        for data in store.channels:
            channel = await _channel(streaming, data.name)
            await _messages(channel, data)
            await _subscriptions(channel, data, {client.id for client in store.clients})


async def _done(begin: Callable[[Callable[[Exception | None], None]], object]) -> None:
    """Wait for something that calls back with an error or None. Errors: that one."""
    event, failed = anyio.Event(), list[Exception]()

    def done(error: Exception | None) -> None:
        failed.extend([error] if error is not None else [])
        event.set()

    begin(done)
    await event.wait()
    if failed:
        raise failed[0]


async def _channel(streaming: Streaming, name: str) -> Channel:
    found: list[Channel] = []

    def begin(done: Callable[[Exception | None], None]) -> None:
        def then(channel: Channel | None, reason: str) -> None:
            found.extend([channel] if channel is not None else [])
            done(None if channel is not None else ImportRefused(f"channel {name!r} can't be imported: {reason}"))

        streaming.channels.open(name, then)

    await _done(begin)
    return found[0]


async def _commit(channel: Channel, change: Callable[[Work], None]) -> None:
    """One commit to a channel, its index with it."""
    stream = channel.stream

    def begin(done: Callable[[Exception | None], None]) -> None:
        def job(work: Work) -> Callable[[Outcome], None]:
            change(work)
            part = stream.part(work)
            part.delta(*stream.state.delta())
            part.checkpoint = stream.state.checkpoint()
            return lambda outcome: done(outcome.error)

        stream.services.commits.at_rest(job)

    await _done(begin)


async def _messages(channel: Channel, data: ChannelData) -> None:
    stream, subject = channel.stream, channel.stream.config.subjects[0]
    first = data.first_seq if data.count else data.last_seq + 1
    if first > 1:
        stream.state.reset(first)
        await _commit(channel, lambda work: None)
    values: list[tuple[bytes, bytes]] = []

    def append(work: Work) -> None:
        stream.log.append(work, Records(values))
        stream.state.replay([value for _, value in values])

    for message in data.messages():
        headers = stan_reply_headers(message.reply) if message.reply else b""
        value = record_encode(message.sequence, message.timestamp_ns, subject, headers, message.data)
        values.append((record_key(message.sequence), value))
        if len(values) >= COMMIT_MESSAGES:
            await _commit(channel, append)
            values = []
    if values:
        await _commit(channel, append)


async def _subscriptions(channel: Channel, data: ChannelData, clients: set[str]) -> None:
    """Each subscription, the members of a queue group as one."""
    single = [one for one in data.subscriptions if not one.queue_group and _lasts(one, clients)]
    members = [one for one in data.subscriptions if one.queue_group and (one.is_shadow or one.client_id in clients)]
    members.sort(key=lambda one: (one.queue_group, one.id))
    groups = [[one] for one in single]
    groups += [list(found) for _, found in groupby(members, key=lambda one: one.queue_group)]
    for found in sorted(groups, key=lambda group: group[0].id):
        await _store(channel, _group(channel, data, found, clients))


async def _store(channel: Channel, group: Group) -> None:
    await _commit(channel, lambda work: group.store(WorkRows(work)))


def _lasts(one: Subscription, clients: set[str]) -> bool:
    """Whether a subscription outside of a queue group goes on."""
    return bool(one.durable_name) or one.client_id in clients


def _group(channel: Channel, data: ChannelData, found: list[Subscription], clients: set[str]) -> Group:
    first = found[0]
    durable = first.durable_name
    if first.queue_group and first.is_durable:
        durable = first.queue_group.partition(":")[0]
    machine = StanGroup(channel.name, queue=bool(first.queue_group))
    group = Group(
        channel,
        first.id,
        durable=durable,
        queue=first.queue_group,
        state=machine,
        consumer_id=channel.stream.next_consumer_id(),
        sent=Sent(),
    )
    pending: list[tuple[int, int, int]] = []
    for one in found:
        if one.is_offline or one.client_id not in clients:
            group.last = Member(0, one.client_id, one.inbox, one.ack_inbox, one.max_in_flight, one.ack_wait_s)
            number = 0
        else:
            number = group.admit(one.client_id, one.inbox, one.ack_inbox, one.max_in_flight, one.ack_wait_s).number
        # When they were sent isn't known: they are due.
        pending += [(sequence, 0, number) for sequence in one.pending]
    machine.restore(data.position(first) + 1, sorted(pending))
    channel.stream.readers[group] = None
    return group


async def _verify(directory: Path, config: StreamingConfig, store: StanStore, key: str | None) -> None:
    """Errors: ImportRefused naming the first difference."""
    with _opened(directory, config, key) as streaming:
        names = sorted(streaming.clients.by_id)
        _same("the clients", sorted(client.id for client in store.clients), names)
        for data in store.channels:
            channel = streaming.channels.by_name.get(data.name)
            if channel is None or channel.stream.offline is not None:
                reason = "it is missing" if channel is None else channel.stream.offline
                raise ImportRefused(f"channel {data.name!r} was not written as it was read: {reason}")
            theirs, ours = summarise(data.messages()), summarise(_read(channel))
            where = f"channel {data.name!r}: "
            _same(where + "count", theirs.count, ours.count)
            _same(where + "first sequence", theirs.first, ours.first)
            _same(where + "last sequence", data.last_seq, channel.stream.state.last_seq)
            _same(where + "checksum", theirs.checksum, ours.checksum)
            live = channel.stream.state.live
            clients = {client.id for client in store.clients}
            wanted = sorted(
                (data.position(one), sequence)
                for one in data.subscriptions
                if one.is_shadow or one.client_id in clients or (one.durable_name and not one.queue_group)
                for sequence in (0, *(number for number in one.pending if live(number)))
            )
            found = sorted(
                (group.last_sent, sequence)
                for group in channel.groups.values()
                for sequence in (
                    *[0] * max(len(group.members), 1),
                    *(entry[0] for entry in group.state.pending_list(group.state.num_pending)),
                )
            )
            _same(where + "positions and pending messages of subscriptions", wanted, found)


def _same(what: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise ImportRefused(f"{what}: {theirs!r} was read but {ours!r} was written; please report this")


def _read(channel: Channel) -> Iterator[StoredMessage]:
    stream = channel.stream
    sequence = max(stream.state.first_seq, 1)
    while values := stream.log.read(sequence, READ_RECORDS):
        for value in values:
            record = record_decode(value)
            yield StoredMessage(record.sequence, record.timestamp_ns, stan_reply(record.headers), record.payload)
        sequence = record.sequence + 1
