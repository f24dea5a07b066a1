"""Something stored that can't be read, where a commit depends on it: it is one stream's, and the others go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import nats
import pytest
from nats.js.errors import APIError

from streamd import Server
from streamd._engine import CorruptRecord
from streamd.config.models import Config, JetStreamConfig
from streamd.streams.retention import Retention

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_what_a_publish_would_push_out_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publish is refused and its stream is offline; what came for others together with it is stored and acked."""
    trim = Retention._trim

    def damaged(self: Retention, *arguments: object) -> int:
        if self._stream.name == "FULL":
            raise CorruptRecord("record 1: checksum")
        return trim(self, *arguments)  # type: ignore[arg-type]

    config = Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
    async with Server(config) as server:
        client = await nats.connect(server.client_url)
        js = client.jetstream()
        await js.add_stream(name="FULL", subjects=["full"], max_msgs=2)
        await js.add_stream(name="OTHER", subjects=["other"])
        for _ in range(2):
            await js.publish("full", b"x")
        monkeypatch.setattr(Retention, "_trim", damaged)
        for turn in range(3):
            subjects = ["other", "full", "other", "full", "other"]
            answers = await asyncio.gather(*[js.publish(subject, b"y") for subject in subjects], return_exceptions=True)
            for subject, answer in zip(subjects, answers, strict=True):
                if subject == "full":
                    assert isinstance(answer, APIError), turn
                    assert "stream FULL: record 1: checksum" in (answer.description or "")
                else:
                    assert not isinstance(answer, BaseException)
        state = (await js.stream_info("OTHER")).state
        assert (state.messages, state.last_seq) == (9, 9)
        with pytest.raises(APIError):
            await js.stream_info("FULL")
        await client.close()
    monkeypatch.undo()
    async with Server(config) as server:
        client = await nats.connect(server.client_url)
        found = [(await client.jetstream().get_msg("OTHER", sequence)).data for sequence in range(1, 10)]
        assert found == [b"y"] * 9
        await client.close()
