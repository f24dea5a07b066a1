"""What every client library is to find, told once; importing this collects all of it in tests.stan.stage.SCENARIOS."""

from tests.stan.scenarios import (
    acks,
    crash,
    durables,
    identity,
    limits,
    loss,
    positions,
    publishing,
    queues,
    restarts,
)

__all__ = [
    "acks",
    "crash",
    "durables",
    "identity",
    "limits",
    "loss",
    "positions",
    "publishing",
    "queues",
    "restarts",
]
