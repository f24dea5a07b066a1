"""The journals of Raft groups among what a store holds, and whether they can be trusted.

Guarantee:  a server that goes on with its journals keeps every promise that it made by them: one that isn't what was written
            means that it must not go on as the node that it was, and refuses the whole store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.errors import StoreCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamd.store import StoredStream, StreamLog

META: Final = "META"


def take_journals(
    found: Iterable[StoredStream], directory: Path, *, clustered: bool
) -> tuple[dict[str, StoredStream], list[StoredStream]]:
    """The journals, by group, and the rest. `clustered`: whether there may be any.

    Errors: StoreCorrupt if one is damaged, or something of which can't be told that it is none.
    """
    journals: dict[str, StoredStream] = {}
    rest: list[StoredStream] = []
    unknown: list[StoredStream] = []
    for stored in found:
        definition = _definition(stored)
        if definition is None:
            unknown.append(stored)
        elif definition.get("service") == "raft":
            journals[str(definition["name"])] = stored
        else:
            rest.append(stored)
    damaged = [(name, stored.damage) for name, stored in journals.items() if stored.damage is not None]
    if damaged:
        name, damage = damaged[0]
        assert damage is not None
        raise StoreCorrupt(directory, f"the journal of group {name}: {damage.found}")
    if unknown and (journals or clustered):
        number = unknown[0].stream
        raise StoreCorrupt(directory, f"what number {number} is, which may be the journal of a group, can't be read")
    if journals and META not in journals:
        raise StoreCorrupt(
            directory, f"there are journals of groups ({', '.join(sorted(journals))}) and none of {META}"
        )
    return journals, [*rest, *unknown]


def check_journals(journals: dict[str, StoredStream], log_of: Callable[[int], StreamLog], directory: Path) -> None:
    """Read them all. Errors: StoreCorrupt."""
    if not journals:
        return
    # A server that is no member of a cluster does without all of Raft.
    from streamd.raft.errors import JournalDamaged
    from streamd.raft.journal import Journal
    from streamd.raft.storage import Storage

    for name, stored in journals.items():
        try:
            Journal.found(name, Storage.found(log_of(stored.stream), stored))
        except JournalDamaged as error:
            raise StoreCorrupt(directory, f"the journal of group {name}: {error.found}") from error


def _definition(stored: StoredStream) -> dict[str, Any] | None:
    """What says what it is, None if that can't be read."""
    try:
        definition = json.loads(stored.definition)
    except ValueError:
        return None
    return definition if isinstance(definition, dict) else None
