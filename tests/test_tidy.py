"""What the house looks like: who imports whom, how long files are, and that the documents say what is there.

The table of floors is design: a room imports only from rooms on lower floors, never sideways, and for type checking alone
as little as for running.
"""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from streamd.config import accounts, foreign, load, stan_file
from streamd.config.cluster import ClusterAuthorization, ClusterConfig, ClusterTls
from streamd.config.fields import keys_of
from streamd.config.models import AuthorizationConfig, Config, JetStreamConfig, JetStreamLimits, SystemUser
from streamd.config.streaming import ChannelLimits, StreamingClusterConfig, StreamingConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "streamd"

#: Room → floor. `streamd` itself (`__init__`, `__main__`) stands above all.
FLOORS: Final = {
    "_engine": 0,
    "errors": 0,
    "limits": 0,
    "clock": 0,
    "tokens": 0,
    "config": 1,
    "api": 1,
    "store": 1,
    "state": 2,
    "raft": 2,
    "core": 3,
    "cluster": 4,
    "streams": 5,
    "stan": 6,
    "monitor": 7,
    "settings": 7,
    "startup": 7,
    "server": 8,
    "testing": 9,
    "sim": 9,
    "cli": 10,
}
LINES_MAX: Final = 450
#: Files that are longer, and why.
LONG: Final = {
    "engine/src/consumer/mod.rs": "one machine whose parts already live beside it",
    "engine/tests/log_model.rs": "a model and the machine it is compared with",
    "streamd/_engine.pyi": "the manual of the engine, in one place",
    "tests/api/scenarios.py": "a table of requests",
}

#: Places of one machine, and work that was put off: an issue is the place for that.
FORBIDDEN: Final = re.compile(r"/(?:root|home|Users)/\w|\b(?:TODO|FIXME|XXX)\b")


@cache
def tracked() -> list[Path]:
    """The files of the project: what git knows or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[Path]:
    return [path for path in tracked() if path.suffix not in (".png", ".lock", ".sum") and path != Path(__file__)]


def room(path: Path) -> str:
    """The room a module of the package lives in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removesuffix(".pyi")


def imported(path: Path) -> set[str]:
    """The rooms that a module names in its imports, wherever they stand."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("streamd.")}
    return rooms & FLOORS.keys()


def test_rooms_import_only_from_lower_floors() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        here = room(path)
        if here in ("__init__", "__main__"):
            continue
        assert here in FLOORS, f"{path} is in no room"
        wrong += [
            f"{path.relative_to(ROOT)} imports {other}"
            for other in imported(path) - {here}
            if FLOORS[other] >= FLOORS[here]
        ]

    assert wrong == []


def test_every_room_is_seen() -> None:
    """The test above can fail: it sees the imports it is about."""
    assert {"config", "core", "streams", "store"} <= imported(PACKAGE / "server.py")
    assert "store" in imported(PACKAGE / "streams" / "commits.py")


def test_files_are_short() -> None:
    long = {}
    for path in texts():
        if path.suffix in (".py", ".pyi", ".rs"):
            lines = path.read_text().count("\n")
            if lines > LINES_MAX:
                long[str(path.relative_to(ROOT))] = lines

    assert {name: lines for name, lines in long.items() if name not in LONG} == {}


def test_nothing_speaks_of_where_it_was_made() -> None:
    found = []
    for path in texts():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if (match := FORBIDDEN.search(line)) is not None:
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")

    assert found == []


DOCUMENTS: Final = sorted(
    [*ROOT.glob("*.md"), *(path for room in ("docs", "examples", "benchmarks") for path in (ROOT / room).rglob("*.md"))]
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    missing = [name for name in targets if "://" not in name and not (path.parent / name).exists()]

    assert missing == []


def test_readme_names_both_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()

    assert "make run" in lines
    assert "make test" in lines


@pytest.mark.parametrize(
    ("model", "block"),
    [
        (Config, ""),
        (AuthorizationConfig, ""),
        (SystemUser, ""),
        (JetStreamConfig, ""),
        (JetStreamLimits, ""),
        (ClusterConfig, ""),
        (ClusterAuthorization, ""),
        (ClusterTls, ""),
        (StreamingConfig, ""),
        (StreamingConfig, "store_limits"),
        (StreamingConfig, "file_options"),
        (StreamingClusterConfig, ""),
        (ChannelLimits, ""),
    ],
)
def test_every_setting_is_documented(model: type, block: str) -> None:
    """Under each of its names."""
    names = keys_of(model, block)

    assert names
    assert undocumented(names) == []


def undocumented(names: Iterable[str]) -> list[str]:
    text = (ROOT / "docs" / "configuration.md").read_text()
    return sorted(name for name in names if f"`{name}`" not in text)


def test_inner_blocks_are_documented() -> None:
    assert undocumented([*stan_file.LIMITS, *stan_file.CHANNELS, *stan_file.FILE_OPTIONS]) == []
    assert undocumented(["accounts", "users", "system_account", "system"]) == []


def test_what_is_refused_or_without_effect_is_documented() -> None:
    later = load.LATER | load.LATER_AUTHORIZATION | load.LATER_JETSTREAM | load.LATER_LIMITS | load.LATER_CLUSTER
    later |= accounts.LATER_ACCOUNT | accounts.LATER_USER
    later |= load.LATER_CLUSTER_AUTHORIZATION | load.LATER_TLS
    idle = {name for key in stan_file.IDLE_FILE for name in key.names}

    assert undocumented([*later, *stan_file.REFUSED, *idle, *foreign.CLUSTER]) == []
    assert {key.name for key in stan_file.IDLE_FILE} <= foreign.FILE.keys()
    assert foreign.CLUSTER.keys() <= {name.removesuffix("_ns") for name in StreamingClusterConfig.model_fields}
