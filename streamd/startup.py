"""What a server leaves for people and launchers while it starts: log lines, the pid file, the ports file.

The lines keep nats-server's words, because launchers wait for them. Not here: where log lines go
(cli/logging.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamd import __version__
from streamd.errors import StoreError

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence

    from streamd.config.models import Config
    from streamd.config.streaming import StreamingConfig

#: What a nats-streaming-server's store has in its directory.
THEIR_FILE: Final = "server.dat"
#: Where `streamd import` makes a store, under `store_dir`, before it takes its place.
IMPORTING: Final = "jetstream.importing"
_TITLE: Final = "---------- Store Limits ----------"
_LIST: Final = " List of Channels "
#: The limits of a channel by what the table calls them.
_LIMITS: Final = {
    "max_subs": "Subscriptions",
    "max_msgs": "Messages",
    "max_bytes": "Bytes",
    "max_age_ns": "Age",
    "max_inactivity_ns": "Inactivity",
}


def log_starting(logger: logging.Logger, config: Config, *, server_id: str, server_name: str) -> None:
    """The first lines of a log: who starts, under which name, from which file."""
    logger.info("Starting streamd")
    logger.info("  Version:  %s", __version__)
    logger.info("  Name:     %s", server_name)
    logger.info("  ID:       %s", server_id)
    if config.file:
        logger.info("Using configuration file: %s (%s)", config.file, config.digest)
    for warning in (*config.warnings, *config.notes):
        logger.warning("%s", warning)


def log_monitoring(logger: logging.Logger, host: str, port: int) -> None:
    logger.info("Starting http monitor on %s", endpoint(host, port))


def log_jetstream(
    logger: logging.Logger, *, store_dir: str, max_memory_bytes: int, max_storage_bytes: int,
    sync_interval: str | int,
) -> None:  # fmt: skip
    """What JetStream promises and where it keeps it."""
    logger.info("Starting JetStream")
    logger.info("  Max Memory:      %s", size_text(max_memory_bytes))
    logger.info("  Max Storage:     %s", size_text(max_storage_bytes))
    logger.info('  Store Directory: "%s"', store_dir)
    interval = sync_interval if isinstance(sync_interval, str) else f"{sync_interval / 1e9:g}s"
    logger.info("  Sync Interval:   %s", interval)


def log_streaming(
    logger: logging.Logger, streaming: StreamingConfig, store_dir: str | None, node_id: str, *, clustered: bool
) -> None:
    """What NATS Streaming serves, in the lines that operators of nats-streaming-server look for.

    Shapes:  store_dir is where messages are kept, None for a store in memory. clustered: whether there are others.
    """
    logger.info("STREAM: Starting streamd streaming[%s] version %s", streaming.cluster_id, __version__)
    cluster = streaming.cluster if clustered else None
    if cluster is not None:
        logger.info("STREAM: Cluster Node ID : %s", node_id)
        logger.info("STREAM: Cluster Log Path: %s", store_dir)
        if cluster.peers:
            logger.info("STREAM: Cluster known peers:")
            for number, peer in enumerate(cluster.peers, 1):
                logger.info('STREAM:   peer %d: "%s"', number, peer)
    kind = streaming.store.upper()
    logger.info("STREAM: Message store is %s", kind if cluster is None else f"RAFT_{kind}")
    if streaming.store == "file" and store_dir is not None:
        logger.info("STREAM: Store location: %s", store_dir)
    for line in limits_table(streaming):
        logger.info("STREAM: %s", line)


def limits_table(streaming: StreamingConfig) -> list[str]:
    """The limits of all channels, `*` behind a default, and what differs in each entry from the next wider one."""
    from streamd.config.channels import matching
    from streamd.config.streaming import StreamingConfig

    top, default = streaming.top_limits(), StreamingConfig().top_limits()

    def row(name: str, value: int, usual: int, shown: str) -> str:
        return f"{name} {shown:>13}{' *' if value == usual else ''}"

    usual_channels = StreamingConfig.model_fields["max_channels"].default
    lines = [
        _TITLE,
        row(
            "Channels:       ",
            streaming.max_channels,
            usual_channels,
            _limit_text("max_channels", streaming.max_channels),
        ),
        "--------- Channels Limits --------",
    ]
    for field, name in _LIMITS.items():
        value = getattr(top, field)
        lines.append(row(f"  {name:<13}:", value, getattr(default, field), _limit_text(field, value)))
    inherited = streaming.inherited_channels()
    levels = max((len(name.split(".")) for name in inherited), default=0)
    entries = []
    for name, limits in inherited.items():
        wider = matching(inherited, name)
        level = wider.index(name)
        parent = inherited[wider[level - 1]] if level else top
        entries.append(" " * level + name)
        for field in (*_LIMITS, "native"):
            value = getattr(limits, field)
            if value != getattr(parent, field):
                gap = " " * (levels - level)
                shown = _limit_text(field, value)
                entries.append(f"{' ' * level} |-> {_LIMITS.get(field, 'Native'):<13} {gap}{shown:>13}")
    width = max(map(len, [_TITLE, *entries]))
    if entries:
        left = "-" * ((width - len(_LIST)) // 2)
        lines += [f"{left}{_LIST}".ljust(width, "-"), *entries]
    return [*lines, "-" * width]


def _limit_text(field: str, value: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == 0:
        return "unlimited"
    if field.endswith("_ns"):
        from streamd.config.scalars import duration_text

        return duration_text(value)
    return size_text(value) if field == "max_bytes" else str(value)


def log_listening(logger: logging.Logger, host: str, port: int) -> None:
    logger.info("Listening for client connections on %s", endpoint(host, port))


def log_cluster(logger: logging.Logger, name: str, host: str, port: int, *, dynamic: bool) -> None:
    logger.info("Cluster name is %s", name)
    if dynamic:
        logger.warning("Cluster name was dynamically generated, consider setting one")
    logger.info("Listening for route connections on %s", endpoint(host, port))


def log_ready(logger: logging.Logger) -> None:
    logger.info("Server is ready")


def refuse_theirs(store_dir: Path) -> None:
    """Errors: StoreError, if a directory is a nats-streaming-server's store: to start beside it would be to start empty."""
    if (store_dir / THEIR_FILE).exists():
        raise StoreError(
            f"{store_dir} is the store of a nats-streaming-server: take it over with "
            f'"streamd import stan {store_dir} --apply --store-dir DIR", and set dir to that DIR'
        )


