"""The four roles, each in a process of its own, as examples/README.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process import ServerProcess

ROLES = Path(__file__).parents[2] / "examples" / "roles.py"
PATIENCE_SECONDS = 60


def command(process: ServerProcess, role: str, *options: str) -> list[str]:
    return [sys.executable, str(ROLES), "--role", role, "--server", process.url, *options]


def with_peer(process: ServerProcess, role: str, count: int, line: str, then: Callable[[], None]) -> str:
    """Starts a waiting role, does something once it listens, and returns what it printed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(process, role, "--count", str(count)), stdout=pipe, stderr=pipe, text=True
    ) as waiting:
        try:
            assert waiting.stderr is not None
            assert line in waiting.stderr.readline()
            then()
            output, errors = waiting.communicate(timeout=PATIENCE_SECONDS)

            assert waiting.returncode == 0, errors
            return output
        finally:
            waiting.kill()


def done(process: ServerProcess, role: str, *options: str) -> str:
    finished = subprocess.run(
        command(process, role, *options), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )

    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_publisher_publishes_a_hundred_thousand_messages(process: ServerProcess) -> None:
    """The document the roles come from names this number."""
    assert done(process, "pub") == "published 100000 messages to updates\n"


def test_subscriber_prints_every_update_in_order(process: ServerProcess) -> None:
    def publish() -> None:
        done(process, "pub", "--count", "5000")

    printed = with_peer(process, "sub", 5000, "listening on updates", publish)

    assert printed.splitlines() == [f"update {number}" for number in range(1, 5001)]


def test_requester_gets_pong(process: ServerProcess) -> None:
    answers = []

    def ask() -> None:
        answers.append(done(process, "req"))

    with_peer(process, "rep", 1, "answering ping", ask)

    assert answers == ["pong\n"]


def test_requester_alone_is_told_that_nobody_answers(process: ServerProcess) -> None:
    """No traceback: the server said that nobody listens."""
    alone = subprocess.run(
        command(process, "req"), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )

    assert alone.returncode == 1
    assert "Traceback" not in alone.stderr
    assert "nobody answers ping" in alone.stderr
