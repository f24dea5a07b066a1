"""The configuration as frozen models: every setting with its default, bounds and name in the file.

Durations are integer nanoseconds (`_ns`), sizes are bytes. A model is built by load.py from a file and
flags, or in Python directly; the same bounds hold for both. Not here: the text form.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from streamd.config import reading
from streamd.config.block import MINUTE_NS, SECOND_NS, Block, Bytes, Limit, Nanoseconds, Port
from streamd.config.errors import SettingError
from streamd.config.reading import Key

if TYPE_CHECKING:
    from streamd.config.cluster import ClusterConfig
    from streamd.config.streaming import StreamingConfig
else:
    # Most servers have neither block, and their models would be a tenth of the start: `_load` fetches them.
    StreamingConfig = ClusterConfig = Any

#: The account of those who look after the server. Clients are in another.
SYSTEM_ACCOUNT: Final = "$SYS"
SYNC_MIN_NS: Final = 1_000_000
_INT32_MAX: Final = 2**31 - 1
_BCRYPT: Final = re.compile(r"\$2[abxy]\$\d\d\$.*", re.DOTALL)


def _in_clear(secret: str | None) -> str | None:
    # As a password in clear it would be one that everybody knows who has read the file.
    if secret is not None and _BCRYPT.fullmatch(secret):
        raise ValueError("hashes of bcrypt are not supported yet by streamd: write the password in clear")
    return secret


Secret = Annotated[str, AfterValidator(_in_clear)]


class SystemUser(Block):
    """Who may log in to the system account."""

    user: Annotated[str, Key("user", reading.string, ("username",)), Field(min_length=1)]
    password: Annotated[Secret, Key("password", reading.string, ("pass",)), Field(repr=False)] = ""


class AuthorizationConfig(Block):
    """One user with a password, or one token."""

    user: Annotated[str | None, Key("user", reading.string, ("username",))] = None
    password: Annotated[Secret | None, Key("password", reading.string, ("pass",)), Field(repr=False)] = None
    token: Annotated[Secret | None, Key("token", reading.string), Field(repr=False)] = None
    timeout_ns: Annotated[Nanoseconds, Key("timeout", reading.seconds)] = 2 * SECOND_NS

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.token is not None and (self.user is not None or self.password is not None):
            raise ValueError("cannot have a user/pass and token")
        if self.password is not None and self.user is None:
            raise ValueError("a password needs a user")
        return self


class JetStreamLimits(Block):
    """Server-wide bounds on what a stream or consumer may ask for; None is unset."""

    max_ack_pending: Annotated[Limit | None, Key("max_ack_pending", reading.integer)] = None
    max_request_batch: Annotated[Limit | None, Key("max_request_batch", reading.integer)] = None
    duplicate_window_ns: Annotated[Nanoseconds | None, Key("duplicate_window", reading.duration)] = None


class JetStreamConfig(Block):
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
        Literal["always", "never"] | Annotated[int, Field(ge=SYNC_MIN_NS)],
        Key("sync_interval", reading.sync_interval, ("sync",)),
    ] = "always"
    strict: Annotated[bool, Key("strict", reading.boolean)] = True
    request_queue_limit: Annotated[Bytes, Key("request_queue_limit", reading.integer)] = 10_000
    info_queue_limit: Annotated[Bytes, Key("info_queue_limit", reading.integer)] = 10_000
    max_buffered_bytes: Annotated[Bytes, Key("max_buffered_size", reading.integer)] = 128 << 20
    max_buffered_msgs: Annotated[Bytes, Key("max_buffered_msgs", reading.integer)] = 10_000
    limits: JetStreamLimits = JetStreamLimits.model_construct()


class Config(Block):
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
    server_metadata: Annotated[dict[str, str], Key("server_metadata", reading.string_map)] = Field(default_factory=dict)

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
    system_users: tuple[SystemUser, ...] = ()
    jetstream: JetStreamConfig | None = None
    streaming: StreamingConfig | None = None
    cluster: ClusterConfig | None = None

    # Where this came from: the file as it was named, its fingerprint, what was doubtful in it, and what is
    # sound but does less here than it may hope.
    file: str = ""
    digest: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _jetstream_may_be_a_boolean(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("jetstream"), bool):
            if not values["jetstream"] and values.get("streaming") is not None:
                raise SettingError("NATS Streaming needs JetStream: leave it on", "jetstream")
            return {**values, "jetstream": JetStreamConfig() if values["jetstream"] else None}
        return values

    @field_validator("streaming", "cluster")
    @classmethod
    def _load(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        from streamd.config.cluster import ClusterConfig
        from streamd.config.streaming import StreamingConfig

        model = StreamingConfig if info.field_name == "streaming" else ClusterConfig
        return value if isinstance(value, model) else model.model_validate(value)

    @model_validator(mode="after")
    def _streaming_brings_the_rest(self) -> Self:
        """What the streaming block says about the server around it: store, name, and the cluster's name."""
        changed = dict[str, Any]()
        if self.streaming is not None:
            changed["streaming"], changed["jetstream"] = _one_store(self.streaming, self.jetstream)
            node_id = self.streaming.cluster.node_id if self.streaming.cluster is not None else None
            if node_id and self.server_name and node_id != self.server_name:
                text = f'node_id "{node_id}" and server_name "{self.server_name}" are one name here: give both the same, or one'
                raise SettingError(text, "streaming", "cluster", "node_id")
            if node_id and not self.server_name:
                changed["server_name"] = node_id
            if self.cluster is not None and not self.cluster.name:
                changed["cluster"] = self.cluster.model_copy(update={"name": self.streaming.cluster_id})
        name = changed.get("server_name", self.server_name)
        notes = (_alone(name, self.streaming, self.cluster), _in_the_clear(self.streaming))
        changed["notes"] = (*self.notes, *(note for note in notes if note is not None and note not in self.notes))
        # A frozen model of its own making: this is still its birth.
        self.__dict__.update(changed)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_payload > self.max_pending:
            raise ValueError(f"max_payload ({self.max_payload}) cannot be higher than max_pending ({self.max_pending})")
        if self.system_users and self.authorization is not None:
            for name in ("user", "token"):
                if getattr(self.authorization, name) is not None:
                    what = "single user/pass" if name == "user" else name
                    raise SettingError(f"can not have a {what} and a users array", "authorization")
        if self.client_advertise:
            reading.host_port(self.client_advertise)
        if self.streaming is not None and self.streaming.cluster is not None and self.streaming.encrypt:
            raise SettingError(
                "encryption at rest is not supported yet in a cluster: its Raft log would be plain", "streaming"
            )
        if any(character.isspace() for character in self.server_name):
            raise ValueError("server name cannot contain spaces")
        if self.lame_duck_duration_ns < 30 * SECOND_NS:
            raise ValueError("invalid lame_duck_duration, minimum is 30 seconds")
        if self.lame_duck_grace_period_ns >= self.lame_duck_duration_ns:
            raise ValueError("lame_duck_grace_period must be shorter than lame_duck_duration")
        return self


