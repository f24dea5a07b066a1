"""Options with times that suit tests: a heartbeat every 100 ms."""

from __future__ import annotations

from typing import Any

from streamd.raft.options import Options

MS = 1_000_000


def quick(**more: Any) -> Options:
    """Options; `more` are others than the times."""
    return Options(heartbeat_ns=100 * MS, election_min_ns=600 * MS, election_max_ns=1_200 * MS, **more)
