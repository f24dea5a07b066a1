"""The streaming block of a file and the streaming flags, to values for StreamingConfig.

Guarantee: a key of nats-streaming-server is read, or refused by name, or noted as one that changes nothing.
Not here:  bounds and defaults (streaming.py), the reasons for what changes nothing (foreign.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from streamd.config import foreign, typed
from streamd.config.fields import Problems, keys_of, read_fields, read_key
from streamd.config.reading import Key
from streamd.config.streaming import ChannelLimits, StreamingClusterConfig, StreamingConfig
from streamd.config.tree import Entry, Node, Position, describe

Handler = Callable[[Entry, Problems, dict[str, Any]], None]

_PATH: Final = ("streaming",)
#: Keys whose meaning streamd doesn't have, with the reason. The flags of the same names share it.
REFUSED: Final = {
    **dict.fromkeys(
        (
            "nats_server_url", "nats_server", "ns", "credentials", "username", "user", "password", "pass",
            "token", "nkey_seed_file", "secure", "tls",
        ),
        foreign.EXTERNAL,
    ),
    **dict.fromkeys(("sql_options", "sql"), foreign.SQL),
    "syslog_name": foreign.SYSLOG,
}  # fmt: skip

#: Keys of file_options that are checked and change nothing.
IDLE_FILE: Final = (
    Key("compact", typed.boolean, ("compact_enabled",)),
    Key("compact_fragmentation", typed.integer, ("compact_frag",)),
    Key("compact_interval", typed.integer),
    Key("compact_min_size", typed.integer),
    Key("buffer_size", typed.integer),
    Key("read_buffer_size", typed.integer, ("file_read_buffer_size",)),
    Key("crc", typed.boolean, ("do_crc",)),
    Key("crc_poly", typed.integer),
    Key("slice_max_msgs", typed.integer, ("slice_max_count", "slice_msgs", "slice_count")),
    Key("slice_max_bytes", typed.integer, ("slice_max_size", "slice_bytes", "slice_size")),
    Key("slice_max_age", typed.duration, ("slice_age", "slice_max_time", "slice_time_limit")),
    Key("slice_archive_script", typed.string, ("slice_archive", "slice_script")),
    Key("file_descriptors_limit", typed.integer, ("fds_limit",)),
    Key("parallel_recovery", typed.integer),
)

#: Inner blocks by the names they have in a file.
LIMITS: Final = ("store_limits", "limits", "storelimits")
CHANNELS: Final = ("channels", "channels_limits", "channelslimits", "per_channel", "per_channel_limits")
FILE_OPTIONS: Final = ("file_options", "file")


def read(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    """Reads the block; `values["streaming"]` gets the values for StreamingConfig, of all keys that are sound."""
    if (entries := _map(entry, problems)) is not None:
        problems.places[_PATH] = (entry.position, "streaming")
        values["streaming"] = read_fields(StreamingConfig, entries, problems, _PATH, frozenset(), _SPECIAL)


def take(root: Node) -> tuple[Entry | None, Node]:
    """Takes the streaming keys out of a file that has no block for them and is read for all settings.

    Returns them and the rest. None, and all of it, if the file has the block: there they are.
    """
    assert isinstance(root.value, dict)
    if any(name.lower() == "streaming" for name in root.value):
        return None, root
    known = keys_of(StreamingConfig).keys() | _SPECIAL.keys()
    taken = {name: entry for name, entry in root.value.items() if name.lower() in known}
    rest = {name: entry for name, entry in root.value.items() if name not in taken}
    return Entry("streaming", root.position, Node(taken, root.position)), Node(rest, root.position)


def alone(root: Node, other: str, problems: Problems) -> Entry:
    """The streaming keys of a file that is read for them only, because `other` has all other settings."""
    assert isinstance(root.value, dict)
    blocks = [entry for name, entry in root.value.items() if name.lower() == "streaming"]
    if not blocks:
        return Entry("streaming", root.position, root)
    for name, entry in root.value.items():
        if name.lower() != "streaming" and not entry.used:
            problems.notes.append(f"{entry.position}: {name}: not read, the file of -c is: {other}")
    return blocks[-1]


def one_store(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flags --dir and --store_dir name the same directory: one of them sets both, whatever the file says."""
    given = overrides.get("streaming") or {}
    if "dir" in given and "store_dir" not in overrides:
        return {**overrides, "store_dir": given["dir"]}
    if "store_dir" in overrides and "dir" not in given:
        return {**overrides, "streaming": {**given, "dir": overrides["store_dir"]}}
    return overrides


