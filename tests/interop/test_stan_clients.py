"""The three clients of NATS Streaming, unmodified: each scenario on streamd and on nats-streaming-server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.stan.scenarios  # noqa: F401 - they add themselves
from tests.interop.test_clients import HERE, need, run
from tests.stan import venv
from tests.stan.conftest import python, streamd_or_peer
from tests.stan.program import Language
from tests.stan.servers import StanPeer
from tests.stan.stage import SCENARIOS, SHARED, Scenario, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stan.servers import StanServer

pytestmark = pytest.mark.interop
LANGUAGES = ("python", "node", "go")


def build_go() -> Language:
    """stan.go."""
    program = HERE / "go_stan" / "bin" / "stan"
    home = HERE / "go_stan"
    run(need("go"), "build", "-mod=readonly", "-buildvcs=false", "-o", str(program), ".", cwd=home, seconds=300)
    return Language("go", (str(program),), "stan: connect request timeout (possibly wrong cluster ID?)")


def build_node() -> Language:
    """node-nats-streaming."""
    home = HERE / "node_stan"
    if not (home / "node_modules").exists():
        run(need("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=home, seconds=300)
    return Language("node", (need("node"), str(home / "client.mjs")), "stan: connect request timeout")


@pytest.fixture(scope="session")
def languages() -> dict[str, Language]:
    """The three libraries, each ready to be started."""
    return {"python": python(venv.ready()), "node": build_node(), "go": build_go()}


@pytest.fixture(scope="session")
def makers(stan_program: Path) -> dict[str, Callable[[Path, str], StanServer]]:
    """How each server is made; not yet started."""
    return {
        "ours": streamd_or_peer(),
        "peer": lambda directory, streaming: StanPeer(stan_program, directory, streaming),
    }


@pytest.fixture(scope="session", params=["ours", "peer"])
def maker(
    request: pytest.FixtureRequest, makers: dict[str, Callable[[Path, str], StanServer]]
) -> Callable[[Path, str], StanServer]:
    """Both servers, one after the other."""
    return makers[request.param]


@pytest.fixture(scope="session")
def shared(maker: Callable[[Path, str], StanServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanServer]:
    """The server of all scenarios that don't stop it and need no limits of their own."""
    with maker(tmp_path_factory.mktemp("stan"), SHARED) as server:
        yield server


@pytest.mark.parametrize(
    ("language", "scenario"),
    [(name, one) for name in LANGUAGES for one in SCENARIOS],
    ids=lambda value: value.name if isinstance(value, Scenario) else value,
)
def test_scenario(
    languages: dict[str, Language],
    maker: Callable[[Path, str], StanServer],
    shared: StanServer,
    language: str,
    scenario: Scenario,
    tmp_path: Path,
) -> None:
    """Each scenario with each client."""
    if scenario.streaming is None:
        with Stage(shared, languages[language], scenario.name, tmp_path) as stage:
            scenario.play(stage)
    else:
        with (
            maker(tmp_path / "server", scenario.streaming) as server,
            Stage(server, languages[language], scenario.name, tmp_path) as stage,
        ):
            scenario.play(stage)
