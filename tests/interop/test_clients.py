"""Clients of other languages, unmodified: each program runs its verbs against streamd and against nats-server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Pair

pytestmark = pytest.mark.interop
HERE = Path(__file__).parent


def need(program: str) -> str:
    """The path of a tool; the test fails without it."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"this needs `{program}`, which is not installed here")
    return found


def run(*command: str, cwd: Path, seconds: float = 60, **env: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, **env}
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def go_program() -> Path:
    """The built Go program."""
    program = HERE / "go" / "bin" / "interop"
    run(need("go"), "build", "-mod=readonly", "-buildvcs=false", "-o", str(program), ".", cwd=HERE / "go", seconds=300)
    return program


@pytest.fixture(scope="session")
def modules() -> Path:
    """The directory of the JavaScript programs with their packages installed."""
    node = HERE / "node"
    if not (node / "node_modules").exists():
        run(need("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=node, seconds=300)
    return node


@pytest.mark.parametrize("server", ["ours", "peer"])
def test_go(pair: Pair, go_program: Path, server: str) -> None:
    """nats.go with its jetstream package, and its former JetStream interface."""
    run(str(go_program), f"nats://127.0.0.1:{getattr(pair, server).port}", cwd=HERE)


@pytest.mark.parametrize("server", ["ours", "peer"])
@pytest.mark.parametrize("program", ["current", "former"])
def test_javascript(pair: Pair, modules: Path, program: str, server: str) -> None:
    """@nats-io/transport-node with @nats-io/jetstream, and nats 2."""
    run(need("node"), f"{program}.mjs", f"nats://127.0.0.1:{getattr(pair, server).port}", cwd=modules)
