"""A STAN client library at work in a process of its own, steered by the test with lines of JSON.

Three small programs speak these lines, one per language: programs/client.py, and beside the interop tests go_stan/main.go
and node_stan/client.mjs. So a scenario is written once and played by each unmodified library.

To the program: {"number": n, "verb": name, "arguments": {…}}; it obeys each as it comes, not one after the other.
From it:        {"number": n, "result": …} or {"number": n, "error": text}, and in between
                {"event": "message", "subscription": …, "channel": …, "sequence": …, "data": …, "redelivered": …, "count": …,
                "timestamp_us": …}, {"event": "lost", "connection": …, "error": …}, {"event": "reconnected", "connection": …}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Found = TypeVar("Found")

#: Longer than a condition takes on a busy machine; a test that works never waits as long.
PATIENCE_SECONDS = 20.0


class Refused(Exception):
    """The library answered with an error; the text is the library's."""


@dataclass(frozen=True)
class Language:
    """A client library: how the program that uses it is started.

    `wrong_cluster` is what it says when nobody answers its connect request.
    """

    name: str
    command: tuple[str, ...]
    wrong_cluster: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One delivery as the library shows it. `at`: when the test heard of it, time.monotonic()."""

    channel: str
    sequence: int
    data: str
    redelivered: bool
    count: int
    timestamp_us: int
    at: float


class Program:
    """The running program. Guarantee: after close() its process has ended."""

    def __init__(self, language: Language, directory: Path) -> None:
        self.language = language
        self.events: list[dict[str, Any]] = []
        self.messages: defaultdict[str, list[Message]] = defaultdict(list)
        self._answers: dict[int, dict[str, Any]] = {}
        self._numbers = 0
        self._heard = threading.Condition()
        self._ended = False
        self._errors = directory / f"{language.name}.{time.monotonic_ns()}.log"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                language.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env={**os.environ, **language.env},
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, verb: str, **arguments: Any) -> int:
        """Say a line without waiting. Returns the number its answer will have."""
        assert self.process.stdin is not None
        self._numbers += 1
        line = {"number": self._numbers, "verb": verb, "arguments": arguments}
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()
        return self._numbers

    def finish(self, number: int, seconds: float = PATIENCE_SECONDS) -> Any:
        """The result of a line. Errors: Refused with the library's text."""
        answer = self.until(lambda: self._answers.pop(number, None), f"an answer to line {number}", seconds)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer.get("result")

    def call(self, verb: str, **arguments: Any) -> Any:
        """Say a line and wait for its result. Errors: Refused with the library's text."""
        return self.finish(self.start(verb, **arguments))

    def until(self, look: Callable[[], Found | None], what: str, seconds: float = PATIENCE_SECONDS) -> Found:
        """Wait until `look` finds something among what the program said. Errors: AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        with self._heard:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    why = "the program ended" if self._ended else f"not within {seconds} s"
                    raise AssertionError(
                        f"{self.language.name}: no {what}: {why}; its last words: {self.events[-8:]}\n"
                        f"{self._errors.read_text(errors='replace')[-2000:]}"
                    )
                self._heard.wait(left)
            return found

    def freeze(self) -> None:
        """Let it stand still: its connections stay, but it answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """kill -9: to a server it is a client that vanished."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = json.loads(text)
            with self._heard:
                if "number" in line:
                    self._answers[line["number"]] = line
                elif line["event"] == "message":
                    del line["event"]
                    self.messages[line.pop("subscription")].append(Message(**line, at=time.monotonic()))
                else:
                    self.events.append(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()


class Connection:
    """A STAN connection of a program."""

    def __init__(
        self,
        program: Program,
        name: str,
        url: str | list[str],
        client: str,
        *,
        cluster: str = "test-cluster",
        wait_seconds: int = 5,
        ack_seconds: int = 10,
        ping_seconds: int = 5,
        ping_out: int = 88,
    ) -> None:
        """Connect, with several URLs to any of them (Python only). Errors: Refused with the library's text."""
        self.program = program
        self.name = name
        self.ack_seconds = ack_seconds
        self._subscriptions = 0
        program.call(
            "connect",
            connection=name,
            url=url,
            cluster=cluster,
            client=client,
            wait_seconds=wait_seconds,
            ack_seconds=ack_seconds,
            ping_seconds=ping_seconds,
            ping_out=ping_out,
        )

    def publish(self, channel: str, *data: str) -> None:
        """One after the other, each acknowledged before the next. Errors: Refused with the first error."""
        self.program.call(
            "publish", connection=self.name, channel=channel, data=list(data), ack_seconds=self.ack_seconds
        )

    def publish_async(self, channel: str, data: list[str]) -> tuple[list[int], list[str]]:
        """All at once. Returns the indices in the order of their acks, and the errors of the others that were answered."""
        return self.finish(self.start_async(channel, data))

    def start_async(self, channel: str, data: list[str]) -> int:
        """Like publish_async, without waiting; see finish."""
        arguments = {"channel": channel, "data": data, "ack_seconds": self.ack_seconds}
        return self.program.start("publish_async", connection=self.name, **arguments)

    def finish(self, number: int) -> tuple[list[int], list[str]]:
        """What publish_async returns."""
        found = self.program.finish(number, self.ack_seconds + PATIENCE_SECONDS)
        return found["acked"], found["errors"]

    def subscribe(
        self,
        channel: str,
        start: tuple[str, float] = ("new", 0),
        *,
        queue: str | None = None,
        durable: str | None = None,
        manual: bool = False,
        in_flight: int = 1024,
        ack_seconds: int = 30,
    ) -> Subscription:
        """`start`: ("new" | "last" | "first", 0), ("sequence", n), ("ago", seconds) or ("time", Unix seconds).

        Errors: Refused with the library's text.
        """
        self._subscriptions += 1
        name = f"{self.name}/{self._subscriptions}"
        self.program.call(
            "subscribe",
            connection=self.name,
            subscription=name,
            channel=channel,
            start=list(start),
            queue=queue,
            durable=durable,
            manual=manual,
            in_flight=in_flight,
            ack_seconds=ack_seconds,
        )
        return Subscription(self, name)

    def close(self) -> None:
        """The library's own close, and its NATS connection's."""
        self.program.call("close", connection=self.name)

    def drop(self) -> None:
        """The NATS connection goes, the STAN one isn't closed: this client is dead to the server."""
        self.program.call("drop", connection=self.name)

    def lost(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for the library's connection-lost handler. Returns its error."""
        return str(self._event("lost", 1, seconds)["error"])

    def reconnected(self, times: int = 1) -> None:
        """Wait until NATS has reconnected so often in all."""
        self._event("reconnected", times, PATIENCE_SECONDS)

    def _event(self, kind: str, times: int, seconds: float) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            mine = [one for one in self.program.events if one["event"] == kind and one["connection"] == self.name]
            return mine[times - 1] if len(mine) >= times else None

        return self.program.until(look, f"{kind} event of {self.name}", seconds)


class Subscription:
    """A subscription of a connection. Messages are taken in the order in which they came."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._taken = 0

    def waiting(self) -> list[Message]:
        """What has come and is not taken yet."""
        return self.connection.program.messages[self.name][self._taken :]

    def take(self, count: int = 1) -> list[Message]:
        """The next so many messages. Errors: AssertionError if they don't come."""

        def look() -> list[Message] | None:
            found = self.waiting()[:count]
            return found if len(found) == count else None

        found = self.connection.program.until(look, f"{count} messages on {self.name}")
        self._taken += count
        return found

    def take_until(self, last: Callable[[Message], bool]) -> list[Message]:
        """The next messages up to and with the first that is `last`. Errors: AssertionError if it doesn't come."""

        def look() -> list[Message] | None:
            found = self.waiting()
            at = next((at for at, message in enumerate(found) if last(message)), None)
            return None if at is None else found[: at + 1]

        found = self.connection.program.until(look, f"last message on {self.name}")
        self._taken += len(found)
        return found

    def sequences(self, count: int) -> list[int]:
        """Those of the next so many messages."""
        return [message.sequence for message in self.take(count)]

    def ack(self, *sequences: int) -> None:
        """Acknowledge by hand; each must have been heard."""
        for sequence in sequences:
            self.connection.program.call(
                "ack", connection=self.connection.name, subscription=self.name, sequence=sequence
            )

    def close(self) -> None:
        """The library's own close: a durable stays."""
        self.connection.program.call("close_subscription", subscription=self.name)

    def unsubscribe(self) -> None:
        """The library's own unsubscribe: a durable is forgotten."""
        self.connection.program.call("unsubscribe", subscription=self.name)
