"""Three servers with the configuration files of conf/, each a process of its own. Not here: how they are started and
watched (benchmarks/trio.py)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.server import Software
from benchmarks.trio import Trio, on_loopback

if TYPE_CHECKING:
    from benchmarks.trio import Place

CONF: Final = Path(__file__).parents[1] / "conf"
#: What the files call the ports of each node: for clients, for routes.
PORTS: Final = {"a": (4221, 6221), "b": (4222, 6222), "c": (4223, 6223)}
STREAMD: Final = Software("streamd", (sys.executable, "-m", "streamd"))


def as_in_conf(place: Place, others: list[Place]) -> str:
    """conf/a.conf and its like, word for word but for hosts and ports; and a page that tells who leads."""
    found: dict[str, str] = {}
    for each in (place, *others):
        port, route_port = PORTS[each.name]
        found[f"localhost:{route_port}"] = f"{each.host}:{each.route_port}"
        found[str(route_port)], found[str(port)] = str(each.route_port), str(each.port)
    # All at once, as a free port may read like one that is still to be replaced.
    text = re.sub("|".join(found), lambda match: found[match[0]], (CONF / f"{place.name}.conf").read_text())
    return f'{text}\nhttp: "{place.host}:{place.monitor_port}"\n'


def streaming_trio(home: Path, block: str) -> Trio:
    """The same with more lines in the streaming block of each."""

    def text(place: Place, others: list[Place]) -> str:
        return as_in_conf(place, others).replace("store: file\n", f"store: file\n{block}", 1)

    return Trio(STREAMD, on_loopback(home), text, streaming=True)


def trio(home: Path, software: Software = STREAMD) -> Trio:
    """A cluster that isn't started yet."""
    return Trio(software, on_loopback(home), as_in_conf, streaming=True)


def everywhere(cluster: Trio, path: str) -> list[dict[str, object]]:
    """A page of each server."""
    return [node.ask(path) for node in cluster.nodes]
