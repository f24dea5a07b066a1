"""The configuration as frozen models: every setting with its default, bounds and name in the file.

Durations are integer nanoseconds (`_ns`), sizes are bytes. A model is built by load.py from a file and
flags, or in Python directly; the same bounds hold for both. Not here: the text form.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamd.config import reading
from streamd.config.reading import Key

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
_INT32_MAX: Final = 2**31 - 1

Port = Annotated[int, Field(ge=-1, le=65535)]
Bytes = Annotated[int, Field(ge=1)]
Nanoseconds = Annotated[int, Field(ge=0)]
# -1 and 0 both say "no limit" somewhere in the field's files.
Limit = Annotated[int, Field(ge=-1)]


class _Block(BaseModel):
    """What all blocks share: frozen, strict, no unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class AuthorizationConfig(_Block):
    """One user with a password, or one token."""

    user: Annotated[str | None, Key("user", reading.string, ("username",))] = None
    password: Annotated[str | None, Key("password", reading.string, ("pass",)), Field(repr=False)] = None
    token: Annotated[str | None, Key("token", reading.string), Field(repr=False)] = None
    timeout_ns: Annotated[Nanoseconds, Key("timeout", reading.seconds)] = 2 * SECOND_NS

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.token is not None and (self.user is not None or self.password is not None):
            raise ValueError("cannot have a user/pass and token")
        if self.password is not None and self.user is None:
            raise ValueError("a password needs a user")
        return self


class JetStreamLimits(_Block):
    """Server-wide bounds on what a stream or consumer may ask for; None is unset."""

    max_ack_pending: Annotated[Limit | None, Key("max_ack_pending", reading.integer)] = None
    max_request_batch: Annotated[Limit | None, Key("max_request_batch", reading.integer)] = None
    duplicate_window_ns: Annotated[Nanoseconds | None, Key("duplicate_window", reading.duration)] = None


class JetStreamConfig(_Block):
    """The jetstream block.

    Units:  max_memory_bytes and max_storage_bytes: None lets the server choose, -1 is unlimited.
            sync_interval: "always" syncs before every ack, nanoseconds sync at least so often, "never"
            leaves it to the operating system; only "always" keeps what it acked through a power cut.
    """

    store_dir: Annotated[str | None, Key("store_dir", reading.string, ("storedir", "store"))] = None
    max_memory_bytes: Annotated[
        Limit | None, Key("max_memory_store", reading.storage_size, ("max_mem_store", "max_mem"))
    ] = None
    max_storage_bytes: Annotated[Limit | None, Key("max_file_store", reading.storage_size, ("max_file",))] = None
    sync_interval: Annotated[
        Literal["always", "never"] | Annotated[int, Field(ge=1_000_000)],
        Key("sync_interval", reading.sync_interval, ("sync",)),
    ] = "always"
    strict: Annotated[bool, Key("strict", reading.boolean)] = True
    request_queue_limit: Annotated[Bytes, Key("request_queue_limit", reading.integer)] = 10_000
    info_queue_limit: Annotated[Bytes, Key("info_queue_limit", reading.integer)] = 10_000
    max_buffered_bytes: Annotated[Bytes, Key("max_buffered_size", reading.integer)] = 128 << 20
    max_buffered_msgs: Annotated[Bytes, Key("max_buffered_msgs", reading.integer)] = 10_000
    limits: JetStreamLimits = JetStreamLimits.model_construct()


