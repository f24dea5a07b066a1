"""Why something was not kept, as clients hear it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.errors import LeadershipLost, StoreError, StoreFailed, StoreFull
from streamd.streams.failures import storage_error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreFull(Path("store")), 10047, "insufficient storage resources available"),
        (StoreFailed(Path("store"), "why"), 10023, "insufficient resources"),
        (
            LeadershipLost("G.a.b.c"),
            10008,
            "JetStream system temporarily unavailable: the leader of group G.a.b.c changed before it was known whether this "
            "was stored: try again",
        ),
    ],
)
def test_each_has_its_answer(error: StoreError, code: int, text: str) -> None:
    told = storage_error(error)
    assert (told.err_code, told.description) == (code, text)
