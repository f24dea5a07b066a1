"""What a server makes of its configuration before it builds anything: limits, bounds, addresses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from streamd.core.core import CoreLimits

if TYPE_CHECKING:
    from pathlib import Path

    from streamd.config.models import Config, JetStreamConfig
    from streamd.config.streaming import StreamingConfig
    from streamd.streams.encryption import Encryption

SECOND_NS: Final = 1_000_000_000


def clustered(config: Config) -> bool:
    """Whether this server is one of several that may replicate streams."""
    return config.cluster is not None and bool(config.cluster.port)


def core_limits(config: Config) -> CoreLimits:
    return CoreLimits(
        max_connections=config.max_connections if config.max_connections > 0 else 1 << 31,
        max_payload_bytes=config.max_payload,
        max_control_line_bytes=config.max_control_line,
        max_pending_bytes=config.max_pending,
        max_subscriptions=max(config.max_subscriptions, 0),
        max_subscription_tokens=config.max_sub_tokens,
        ping_interval_seconds=config.ping_interval_ns / SECOND_NS,
        ping_max=config.ping_max,
        write_deadline_seconds=config.write_deadline_ns / SECOND_NS,
        auth_timeout_seconds=config.authorization.timeout_ns / SECOND_NS if config.authorization else 2.0,
        producer_stall=not config.no_fast_producer_stall,
    )


def encryption(config: StreamingConfig | None) -> Encryption:
    """With channels in memory there is nothing to encrypt."""
    from streamd.streams.encryption import Encryption

    if config is None or config.store != "file":
        return Encryption()
    return Encryption(config.encryption_key if config.encrypt else None, config.encryption_cipher, serves=True)


def bounds(config: JetStreamConfig, directory: Path) -> tuple[int, int]:
    """(bytes of memory, bytes of storage) that streams may use: as configured, else three quarters of what there is free."""
    memory, storage = config.max_memory_bytes, config.max_storage_bytes
    if memory is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    if storage is None:
        # What the store has already is not free any more, but it is the store's.
        held = sum(entry.stat().st_blocks * 512 for entry in directory.iterdir())
        # As shutil.disk_usage has it, which loads three compressors.
        filesystem = os.statvfs(directory)
        storage = held + filesystem.f_bavail * filesystem.f_frsize * 3 // 4
    return memory, storage


def reachable(host: str) -> str:
    """An address that a client on this machine can connect to."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
