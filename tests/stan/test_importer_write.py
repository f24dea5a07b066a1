"""What the importer wrote: the server finds in it what the original showed of itself, and goes on from there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats
import pytest
from anyio import to_thread

from streamd import Server
from streamd._engine import record_decode, stan_reply
from streamd.cli.main import main
from streamd.config.models import Config
from streamd.config.streaming import ChannelLimits, StreamingConfig
from streamd.errors import StoreError
from streamd.stan.names import stream_name
from streamd.stan.schema_pb2 import MsgProto, PubAck, PubMsg
from streamd.stan.statistics import Statistics
from tests.stan.kept import KEY, unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streamd.stan.views import SubscriptionView
    from tests.stan.kept import Kept

#: As tests/stan/scenario.py has them for the original.
LIMITS = {"dropped": ChannelLimits(max_msgs=3), "expired": ChannelLimits(max_age_ns=1_000_000_000)}


def imported(kept: Kept, store_dir: Path) -> list[str]:
    """The words of a command that imports a kept store."""
    raft = ["--raft-dir", str(kept.raft)] if kept.raft.exists() else []
    return ["import", "stan", str(kept.store), "--apply", "--store-dir", str(store_dir), "--encryption-key", KEY, *raft]


@asynccontextmanager
async def served(store_dir: Path) -> AsyncIterator[Server]:
    streaming = StreamingConfig(
        cluster_id="test", store="file", dir=str(store_dir), channels=LIMITS, encryption_key=KEY
    )
    async with Server(Config(host="127.0.0.1", port=-1, streaming=streaming)) as server:
        yield server


def shown(view: SubscriptionView) -> dict[str, Any]:
    """The fields of the original's channelsz that a restart keeps."""
    queue = view.queue_name
    if queue and view.durable_name:
        queue = f"{view.durable_name}:{queue}"
    fields: dict[str, Any] = {
        "client_id": view.client_id,
        "inbox": view.inbox,
        "ack_inbox": view.ack_inbox,
        "is_offline": view.is_offline,
        "max_inflight": view.max_inflight,
        "ack_wait": view.ack_wait_s,
        "pending_count": view.pending_count,
    }
    if view.durable_name and not queue:
        fields["durable_name"] = view.durable_name
    if queue:
        fields["queue_name"] = queue
    return fields


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["standalone", "sealed", "clustered"])
async def test_the_server_shows_what_the_original_showed(name: str, tmp_path: Path) -> None:
    kept = unpack(name, tmp_path / "theirs")
    assert await to_thread.run_sync(main, imported(kept, tmp_path / "ours")) == 0

    async with served(tmp_path / "ours") as server:
        assert server.streaming is not None
        views = Statistics(server.streaming.config, lambda: server.streaming, 0)
        assert views.client_names() == [client["id"] for client in kept.facts["clients"]]
        for channel, wanted in kept.facts["channels"].items():
            view = views.channel(channel, subscriptions=True)
            assert view is not None
            if channel not in LIMITS:
                assert [view.msgs, view.first_seq, view.last_seq] == [
                    wanted[field] for field in ("msgs", "first_seq", "last_seq")
                ]
            if name != "sealed":
                assert view.bytes == wanted["bytes"] or channel in LIMITS
            # A member that has left a durable queue group is no part of what is stored.
            found = [shown(one) for one in view.subscriptions if not (one.is_offline and one.queue_name)]
            theirs = [
                {key: one[key] for key in one if key not in ("is_durable", "is_stalled", "last_sent")}
                for one in wanted.get("subscriptions", [])
                if not (one["is_offline"] and "queue_name" in one)
            ]
            assert sorted(found, key=lambda one: one["ack_inbox"]) == sorted(theirs, key=lambda one: one["ack_inbox"])
        client = await nats.connect(server.client_url)
        stream = client.jetstream()
        for channel, messages in kept.facts["messages"].items():
            for sequence, timestamp_ns, reply, data in messages:
                found_message = await stream.get_msg(stream_name(channel), sequence)
                assert (found_message.data or b"").hex() == data
                assert found_message.time is not None
                assert int(found_message.time.timestamp() * 1e6) == timestamp_ns // 1000
                stored = server.jetstream.streams[stream_name(channel)].get(sequence) if server.jetstream else None
                assert stored is not None
                assert stan_reply(record_decode(stored).headers).decode() == reply
        await client.close()


