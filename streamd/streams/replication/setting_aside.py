"""What a member of a cluster does with a store that it can't trust: it is set aside, and the server joins anew.

Guarantee:  a server that may have lost what it promised votes no more under that identity, and never founds a cluster: others
            have what it had, and only they can tell. Nothing is deleted. The rename is what counts: a crash at any moment
            leaves the store where it was or set aside, and a server beside whose store lies one that was set aside only joins.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamd.errors import StoreCorrupt, StoreError
from streamd.store import Environment, recover
from streamd.store.directory import sync_directory
from streamd.streams.journals import META

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from streamd.streams.jetstream import JetStream

#: Behind the directory's name, before the time.
DAMAGED: Final = ".damaged-"


@dataclass(slots=True)
class Legible:
    """What can still be read of a damaged store."""

    name: str = ""  # of its server, "" if that is not known
    alone: list[str] | None = None  # streams without other replicas; None: that isn't known


def open_member(
    directory: Path, make: Callable[[Path], JetStream], log: logging.Logger, *, now: Callable[[], float] = time.time
) -> JetStream:
    """The JetStream of a member of a cluster, on its store or, if that is refused as damaged, on an empty one.

    `make` opens a store in a directory. `now`: seconds since 1970. Errors: StoreError, for all but damage.
    """
    try:
        jetstream = make(directory)
    except StoreCorrupt as error:
        aside = set_aside(directory, error.found, log, now())
        jetstream = make(directory)
        jetstream.former_name = aside.name
    if not jetstream.identity:
        jetstream.must_join = ", ".join(str(path) for path in stores_aside(directory))
    return jetstream


def stores_aside(directory: Path) -> list[Path]:
    """Stores of this directory that were set aside."""
    return sorted(directory.parent.glob(f"{directory.name}{DAMAGED}*"))


def set_aside(directory: Path, found: str, log: logging.Logger, now: float) -> Legible:
    """Rename a damaged store, and say what that costs."""
    legible = _read(directory)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    path, number = directory.with_name(f"{directory.name}{DAMAGED}{stamp}"), 1
    while path.exists():
        number += 1
        path = directory.with_name(f"{directory.name}{DAMAGED}{stamp}-{number}")
    directory.rename(path)
    sync_directory(directory.parent)
    log.error(
        "RAFT: the store in %s is damaged (%s): it is set aside as %s, and this server joins its cluster anew with an empty "
        "one, under another identity; what has replicas comes from there",
        directory,
        found,
        path,
    )
    if legible.alone is None:
        log.error(
            "RAFT: streams without other replicas that were in %s are lost from service; it can't be read which", path
        )
    elif legible.alone:
        names = ", ".join(sorted(legible.alone))
        log.error("RAFT: streams without other replicas, lost from service with %s: %s", path, names)
    return legible


def _read(directory: Path) -> Legible:
    """As much as can be read without trusting any of it."""
    legible = Legible()
    with contextlib.suppress(StoreError, OSError):
        environment = Environment.open(directory)
        try:
            alone = []
            for stored in recover(environment):
                definition = json.loads(stored.definition or b"{}")
                if definition.get("service") == "raft":
                    if definition["name"] == META:
                        legible.name = definition["node"].rpartition("#")[0]
                elif "service" not in definition and not definition.get("group"):
                    alone.append(stored.name)
            legible.alone = alone
        finally:
            environment.close()
    return legible
