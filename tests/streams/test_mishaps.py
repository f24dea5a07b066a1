"""Something is raised while a commit is put together: it fails as one that the disk refuses, and no machine is ahead of it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nats
import pytest
from nats.js.errors import APIError

from streamd import Server
from streamd._engine import CorruptRecord
from streamd.config.models import Config, JetStreamConfig
from streamd.errors import StoreCorrupt
from streamd.streams.retention import Retention
from streamd.streams.stream import Stream
from tests.streams.held import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from streamd.store import Work

pytestmark = [pytest.mark.anyio, pytest.mark.mishaps]


class Failing:
    """The limits of a stream, which fail so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: int) -> None:
        trim = Retention._trim

        def failing(retention: Retention, *arguments: Any) -> int:
            if retention._stream.name == name and self.left:
                self.left -= 1
                raise error
            return trim(retention, *arguments)

        self.left = times
        monkeypatch.setattr(Retention, "_trim", failing)


class Running:
    """A server on a store, and a client of it."""

    def __init__(self, store: Path) -> None:
        self._config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(store)))
        self.client: Client
        self.js: JetStreamContext

    async def __aenter__(self) -> Self:
        self.server = await Server(self._config).__aenter__()
        self.client = await nats.connect(self.server.client_url)
        self.js = self.client.jetstream()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()
        await self.server.__aexit__(None, None, None)

    async def publish(self, *subjects: str, touch: str | None = None) -> list[dict[str, Any]]:
        """What the publishers are told whose messages go into one commit, which takes their streams in that order; `touch`:
        a stream that was changed before."""
        inbox = self.client.new_inbox()
        sub = await self.client.subscribe(inbox + ".*")
        await self.client.flush()
        assert self.server.jetstream is not None
        services = self.server.jetstream.services

        def job(_work: Work) -> None:
            if touch is not None:
                services.commits.touch(self.stream(touch))
            for number, subject in enumerate(subjects):
                services.bus.publish(subject, b"x", reply=f"{inbox}.{number}")
                services.bus.flush()

        services.commits.at_rest(job)
        told: dict[str, dict[str, Any]] = {}
        while len(told) < len(subjects):
            message = await sub.next_msg(timeout=10)
            told[message.subject] = json.loads(message.data)
        await sub.unsubscribe()
        return [told[f"{inbox}.{number}"] for number in range(len(subjects))]

    async def streams(self) -> None:
        """FULL can't take more without a removal, OTHER and THIRD can."""
        await self.js.add_stream(name="FULL", subjects=["full"], max_msgs=2)
        await self.js.add_stream(name="OTHER", subjects=["other"])
        await self.js.add_stream(name="THIRD", subjects=["third"])
        await self.publish("full", "full", "other")

    def stream(self, name: str) -> Stream:
        assert self.server.jetstream is not None
        return self.server.jetstream.streams[name]


def errors(told: list[dict[str, Any]]) -> set[int | None]:
    """Their codes; None: it was acked."""
    return {each["error"]["code"] if "error" in each else None for each in told}


async def sound(tmp_path: Path, **wanted: int) -> None:
    """After a restart streams are served whose last sequences are these."""
    async with Running(tmp_path) as again:
        for name, last_seq in wanted.items():
            state = (await again.js.stream_info(name)).state
            assert state.last_seq == last_seq
            assert (await again.js.get_msg(name, last_seq)).data == b"x"


async def test_an_admission_that_fails_leaves_nobody_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All publishers of the commit are told, and the next ones of a sound stream get the sequences that are free."""
    async with Running(tmp_path) as running:
        await running.streams()
        failing = Failing(monkeypatch, "FULL", RuntimeError("a mistake"), times=1)
        assert errors(await running.publish("other", "full", "third")) == {503, None}
        assert not failing.left
        assert sum("couldn't be put together" in each.message for each in caplog.records) == 1
        assert "RuntimeError: a mistake" in caplog.text
        assert [each["seq"] for each in await running.publish("other", "full", "third")] == [2, 3, 2]
    await sound(tmp_path, OTHER=2, FULL=3, THIRD=2)


async def test_a_stream_whose_part_fails_again_goes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on."""
    async with Running(tmp_path) as running:
        await running.streams()
        failing = Failing(monkeypatch, "FULL", RuntimeError("a mistake"), times=1000)
        for _ in range(3):
            assert errors(await running.publish("full")) == {503}
        left = failing.left
        told = await running.publish("full", "other", "other")
        assert failing.left == left == 997
        assert "RuntimeError('a mistake')" in told[0]["error"]["description"]
        assert [each["seq"] for each in told[1:]] == [2, 3]
    await sound(tmp_path, OTHER=3, FULL=2)


