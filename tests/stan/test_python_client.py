"""The Python client of NATS Streaming, unmodified, finds on streamd what it found on the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.stan.scenarios  # noqa: F401 - they add themselves
from tests.stan.stage import SCENARIOS, Scenario, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stan.program import Language
    from tests.stan.servers import StanServer


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_python(
    request: pytest.FixtureRequest,
    scenario: Scenario,
    python_client: Language,
    make_server: Callable[[Path, str], StanServer],
    tmp_path: Path,
) -> None:
    """Each scenario."""
    if scenario.streaming is None:
        server = request.getfixturevalue("shared_server")
        with Stage(server, python_client, scenario.name, tmp_path) as stage:
            scenario.play(stage)
    else:
        with (
            make_server(tmp_path / "server", scenario.streaming) as server,
            Stage(server, python_client, scenario.name, tmp_path) as stage,
        ):
            scenario.play(stage)