class Config(_Block):
    """One server's settings.

    Shapes:  port and http_port: -1 takes a free port; http_port None is no monitoring; max_payload counts
             headers and body together.
    Errors:  pydantic.ValidationError when built in Python; ConfigError from load.py.
    """

    host: Annotated[str, Key("host", reading.string, ("net",))] = "0.0.0.0"
    port: Annotated[Port, Key("port", reading.integer)] = 4222
    client_advertise: Annotated[str, Key("client_advertise", reading.string)] = ""
    server_name: Annotated[str, Key("server_name", reading.string)] = ""
    server_tags: Annotated[tuple[str, ...], Key("server_tags", reading.strings)] = ()
    server_metadata: Annotated[dict[str, str], Key("server_metadata", reading.string_map)] = {}

    debug: Annotated[bool, Key("debug", reading.boolean)] = False
    trace: Annotated[bool, Key("trace", reading.boolean)] = False
    logtime: Annotated[bool, Key("logtime", reading.boolean)] = True
    logtime_utc: Annotated[bool, Key("logtime_utc", reading.boolean)] = False
    log_file: Annotated[str, Key("log_file", reading.string, ("logfile",))] = ""
    pid_file: Annotated[str, Key("pid_file", reading.string, ("pidfile",))] = ""
    ports_file_dir: Annotated[str, Key("ports_file_dir", reading.string)] = ""

    http_host: str | None = None
    http_port: Port | None = None

    max_connections: Annotated[Limit, Key("max_connections", reading.integer, ("max_conn",))] = 65_536
    max_control_line: Annotated[int, Key("max_control_line", reading.integer), Field(ge=1, le=_INT32_MAX)] = 4096
    max_payload: Annotated[int, Key("max_payload", reading.integer), Field(ge=1, le=_INT32_MAX)] = 1 << 20
    max_pending: Annotated[Bytes, Key("max_pending", reading.integer)] = 64 << 20
    max_subscriptions: Annotated[Limit, Key("max_subscriptions", reading.integer, ("max_subs",))] = 0
    max_sub_tokens: Annotated[
        int, Key("max_sub_tokens", reading.integer, ("max_subscription_tokens",)), Field(ge=0, le=255)
    ] = 0
    max_closed_clients: Annotated[Limit, Key("max_closed_clients", reading.integer)] = 10_000
    max_traced_msg_len: Annotated[Limit, Key("max_traced_msg_len", reading.integer)] = 0

    ping_interval_ns: Annotated[Annotated[int, Field(ge=1)], Key("ping_interval", reading.duration_or_seconds)] = (
        2 * MINUTE_NS
    )
    ping_max: Annotated[Annotated[int, Field(ge=0)], Key("ping_max", reading.integer)] = 2
    write_deadline_ns: Annotated[Annotated[int, Field(ge=1)], Key("write_deadline", reading.duration_or_seconds)] = (
        10 * SECOND_NS
    )
    lame_duck_duration_ns: Annotated[Nanoseconds, Key("lame_duck_duration", reading.duration)] = 2 * MINUTE_NS
    lame_duck_grace_period_ns: Annotated[Nanoseconds, Key("lame_duck_grace_period", reading.duration)] = 10 * SECOND_NS
    no_header_support: Annotated[bool, Key("no_header_support", reading.boolean)] = False
    no_fast_producer_stall: Annotated[bool, Key("no_fast_producer_stall", reading.boolean)] = False
    # Accepted without effect: the engine's match cache is bounded and can't be switched off.
    disable_sublist_cache: Annotated[bool, Key("disable_sublist_cache", reading.boolean, ("no_sublist_cache",))] = False

    authorization: AuthorizationConfig | None = None
    jetstream: JetStreamConfig | None = None

    # Where this came from: the file as it was named, its fingerprint, and what was doubtful in it.
    file: str = ""
    digest: str = ""
    warnings: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _jetstream_may_be_a_boolean(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("jetstream"), bool):
            return {**values, "jetstream": JetStreamConfig() if values["jetstream"] else None}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_payload > self.max_pending:
            raise ValueError(f"max_payload ({self.max_payload}) cannot be higher than max_pending ({self.max_pending})")
        if self.client_advertise:
            reading.host_port(self.client_advertise)
        if any(character.isspace() for character in self.server_name):
            raise ValueError("server name cannot contain spaces")
        if self.lame_duck_duration_ns < 30 * SECOND_NS:
            raise ValueError("invalid lame_duck_duration, minimum is 30 seconds")
        if self.lame_duck_grace_period_ns >= self.lame_duck_duration_ns:
            raise ValueError("lame_duck_grace_period must be shorter than lame_duck_duration")
        return self
