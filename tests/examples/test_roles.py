"""The four roles, each in a process of its own, as examples/README.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = Path(__file__).parents[2] / "examples" / "roles.py"
PATIENCE_SECONDS = 60


def play(server: Any, role: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROLES), "--role", role, "--server", server.client_url, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()

    assert text in line


def with_peer(server: Any, role: str, count: int, line: str, then: Callable[[], None]) -> str:
    """Starts a waiting role, does something once it listens, and returns what it printed."""
    process = play(server, role, "--count", str(count))
    try:
        await_line(process, line)
        then()
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)

        assert process.returncode == 0, errors
        return output
    finally:
        process.kill()
        process.wait()


def done(server: Any, role: str, *options: str) -> str:
    process = play(server, role, *options)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 0, errors
    return output


def test_publisher_publishes_a_hundred_thousand_messages(server: Any) -> None:
    """The document the roles come from names this number."""
    assert done(server, "pub") == "published 100000 messages to updates\n"


def test_subscriber_prints_every_update_in_order(server: Any) -> None:
    def publish() -> None:
        done(server, "pub", "--count", "5000")

    printed = with_peer(server, "sub", 5000, "listening on updates", publish)

    assert printed.splitlines() == [f"update {number}" for number in range(1, 5001)]


def test_requester_gets_pong(server: Any) -> None:
    answers = []

    def ask() -> None:
        answers.append(done(server, "req"))

    with_peer(server, "rep", 1, "answering ping", ask)

    assert answers == ["pong\n"]
