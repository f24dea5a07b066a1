"""The parts of /varz that need no running server: settings, JetStream, uptime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from streamd.config.models import Config
    from streamd.streams.jetstream import JetStream

_NS_PER_S = 1_000_000_000


def configured(config: Config) -> dict[str, object]:
    """The fields that repeat the configuration. Units: as nats-server, durations in ns, auth_timeout in s."""
    fields: dict[str, object] = {
        "host": config.host,
        "port": config.port,
        "max_connections": config.max_connections,
        "max_control_line": config.max_control_line,
        "max_payload": config.max_payload,
        "max_pending": config.max_pending,
        "ping_interval": config.ping_interval_ns,
        "ping_max": config.ping_max,
        "write_deadline": config.write_deadline_ns,
        "auth_required": config.authorization is not None,
        "tls_required": False,
        "tls_verify": False,
    }
    if config.max_subscriptions > 0:
        fields["max_subscriptions"] = config.max_subscriptions
    if config.authorization is not None:
        fields["auth_timeout"] = config.authorization.timeout_ns / _NS_PER_S
    if config.http_port is not None:
        fields |= {"http_host": config.http_host or config.host, "http_port": config.http_port}
    if config.server_tags:
        fields["tags"] = list(config.server_tags)
    if config.server_metadata:
        fields["metadata"] = dict(config.server_metadata)
    if config.digest:
        fields["config_digest"] = config.digest
    return fields


def jetstream(service: JetStream, config: Config, store_dir: Path | None) -> dict[str, object]:
    """The field of JetStream. Units: bytes."""
    if config.jetstream is None:
        return {}
    memory, stored, _consumers = service.usage()
    return {
        "config": {
            "max_memory": service.max_memory_bytes,
            "max_storage": service.max_storage_bytes,
            "store_dir": str(store_dir),
            "sync_interval": str(config.jetstream.sync_interval),
        },
        "stats": {
            "memory": memory,
            "storage": stored,
            "accounts": 1,
            "api": {"total": service.api.total, "errors": service.api.errors},
        },
    }


def uptime_text(seconds: float) -> str:
    """`1y2d3h4m5s`, years of 365 days; leading units that are zero are left out."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    years, day = divmod(days, 365)
    if years:
        return f"{years}y{day}d{hour}h{minute}m{second}s"
    if days:
        return f"{days}d{hour}h{minute}m{second}s"
    if hours:
        return f"{hours}h{minute}m{second}s"
    return f"{minutes}m{second}s" if minutes else f"{second}s"
