"""The replay example, as examples/README.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.process import ServerProcess

REPLAY = Path(__file__).parents[2] / "examples" / "replay.py"


def replay(process: ServerProcess, count: int) -> str:
    command = [sys.executable, str(REPLAY), "--server", process.url, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    return done.stdout


def test_replay_sees_all_messages_in_order(process: ServerProcess) -> None:
    """It checks order and content itself, and fails otherwise."""
    assert "replayed 10000 messages in order" in replay(process, 10_000)


def test_replay_can_be_repeated(process: ServerProcess) -> None:
    """The stream is made anew, so the second run starts at sequence 1 again."""
    replay(process, 1)

    assert "replayed 1234 messages in order" in replay(process, 1_234)


def test_replay_without_a_server_is_a_clear_error() -> None:
    """One line that names the address and the way out."""
    command = [sys.executable, str(REPLAY), "--server", "nats://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no server answers at nats://127.0.0.1:9" in done.stderr
