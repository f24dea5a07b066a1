"""The Raft files of a clustered server: the newest snapshot and the log behind it.

    <log path>/<cluster id>/raft.log                      entries, encrypted if the store is
    <log path>/<cluster id>/snapshots/<name>/meta.json    index, term, CRC-64 of the state
                                             state.bin    size, 4 bytes, and a RaftSnapshot

The log path is relative to where the server was started, by default <cluster id>/<node id>, and not to its store.
Not here:   which entries a majority has: the log of one member does not say. All of them are applied.
Source: createRaftNode of server/clustering.go, server/raft_log.go, server/snapshot.go, file_snapshot.go of hashicorp/raft.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamd.stan.importer.bolt import Bolt
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.packed import unpack_map
from streamd.stan.importer.replay import Ahead, Replay
from streamd.stan.importer.sealed import AES, CHACHA, Opener, master
from streamd.stan.importer.wire import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamd.stan.importer.records import Tell
    from streamd.stan.importer.slices import Extent
    from streamd.stan.importer.tables import ServerInfo

LOG_NAME: Final = "raft.log"
COMMAND: Final = 0
#: ECMA-182, bits reversed.
CRC64: Final = 0xC96C5795D7870F42


def find(directory: Path, info: ServerInfo, given: Path | None) -> Path:
    """The directory with raft.log. Errors: ImportRefused if there is none where it should be."""
    usual = Path(info.cluster_id) / info.node_id
    places = [given] if given is not None else [directory.absolute().parent / usual, usual]
    for place in places:
        for found in (place / info.cluster_id, place):
            if (found / LOG_NAME).is_file():
                return found
    looked = " and ".join(str(place) for place in places)
    raise ImportRefused(
        f"{directory} is of node {info.node_id} of a cluster, whose clients and subscriptions are in {LOG_NAME}, which is not "
        f"in {looked}: name the cluster's log_path with --raft-dir (it is relative to where that server was started)"
    )


def read(directory: Path, stored: dict[str, Extent], key: str | None, tell: Tell) -> Replay:
    """Applies what is in a directory to the channels of a store. Errors: ImportRefused."""
    log = directory / LOG_NAME
    try:
        bolt = Bolt(log)
    except (ValueError, OSError) as error:
        raise _refused(log, error) from None
    try:
        ids = {name.decode(): int.from_bytes(number, "big") for name, number in bolt.bucket(b"channels")}
        replay = Replay(stored, ids, tell)
        index = _restore(directory / "snapshots", replay)
        for operation in _operations(bolt, log, index, key):
            replay.apply(operation)
        replay.finish()
    except ValueError as error:
        raise _refused(log, error) from None
    except Ahead as error:
        raise ImportRefused(
            f"{log} has entries that never reached the store ({error}): start this cluster once more and stop it when it "
            f"is idle, or import the directory of the node that led"
        ) from None
    finally:
        bolt.close()
    return replay


def _refused(path: Path, error: Exception) -> ImportRefused:
    return ImportRefused(f"{path} can't be read as a Raft log ({error}): import the directory of another node")


def _operations(bolt: Bolt, log: Path, index: int, key: str | None) -> Iterator[Message]:
    """The commands behind an index. Errors: ImportRefused, ValueError."""
    opener = Opener(master(key)) if key else None
    for raw, value in bolt.bucket(b"logs"):
        number = int.from_bytes(raw, "big")
        if number <= index:
            continue
        if number != index + 1:
            raise ValueError(f"entry {index + 1} is missing")
        index = number
        entry = unpack_map(value)
        data = entry.get("Data")
        if entry.get("Type") != COMMAND or not isinstance(data, bytes) or not data:
            continue
        # An operation never begins like this: there is no field 0.
        if data[0] in (AES, CHACHA) and opener is None:
            raise ImportRefused(
                f"{log} is encrypted: name the key with --encryption-key or NATS_STREAMING_ENCRYPTION_KEY"
            )
        try:
            yield Message(opener.open(data) if opener is not None else data)
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None


def _restore(snapshots: Path, replay: Replay) -> int:
    """Begins with the newest snapshot. Returns the index of its last entry, 0 without one. Errors: as `read`, Ahead."""
    found: list[tuple[int, int, str, bytes]] = []
    for path in snapshots.glob("*/meta.json"):
        if path.parent.name.endswith(".tmp"):
            continue
        try:
            meta = json.loads(path.read_text())
            found.append((int(meta["Term"]), int(meta["Index"]), path.parent.name, base64.b64decode(meta["CRC"])))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ImportRefused(f"{path} is damaged ({error}): import the directory of another node") from None
    if not found:
        return 0
    _, index, name, checksum = max(found)
    path = snapshots / name / "state.bin"
    try:
        state = path.read_bytes()
        size = int.from_bytes(state[:4], "little")
        if crc64(state).to_bytes(8, "big") != checksum or len(state) < 4 + size:
            raise ValueError("its checksum does not match")
        replay.restore(Message(state[4 : 4 + size]))
    except (ValueError, OSError) as error:
        raise ImportRefused(f"{path} is damaged ({error}): import the directory of another node") from None
    return index


def crc64(data: bytes) -> int:
    """CRC-64 as Go's crc64.ECMA."""
    table = _table()
    value = 0xFFFF_FFFF_FFFF_FFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFF_FFFF_FFFF_FFFF


@cache
def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CRC64 if value & 1 else 0)
        found.append(value)
    return tuple(found)