def _one_store(
    streaming: StreamingConfig, jetstream: JetStreamConfig | None
) -> tuple[StreamingConfig, JetStreamConfig]:
    """Both with the directory that either names, and synced as file_options say unless sync_interval does."""
    jetstream = jetstream or JetStreamConfig()
    directory = streaming.dir if streaming.dir is not None else jetstream.store_dir
    if (
        streaming.dir is not None
        and jetstream.store_dir is not None
        and os.path.abspath(streaming.dir) != os.path.abspath(jetstream.store_dir)
    ):
        raise SettingError(
            f'streaming dir "{streaming.dir}" and jetstream store_dir "{jetstream.store_dir}" are one store: '
            "name one directory, or the same twice",
            "streaming", "dir",
        )  # fmt: skip
    if streaming.store == "file" and directory is None:
        text = "for FILE stores, root directory must be specified: set dir (or --dir)"
        raise SettingError(text, "streaming", "store")
    if directory is not None:
        streaming = streaming.model_copy(update={"dir": directory})
        jetstream = jetstream.model_copy(update={"store_dir": directory})
    synced = streaming.sync_on_flush or (streaming.cluster is not None and streaming.cluster.sync)
    if not synced and "sync_interval" not in jetstream.model_fields_set:
        interval = max(streaming.auto_sync_ns, SYNC_MIN_NS) if streaming.auto_sync_ns > 0 else "never"
        jetstream = jetstream.model_copy(update={"sync_interval": interval})
    return streaming, jetstream


def _in_the_clear(streaming: StreamingConfig | None) -> str | None:
    """What encryption is without a store."""
    if streaming is None or not streaming.encrypt or streaming.store == "file":
        return None
    return "streaming encryption has no effect: with store memory nothing is written that could be encrypted"


def _alone(name: str, streaming: StreamingConfig | None, routes: ClusterConfig | None) -> str | None:
    """What a member of a group says that has no way to the others."""
    group = None if streaming is None else streaming.cluster
    if group is None or (routes is not None and routes.port):
        return None
    who = f'this server "{name}"' if name else "this server"
    text = f"streaming.cluster has no effect without a cluster block with listen and routes: {who} serves alone"
    if group.peers:
        text += f", its peers {', '.join(group.peers)} have none of them"
    return text
