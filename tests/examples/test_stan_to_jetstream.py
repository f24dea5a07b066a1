"""The move of a durable from NATS Streaming to JetStream, as examples/README.md and docs/nats-streaming.md say."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.process import ServerProcess
from tests.stan.stan_peer import Stan

if TYPE_CHECKING:
    from collections.abc import Iterator

MOVE = Path(__file__).parents[2] / "examples" / "stan_to_jetstream.py"


class Streaming(ServerProcess):
    """streamd with NATS Streaming and a monitoring port."""

    @property
    def monitor(self) -> str:
        """Where its pages are."""
        ports = json.loads(next(self.directory.glob(f"*_{self.pid}.ports")).read_text())
        url: str = ports["monitoring"][0]
        return url

    def pending(self, channel: str) -> list[int]:
        """How many messages are pending in each subscription."""
        with urllib.request.urlopen(f"{self.monitor}/streaming/channelsz?subs=1&channel={channel}") as answer:
            return [one["pending_count"] for one in json.load(answer).get("subscriptions", [])]


@pytest.fixture
def streaming(tmp_path: Path) -> Iterator[Streaming]:
    """A server whose channel `work` has ten messages."""
    config = "streaming { id: test, store: file }"
    with Streaming(tmp_path, "-m", "-1", config=config) as process:
        client = Stan(process.port, "old")
        for number in range(1, 11):
            client.publish("work", f"work {number}".encode())
        client.close()
        yield process


def moved(process: Streaming, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MOVE), "--server", process.url, "--monitor", process.monitor]
    command += ["--cluster-id", "test", "--channel", "work", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def served(process: Streaming, acked: list[int], *, queue: str = "") -> None:
    """A program has the first seven messages, acks some of them and stops."""
    client = Stan(process.port, "worker")
    durable = client.subscribe("work", durable="d", queue=queue, max_in_flight=7)
    assert client.receive(durable, 7) == [1, 2, 3, 4, 5, 6, 7]
    for sequence in acked:
        # Each ack that makes room lets a new message come; after the last one nothing may be on its way.
        client.ack(durable, sequence)
    client.receive(durable, min(3, len(acked)))
    client.close()


def test_the_consumer_gets_what_was_pending_and_then_what_is_new(streaming: Streaming) -> None:
    """Ten were sent: 3, 4 and 6 are acked, all others are not."""
    served(streaming, [4, 3, 6])

    done = moved(streaming, "--client-id", "worker", "--durable", "d", "--count", "7")

    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == "consumer d of stream STAN_work goes on with 11 after 1, 2, 5, 7, 8, 9, 10 again"
    assert sorted(rest, key=lambda line: int(line.split(":")[0])) == [f"{n}: work {n}" for n in (1, 2, 5, 7, 8, 9, 10)]
    assert streaming.pending("work") == [7], "the durable stays as it was, for the way back"


def test_a_durable_without_pending_messages_goes_on_with_the_next(streaming: Streaming) -> None:
    client = Stan(streaming.port, "worker")
    durable = client.subscribe("work", durable="d", max_in_flight=1)
    for sequence in (1, 2, 3):
        assert client.receive(durable, 1) == [sequence]
        client.ack(durable, sequence)
    assert client.receive(durable, 1) == [4]
    client.leave(durable, unsubscribe=False)
    client.close()

    assert streaming.pending("work") == [1]
    done = moved(streaming, "--client-id", "worker", "--durable", "d", "--consumer", "new", "--count", "7", "--remove")

    assert done.stdout.splitlines() == [
        "consumer new of stream STAN_work goes on with 5 after 4 again",
        *(f"{number}: work {number}" for number in range(4, 11)),
    ]
    assert streaming.pending("work") == []


def test_a_durable_of_a_queue_group_needs_no_client_id(streaming: Streaming) -> None:
    served(streaming, [1, 2, 3], queue="g")

    done = moved(streaming, "--durable", "d", "--queue", "g")

    assert done.stdout == "consumer d of stream STAN_work goes on with 11 after 4, 5, 6, 7, 8, 9, 10 again\n"


def test_slips_are_told_in_a_line(streaming: Streaming) -> None:
    client = Stan(streaming.port, "worker")
    client.subscribe("work", durable="d")

    for options, text in [
        (["--client-id", "worker", "--durable", "d"], "client worker still serves it: stop that first"),
        (["--client-id", "worker", "--durable", "e"], "channel work has no such durable, but d"),
        (["--client-id", "worker", "--durable", "d", "--channel", "nothing"], "Channel nothing not found"),
        (["--client-id", "worker", "--durable", "d", "--monitor", "http://127.0.0.1:9"], "start the server with -m"),
    ]:
        done = moved(streaming, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    client.close()