@pytest.mark.parametrize(
    "damage", [StoreCorrupt(Path("store"), "a page"), CorruptRecord("record 1")], ids=["page", "record"]
)
async def test_damage_takes_its_stream_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: Exception
) -> None:
    """At once, whatever else the commit has; and there is nothing to report."""
    async with Running(tmp_path) as running:
        await running.streams()
        Failing(monkeypatch, "FULL", damage, times=1)
        assert errors(await running.publish("full")) == {503}
        assert "stream FULL" in (running.stream("FULL").offline or "")
        told = await running.publish("full", "other", "other")
        assert [each["seq"] for each in told[1:]] == [2, 3]
    assert "Traceback" not in caplog.text
    await sound(tmp_path, OTHER=3, FULL=2)


async def test_damage_behind_what_is_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was admitted of the same stream before isn't stored with totals that count what wasn't."""
    async with Running(tmp_path) as running:
        await running.streams()
        Failing(monkeypatch, "FULL", CorruptRecord("record 1"), times=1)
        assert errors(await running.publish("full", touch="FULL")) == {503}
        assert running.stream("FULL").offline is not None
    await sound(tmp_path, OTHER=1, FULL=2)


@pytest.mark.parametrize(
    ("action", "place"),
    [
        (lambda js: js.delete_msg("OTHER", 1), (Retention, "_deletable")),
        (lambda js: js.purge_stream("OTHER", subject="other"), (Retention, "_select")),
        (lambda js: js.update_stream(name="OTHER", subjects=["other"], max_msgs=5), (Stream, "reconfigure")),
    ],
    ids=["delete", "purge", "update"],
)
async def test_who_asked_for_a_job_that_fails_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[JetStreamContext], Any], place: tuple[type, str]
) -> None:
    """And what shares its commit is refused, not lost."""
    async with Running(tmp_path) as running:
        await running.streams()
        where, name = place
        original = getattr(where, name)

        def failing(*arguments: Any, **named: Any) -> Any:
            monkeypatch.setattr(where, name, original)
            raise RuntimeError("a mistake")

        monkeypatch.setattr(where, name, failing)
        asked = asyncio.ensure_future(action(running.js))
        published = asyncio.ensure_future(running.publish("full", "other"))
        with pytest.raises(APIError):
            await asked
        await published
        await action(running.js)
        assert errors(await running.publish("full", "other")) == {None}
        last = running.stream("OTHER").state.last_seq
    await sound(tmp_path, OTHER=last)


async def test_what_is_prepared_ahead_and_fails_waits_for_the_commit_before(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one is stored and acked; what was numbered behind it is refused, and put back to what is stored by then."""
    js = client.jetstream()
    for name in ("A", "B"):
        await js.add_stream(name=name, subjects=[name])
    held, inbox = Held(monkeypatch), client.new_inbox()
    acks = await client.subscribe(inbox)
    await client.publish("A", b"x" * 400_000, reply=inbox)
    await held.one()
    assert server.jetstream is not None
    commits, streams = server.jetstream.services.commits, server.jetstream.streams
    store = Retention.store

    def failing(retention: Retention, *arguments: Any, **named: Any) -> None:
        if retention._stream.name == "B":
            raise OSError(errno.EMFILE, "too many open files")
        store(retention, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Retention, "store", failing)
        for name in ("A", "B"):
            for _ in range(100):
                await client.publish(name, b"y" * 4_000, reply=inbox)
        await client.flush()
        for name in ("A", "B"):  # as their taps do once enough waits
            commits.filling(streams[name])
    assert streams["A"].state.last_seq > 1
    assert commits._mishaps
    held.let_go()
    told = [json.loads((await acks.next_msg(timeout=10)).data) for _ in range(201)]
    assert {"stream": "A", "seq": 1} in told
    stored = {name: [each["seq"] for each in told if "error" not in each and each["stream"] == name] for name in "AB"}
    for name, seqs in stored.items():
        assert seqs == list(range(1, len(seqs) + 1))
        assert (streams[name].state.last_seq, streams[name].offline) == (len(seqs), None)
        assert [(await js.get_msg(name, seq)).seq for seq in seqs[-1:]] == seqs[-1:]
    assert {each["error"]["code"] for each in told if "error" in each} == {503}


async def test_a_follow_up_that_raises_keeps_the_commit_from_nobody(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever else waits for it hears of it."""
    assert server.jetstream is not None
    commits = server.jetstream.services.commits
    heard = asyncio.Event()

    def raising(_outcome: Any) -> None:
        raise RuntimeError("a mistake")

    commits.at_rest(lambda _work: raising)
    commits.at_rest(lambda _work: lambda _outcome: heard.set())
    async with asyncio.timeout(10):
        await heard.wait()
    assert [each.levelno for each in caplog.records if each.exc_info] == [logging.CRITICAL]
