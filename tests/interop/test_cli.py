"""The `nats` command line against streamd, as people use it."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.conftest import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.conftest import Pair

pytestmark = pytest.mark.interop


class Cli:
    """`nats` for one server, without anybody's settings."""

    def __init__(self, program: Path, port: int, home: Path) -> None:
        self.command = [str(program), "--server", f"nats://127.0.0.1:{port}", "--no-context"]
        self.env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        return subprocess.Popen(
            [*self.command, *arguments],
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """Run a command; its output."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert (done.returncode != 0) == fails, f"nats {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def at_terminal(self, *arguments: str) -> str:
        """Run a command that insists on a terminal; its output."""
        master, slave = pty.openpty()
        with subprocess.Popen(
            [*self.command, *arguments], env=self.env, stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            output = b""
            deadline = time.monotonic() + 20
            try:
                while process.poll() is None or select.select([master], [], [], 0)[0]:
                    assert time.monotonic() < deadline, output
                    if select.select([master], [], [], 0.1)[0]:
                        output += os.read(master, 1 << 16)
            except OSError as error:
                if error.errno != errno.EIO:  # the other side has hung up
                    raise
            finally:
                os.close(master)
        return output.decode()

    def json(self, *arguments: str) -> Any:
        """Run a command that answers JSON."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def cli(pair: Pair, programs: Path, tmp_path: Path) -> Iterator[Cli]:
    """`nats` for streamd, which has no streams before and after."""
    clean(pair.ours.port)
    yield Cli(programs / "nats", pair.ours.port, tmp_path)
    clean(pair.ours.port)


def listening(process: subprocess.Popen[str]) -> None:
    """Wait until a subscriber or responder says that it is there."""
    assert process.stdout is not None
    deadline = time.monotonic() + 10
    while "istening on" not in (line := process.stdout.readline()) and "ubscribing on" not in line:
        assert process.poll() is None, line
        assert time.monotonic() < deadline


def test_publish_subscribe_request_reply(cli: Cli) -> None:
    """pub, sub, request and reply."""
    with cli.start("sub", "orders.>", "--count", "2") as subscriber:
        listening(subscriber)
        cli("pub", "orders.new", "hello", "-H", "Key:value")
        cli("pub", "orders.old", "bye")
        output, _ = subscriber.communicate(timeout=20)
    assert "orders.new" in output
    assert "hello" in output
    assert "Key: value" in output
    assert subscriber.returncode == 0
    with cli.start("reply", "service", "the answer", "--count", "1") as responder:
        listening(responder)
        assert "the answer" in cli("request", "service", "question")
        responder.communicate(timeout=20)
    assert "No responders" in cli("request", "nobody", "", "--timeout", "2s")


def test_streams(cli: Cli) -> None:
    """stream add, info, ls, view, get, edit, rmm, purge, subjects, report, rm."""
    cli("stream", "add", "ORDERS", "--subjects", "orders.*", "--defaults", "--allow-direct")
    for number in range(5):
        cli("pub", f"orders.{number % 2}", f"body {number}", "--jetstream")
    info = cli.json("stream", "info", "ORDERS")
    assert info["config"]["subjects"] == ["orders.*"]
    assert info["state"]["messages"] == 5
    assert "Messages: 5" in cli("stream", "info", "ORDERS")
    assert "ORDERS" in cli("stream", "ls")
    viewed = cli.at_terminal("stream", "view", "ORDERS", "10")
    assert "body 0" in viewed
    assert "body 2" in viewed
    assert "body 1" in cli("stream", "get", "ORDERS", "2")
    assert "body 4" in cli("stream", "get", "ORDERS", "--last-for", "orders.0")
    assert "orders.1" in cli("stream", "subjects", "ORDERS")
    cli("stream", "edit", "ORDERS", "--max-msgs", "100", "--force")
    assert cli.json("stream", "info", "ORDERS")["config"]["max_msgs"] == 100
    cli("stream", "rmm", "ORDERS", "2", "--force")
    assert "ORDERS" in cli("stream", "report")
    cli("stream", "purge", "ORDERS", "--subject", "orders.0", "--force")
    assert cli.json("stream", "info", "ORDERS")["state"]["messages"] == 1
    cli("stream", "purge", "ORDERS", "--force")
    assert cli.json("stream", "info", "ORDERS")["state"]["messages"] == 0
    assert "JetStream Account Information" in cli("account", "info")
    cli("stream", "rm", "ORDERS", "--force")
    assert "No Streams defined" in cli("stream", "ls")


def test_consumers(cli: Cli) -> None:
    """consumer add, info, ls, next, sub, edit, report, rm."""
    cli("stream", "add", "ORDERS", "--subjects", "orders.*", "--defaults")
    for number in range(4):
        cli("pub", "orders.new", f"body {number}", "--jetstream")
    cli("consumer", "add", "ORDERS", "worker", "--pull", "--defaults")
    assert "body 0" in cli("consumer", "next", "ORDERS", "worker", "--ack")
    assert "body 2" in cli("consumer", "next", "ORDERS", "worker", "--count", "2", "--ack")
    info = cli.json("consumer", "info", "ORDERS", "worker")
    assert (info["delivered"]["stream_seq"], info["ack_floor"]["stream_seq"], info["num_pending"]) == (3, 3, 1)
    assert "worker" in cli("consumer", "info", "ORDERS", "worker")
    assert "worker" in cli("consumer", "ls", "ORDERS")
    assert "worker" in cli("consumer", "report", "ORDERS")
    cli("consumer", "edit", "ORDERS", "worker", "--max-pending", "5", "--force")
    cli("consumer", "add", "ORDERS", "pusher", "--target", "deliver.here", "--defaults", "--deliver", "last")
    assert cli.json("consumer", "info", "ORDERS", "pusher")["config"]["deliver_policy"] == "last"
    cli("consumer", "rm", "ORDERS", "pusher", "--force")
    assert "body 1" in cli("sub", "orders.>", "--stream", "ORDERS", "--all", "--count", "4")
    cli("consumer", "rm", "ORDERS", "worker", "--force")
    assert "worker" not in cli("consumer", "ls", "ORDERS")


@pytest.mark.parametrize(
    "arguments",
    [
        ["pub", "bench", "--msgs", "20000", "--size", "64"],
        ["js", "pub", "sync", "jsbench", "--msgs", "200", "--size", "64"],
        ["js", "pub", "async", "jsbench", "--msgs", "5000", "--size", "64", "--batch", "100"],
        ["js", "ordered", "--msgs", "5000"],
        ["js", "consume", "--msgs", "5000"],
        ["js", "fetch", "--msgs", "5000", "--batch", "100"],
        ["js", "get", "sync", "--msgs", "100"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_bench(cli: Cli, arguments: list[str]) -> None:
    """bench: core and JetStream publishers and consumers come through."""
    if arguments[0] == "js":
        cli("stream", "add", "benchstream", "--subjects", "jsbench", "--defaults")
        if arguments[1] != "pub":
            cli("bench", "js", "pub", "async", "jsbench", "--msgs", "5000", "--batch", "100", "--no-progress")
    assert "msgs/sec" in cli("bench", *arguments, "--no-progress")


def test_bench_service(cli: Cli) -> None:
    """bench: subscribers with publishers, services with requests."""
    for listener, speaker in (
        (["sub", "bench", "--msgs", "5000"], ["pub", "bench", "--msgs", "5000"]),
        (["service", "serve", "svc"], ["service", "request", "svc", "--msgs", "500"]),
    ):
        with cli.start("bench", *listener, "--no-progress") as process:
            deadline = time.monotonic() + 10
            while json.loads(_subscribers(cli, listener[-3] if "sub" in listener else "svc")) < 1:
                assert time.monotonic() < deadline
            assert "msgs/sec" in cli("bench", *speaker, "--no-progress")
            process.terminate()
            process.communicate(timeout=20)


def _subscribers(cli: Cli, subject: str) -> str:
    """1 if somebody listens on a subject: a request there isn't told that nobody does."""
    return "0" if "No responders" in cli("request", subject, "", "--timeout", "100ms", "--replies", "1") else "1"


def test_errors_are_the_servers(cli: Cli) -> None:
    """What the server refuses is shown with its own words."""
    cli("stream", "add", "ONE", "--subjects", "one", "--defaults")
    assert "subjects overlap with an existing stream" in cli(
        "stream", "add", "TWO", "--subjects", "one", "--defaults", fails=True
    )
    created = cli("bench", "js", "pub", "async", "subject", "--create", "--msgs", "10", fails=True)
    assert "JetStream minimum api level required" in created  # its stream asks for atomic batches
    assert "no message found" in cli("stream", "get", "ONE", "5", fails=True)
    assert "retention" in cli("stream", "add", "Q", "--subjects", "q", "--retention", "work", "--defaults", fails=True)
    assert "maximum messages exceeded" in _full(cli)


def _full(cli: Cli) -> str:
    cli("stream", "add", "FULL", "--subjects", "full", "--max-msgs", "1", "--discard", "new", "--defaults")
    cli("pub", "full", "x", "--jetstream")
    return cli("pub", "full", "x", "--jetstream", fails=True)
