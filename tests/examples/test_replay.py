"""The replay example, as examples/README.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

REPLAY = Path(__file__).parents[2] / "examples" / "replay.py"


def replay(server: Any, count: int) -> str:
    command = [sys.executable, str(REPLAY), "--server", server.client_url, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    return done.stdout


def test_replay_sees_all_messages_in_order(server: Any) -> None:
    """It checks order and content itself, and fails otherwise."""
    assert "replayed 10000 messages in order" in replay(server, 10_000)


def test_replay_can_be_repeated(server: Any) -> None:
    """The stream is made anew, so the second run starts at sequence 1 again."""
    replay(server, 1)

    assert "replayed 1234 messages in order" in replay(server, 1_234)
