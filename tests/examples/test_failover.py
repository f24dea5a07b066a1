"""The failover example, as examples/README.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FAILOVER = Path(__file__).parents[2] / "examples" / "failover" / "run.py"


def test_nothing_acked_is_lost_when_the_leader_is_killed() -> None:
    """It checks order and content itself, and fails otherwise."""
    command = [sys.executable, str(FAILOVER), "--count", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    assert "3000 messages acked, 3000 replayed" in done.stdout
    assert "(kill -9)" in done.stdout