def merge(values: dict[str, Any] | None, flags: Mapping[str, Any] | None, problems: Problems) -> StreamingConfig | None:
    """The block with what flags gave, which wins; None if there is neither.

    Shapes:  flags: fields of StreamingConfig; fields of its cluster with `cluster_` in front, the peers with
             commas between; `clustered`. `store` in any case.
    """
    if values is None and flags is None:
        return None
    merged, given = dict(values or {}), dict(flags or {})
    if "store" in given and given["store"].lower() not in ("memory", "file", "sql"):
        problems.errors.append(f"unsupported store type: {given.pop('store')}")
    clustered = given.pop("clustered", None)
    cluster = {name: given.pop(name) for name in list(given) if name.startswith("cluster_") and name != "cluster_id"}
    merged |= given
    for name in given:
        problems.places.pop((*_PATH, name), None)
    for name in cluster:
        problems.places.pop((*_PATH, "cluster", name.removeprefix("cluster_")), None)
        if (why := foreign.CLUSTER.get(name.removeprefix("cluster_"))) is not None and cluster[name]:
            problems.notes.append(foreign.note(f"--{name}", why))
    if clustered or (clustered is None and merged.get("cluster") is not None):
        merged["cluster"] = {**(merged.get("cluster") or {}), **_cluster_fields(cluster)}
    else:
        merged["cluster"] = None
        problems.notes += [f"--{name}: has no effect without --clustered" for name in cluster]
    try:
        return StreamingConfig(**merged)
    except ValidationError as error:
        problems.add_invalid(error, _PATH)
        return None


def _cluster_fields(flags: dict[str, Any]) -> dict[str, Any]:
    fields = {name.removeprefix("cluster_"): value for name, value in flags.items()}
    if "peers" in fields:
        fields["peers"] = tuple(peer.strip() for peer in fields["peers"].split(",") if peer.strip())
    return fields


def _map(entry: Entry, problems: Problems) -> dict[str, Entry] | None:
    if isinstance(entry.node.value, dict):
        return entry.node.value
    problems.add(entry.position, f"{entry.name}: expected a map, got {describe(entry.node)}")
    return None


def _limits(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    if (entries := _map(entry, problems)) is not None:
        special = dict.fromkeys(CHANNELS, _channels)
        values |= read_fields(StreamingConfig, entries, problems, _PATH, frozenset(), special, LIMITS[0])


def _channels(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    if (entries := _map(entry, problems)) is None:
        return
    channels = values.setdefault("channels", {})
    problems.places[(*_PATH, "channels")] = (entry.position, entry.name)
    for name, inner in entries.items():
        if inner.used and not isinstance(inner.node.value, dict):
            continue  # a variable
        if (limits := _map(inner, problems)) is not None:
            path = (*_PATH, "channels", name)
            problems.places[path] = (inner.position, name)
            channels[name] = read_fields(ChannelLimits, limits, problems, path, frozenset(), {})


def _file_options(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    if (entries := _map(entry, problems)) is not None:
        special = {name: _idle(key) for key in IDLE_FILE for name in key.names}
        values |= read_fields(StreamingConfig, entries, problems, _PATH, frozenset(), special, FILE_OPTIONS[0])


def _idle(key: Key) -> Handler:
    def handle(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
        before = len(problems.errors)
        read_key(key, entry, key.name, problems, {})
        if len(problems.errors) == before:
            _note(entry.position, f"file_options.{entry.name}", foreign.FILE[key.name], problems)

    return handle


def _note(position: Position, what: str, why: str, problems: Problems) -> None:
    problems.notes.append(f"{position}: {foreign.note(f'streaming.{what}', why)}")


def _cluster(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    if (entries := _map(entry, problems)) is None:
        return
    path = (*_PATH, "cluster")
    problems.places[path] = (entry.position, entry.name)
    cluster = read_fields(StreamingClusterConfig, entries, problems, path, frozenset(), {})
    values["cluster"] = cluster
    for name, inner in entries.items():
        field = name.lower() if name.lower() in cluster else f"{name.lower()}_ns"
        if (why := foreign.CLUSTER.get(name.lower())) is not None and cluster.get(field):
            _note(inner.position, f"cluster.{inner.name}", why, problems)
    for peer in cluster.get("peers", ()):
        if "," in peer:
            at = problems.places[(*path, "peers")][0]
            problems.notes.append(f'{at}: peers: "{peer}" is one name with a comma, not several: ["a", "b"] are two')


def _partitioning(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
    found = dict[str, Any]()
    read_key(Key("partitioning", typed.boolean), entry, "partitioning", problems, found)
    if found.get("partitioning"):
        problems.add(entry.position, f'"partitioning" is not supported by streamd: {foreign.PARTS}')


def _refused(why: str) -> Handler:
    def handle(entry: Entry, problems: Problems, values: dict[str, Any]) -> None:
        problems.add(entry.position, f'"{entry.name}" is not supported by streamd: {why}')

    return handle


_SPECIAL: Final[Mapping[str, Handler]] = {
    **{name: _refused(why) for name, why in REFUSED.items()},
    **dict.fromkeys(LIMITS, _limits),
    **dict.fromkeys(FILE_OPTIONS, _file_options),
    "cluster": _cluster,
    "partitioning": _partitioning,
}
