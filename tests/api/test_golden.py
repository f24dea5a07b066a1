"""Requests recorded from nats-server get the same answers, byte for byte but for times and our API level."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamd.state import later
from tests.api.scenarios import SCENARIOS
from tests.api.service import Service, neutral

GOLDEN = Path(__file__).parent / "golden"
REPLAYED = sorted(set(SCENARIOS) - {"infos"})
# Rows where streamd answers otherwise on purpose, by (part of the request, part of our description).
LATER = "not supported yet by streamd"
OURS = [
    ('"' + "x" * 256 + '"', "consumer name is too long, maximum allowed is 255"),
    ("." + "x" * 256, "consumer name is too long, maximum allowed is 255"),
]


@pytest.mark.parametrize("name", REPLAYED)
def test_answers_are_those_of_nats_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients rely on field order, emission rules, error codes and texts."""
    for feature in ("retention interest", "retention workqueue", "persist_mode async"):
        monkeypatch.delitem(later.STREAM, feature)  # their rules are kept although nobody can ask for them yet
    rows = iter(json.loads((GOLDEN / f"{name}.json").read_text()))
    service = Service()
    wrong = []
    for subject, _ in SCENARIOS[name]:
        if subject == "reset":
            service = Service()
            continue
        full, request, expected = next(rows)
        got = service.ask(full, request.encode()).decode()
        if got == "?":
            continue
        if not same(expected, got) and not ours(full + request, got):
            wrong.append(f"{full} {request[:300]}\n  nats-server: {expected[:900]}\n  streamd:     {got[:900]}")

    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)


def same(expected: str, got: str) -> bool:
    """Equal, field order included."""
    if expected.startswith("{") and got.startswith("{"):
        return json.dumps(neutral(json.loads(expected))) == json.dumps(neutral(json.loads(got)))
    return expected == got


def ours(request: str, got: str) -> bool:
    """Whether we differ on purpose."""
    return LATER in got or any(part in request and text in got for part, text in OURS)