@pytest.mark.anyio
async def test_its_clients_go_on(tmp_path: Path) -> None:
    """An old connection publishes, its subscription hears what is pending again and then what is new."""
    kept = unpack("standalone", tmp_path / "theirs")
    assert await to_thread.run_sync(main, imported(kept, tmp_path / "ours")) == 0
    online = next(
        one for one in kept.facts["channels"]["orders"]["subscriptions"] if one.get("durable_name") == "online"
    )

    async with served(tmp_path / "ours") as server:
        client = await nats.connect(server.client_url)
        inbox = await client.subscribe(online["inbox"])
        request = PubMsg(clientID="alpha", guid="g", subject="orders", data=b"new")
        answer = await client.request("_STAN.pub.test.orders", request.SerializeToString())
        assert PubAck.FromString(answer.data) == PubAck(guid="g")
        assert server.streaming is not None
        group = server.streaming.channels.by_name["orders"].durables[("alpha", "online")]
        assert [entry[0] for entry in group.state.pending_list(9)] == kept.facts["pending"][online["ack_inbox"]]
        # They were due when the server started, before anybody listened; a resumed durable has them once more.
        member = next(iter(group.members.values()))
        group.state.leave(member.number, 0)
        group.join(member)
        heard = [MsgProto.FromString((await inbox.next_msg(timeout=5)).data) for _ in range(5)]
        assert [(one.sequence, one.redelivered) for one in heard] == [(number, True) for number in (2, 4, 5, 6, 7)]
        await client.close()


def test_an_existing_store_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = unpack("standalone", tmp_path / "theirs")
    (tmp_path / "ours" / "jetstream").mkdir(parents=True)
    (tmp_path / "ours" / "jetstream" / "something").write_text("here")

    assert main(imported(kept, tmp_path / "ours")) == 1

    assert "holds a store already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ours" / "jetstream").iterdir()] == ["something"]


def test_what_was_left_of_an_import_that_was_cut_short_is_in_nobody_s_way(tmp_path: Path) -> None:
    kept = unpack("standalone", tmp_path / "theirs")
    (tmp_path / "ours" / "jetstream.importing").mkdir(parents=True)
    (tmp_path / "ours" / "jetstream.importing" / "data.mdb").write_bytes(b"half")

    assert main(imported(kept, tmp_path / "ours")) == 0

    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["jetstream"]


def test_its_name_is_durable_when_success_is_told(tmp_path: Path, flushed: list[Path]) -> None:
    """Whoever reads that may remove the original."""
    kept = unpack("standalone", tmp_path / "theirs")

    assert main(imported(kept, tmp_path / "new" / "ours")) == 0

    assert flushed[-1] == tmp_path / "new" / "ours"
    assert {tmp_path, tmp_path / "new"} <= set(flushed)


@pytest.mark.anyio
async def test_nothing_starts_empty_beside_an_import_that_did_not_end(tmp_path: Path) -> None:
    """As a power cut or Ctrl-C leaves it: an empty server looks as if all messages were lost. A store beside it is served."""
    kept = unpack("standalone", tmp_path / "theirs")
    ours = tmp_path / "ours"
    assert await to_thread.run_sync(main, imported(kept, ours)) == 0
    (ours / "jetstream").rename(ours / "jetstream.importing")
    for made in (False, True):
        if made:
            (ours / "jetstream").mkdir()
        with pytest.raises(StoreError, match=r"jetstream\.importing .*import stan.* again, or remove"):
            async with served(ours):
                pass
    assert await to_thread.run_sync(main, imported(kept, ours)) == 0
    (ours / "jetstream.importing").mkdir()
    async with served(ours) as server:
        assert server.streaming is not None
        assert "orders" in server.streaming.channels.by_name