def refuse_unfinished(store_dir: Path) -> None:
    """Errors: StoreError, if an import has not ended and there is no store: to start would be to start empty, without what was
    imported."""
    from streamd.store.directory import FORMAT_FILE

    importing = store_dir / IMPORTING
    if importing.exists() and not (store_dir / "jetstream" / FORMAT_FILE).exists():
        raise StoreError(
            f"{importing} is of an import that has not ended, and there is no store beside it: run "
            f'"streamd import stan DIR --apply --store-dir {store_dir}" again, or remove it to start empty'
        )


def endpoint(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def size_text(size_bytes: int) -> str:
    """Bytes for people: `17.66 GB` (powers of 1024), `unlimited` below zero."""
    if size_bytes < 0:
        return "unlimited"
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            break
        size /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{size:.2f} {unit}"


def write_pid_file(path: str) -> None:
    """The pid in decimal without a newline; it stays when the server is gone. Errors: OSError."""
    Path(path).write_text(str(os.getpid()), encoding="ascii")


def ports_path(directory: str, program: str | None = None) -> Path:
    """`<directory>/<program>_<pid>.ports`; the program is the name this process was started under."""
    name = program or Path(sys.argv[0]).name or "streamd"
    return Path(directory) / f"{name}_{os.getpid()}.ports"


def write_ports_file(path: Path, addresses: Mapping[str, Sequence[str]]) -> None:
    """Tells launchers where the server listens, complete from the first moment it is seen.

    Shapes:  kinds (`nats`, `monitoring`, `cluster`) to URLs (`nats://h:p`, `http://h:p`); an empty kind is left out.
    Errors:  OSError.
    """
    text = json.dumps({kind: list(urls) for kind, urls in addresses.items() if urls})
    beside = path.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def remove_ports_file(path: Path) -> None:
    path.unlink(missing_ok=True)
