"""The streaming block as frozen models: NATS Streaming, its cluster, and the limits of each channel.

Defaults, names and texts are nats-streaming-server's. Durations are nanoseconds (`_ns`), sizes are bytes.
Not here: how a file or flags become one (stan_file.py), names of channels (channels.py).
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from streamd.config import typed
from streamd.config.block import SECOND_NS, Block, Nanoseconds
from streamd.config.channels import Limits, is_literal, is_valid, matching, parent, width
from streamd.config.reading import Key
from streamd.config.scalars import duration_text

KEY_VARIABLE: Final = "NATS_STREAMING_ENCRYPTION_KEY"
_LIMITS: Final = "store_limits"
_FILE: Final = "file_options"

_OWN: Final = ("$JS", "$JSC", "$NRG", "$STAN", "$SYS", "_INBOX", "_STAN")

#: The names that limits have, whether they hold for all channels or for one.
_SUBS: Final = ("max_subs", ("msu", "max_subscriptions", "maxsubscriptions"))
_MSGS: Final = ("max_msgs", ("mm", "maxmsgs", "max_count", "maxcount"))
_BYTES: Final = ("max_bytes", ("mb", "maxbytes"))
_AGE: Final = ("max_age", ("ma", "maxage"))
_INACTIVITY: Final = ("max_inactivity", ("mi", "maxinactivity"))

#: What a limit of all channels is called in the text that refuses a negative one.
_WORDS: Final = {
    "max_channels": "channels",
    "max_subs": "subscriptions",
    "max_msgs": "messages",
    "max_bytes": "bytes",
    "max_age_ns": "age",
    "max_inactivity_ns": "inactivity",
}


def _channel_name(name: str) -> str:
    if not is_valid(name):
        raise ValueError(f'invalid channel name "{name}"')
    return name


def _subject_part(text: str) -> str:
    if not is_valid(text) or not is_literal(text) or any(character.isspace() for character in text):
        raise ValueError(f'"{text}" can\'t be part of a subject: no spaces, no wildcards, no "/", no empty token')
    return text


ChannelName = Annotated[str, AfterValidator(_channel_name)]
SubjectPart = Annotated[str, AfterValidator(_subject_part)]
Positive = Annotated[int, Field(ge=1)]


class ChannelLimits(Block):
    """One entry of `channels`: None is inherited from the next wider entry that covers it, 0 is unlimited.

    `native` makes the channel's own name the subject of its stream, so that NATS clients publish to it.
    """

    max_msgs: Annotated[Nanoseconds | None, Key(_MSGS[0], typed.channel_integer, _MSGS[1])] = None
    max_bytes: Annotated[Nanoseconds | None, Key(_BYTES[0], typed.channel_integer, _BYTES[1])] = None
    max_age_ns: Annotated[Nanoseconds | None, Key(_AGE[0], typed.channel_duration, _AGE[1])] = None
    max_subs: Annotated[Nanoseconds | None, Key(_SUBS[0], typed.channel_integer, _SUBS[1])] = None
    max_inactivity_ns: Annotated[Nanoseconds | None, Key(_INACTIVITY[0], typed.channel_duration, _INACTIVITY[1])] = None
    native: Annotated[bool | None, Key("native", typed.boolean)] = None


class StreamingClusterConfig(Block):
    """The cluster block inside of streaming: this node and the peers it forms a Raft group with.

    Shapes:  peers never holds this node. node_id: None is the server's name. log_path is without effect.
    """

    node_id: Annotated[str | None, Key("node_id", typed.optional)] = None
    peers: Annotated[tuple[str, ...], Key("peers", typed.strings)] = ()
    bootstrap: Annotated[bool, Key("bootstrap", typed.boolean)] = False
    log_path: Annotated[str | None, Key("log_path", typed.optional)] = None
    log_cache_size: Annotated[int, Key("log_cache_size", typed.integer)] = 512
    log_snapshots: Annotated[int, Key("log_snapshots", typed.integer)] = 2
    trailing_logs: Annotated[int, Key("trailing_logs", typed.integer)] = 10_240
    sync: Annotated[bool, Key("sync", typed.boolean)] = False
    raft_logging: Annotated[bool, Key("raft_logging", typed.boolean)] = False
    raft_heartbeat_timeout_ns: Annotated[Positive, Key("raft_heartbeat_timeout", typed.duration)] = 2 * SECOND_NS
    raft_election_timeout_ns: Annotated[Positive, Key("raft_election_timeout", typed.duration)] = 2 * SECOND_NS
    raft_lease_timeout_ns: Annotated[Positive, Key("raft_lease_timeout", typed.duration)] = SECOND_NS
    raft_commit_timeout_ns: Annotated[Positive, Key("raft_commit_timeout", typed.duration)] = SECOND_NS // 10
    proceed_on_restore_failure: Annotated[bool, Key("proceed_on_restore_failure", typed.boolean)] = False
    allow_add_remove_node: Annotated[bool, Key("allow_add_remove_node", typed.boolean)] = False
    bolt_free_list_sync: Annotated[bool, Key("bolt_free_list_sync", typed.boolean)] = False
    bolt_free_list_map: Annotated[bool, Key("bolt_free_list_map", typed.boolean)] = False
    nodes_connections: Annotated[bool, Key("nodes_connections", typed.boolean)] = False

    @field_validator("node_id")
    @classmethod
    def _a_server_name(cls, name: str | None) -> str | None:
        if name is not None and any(character.isspace() for character in name):
            raise ValueError("cannot contain spaces")
        return name

    @field_validator("peers")
    @classmethod
    def _without_this_node(cls, peers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(peer for peer in peers if peer != info.data.get("node_id"))


class StreamingConfig(Block):
    """NATS Streaming on this server.

    Shapes:  limits count for each channel, max_channels for the server; 0 is unlimited. channels: names and
             patterns to what differs there.
             encryption_key: a key implies `encrypt`; where either is set, the environment's variable
             NATS_STREAMING_ENCRYPTION_KEY wins over it. encryption_cipher: None lets the server choose.
             auto_sync_ns: how often the disk is synced where sync_on_flush is off; 0 or less is never.
    Errors:  pydantic.ValidationError in the original's words.
    """

    cluster_id: Annotated[SubjectPart, Key("cluster_id", typed.string, ("id", "cid"))] = "test-cluster"
    discover_prefix: Annotated[SubjectPart, Key("discover_prefix", typed.string)] = "_STAN.discover"
    store: Annotated[Literal["memory", "file"], Key("store", typed.string, ("st", "store_type", "storetype"))] = (
        "memory"
    )
    dir: Annotated[str | None, Key("dir", typed.optional, ("datastore",))] = None

    max_channels: Annotated[int, Key("max_channels", typed.integer, ("mc", "maxchannels"), _LIMITS)] = 100
    max_msgs: Annotated[int, Key(_MSGS[0], typed.integer, _MSGS[1], _LIMITS)] = 1_000_000
    max_bytes: Annotated[int, Key(_BYTES[0], typed.integer, _BYTES[1], _LIMITS)] = 1_024_000_000
    max_age_ns: Annotated[int, Key(_AGE[0], typed.duration, _AGE[1], _LIMITS)] = 0
    max_subs: Annotated[int, Key(_SUBS[0], typed.integer, _SUBS[1], _LIMITS)] = 1000
    max_inactivity_ns: Annotated[int, Key(_INACTIVITY[0], typed.duration, _INACTIVITY[1], _LIMITS)] = 0
    channels: dict[ChannelName, ChannelLimits] = Field(default_factory=dict)

    hb_interval_ns: Annotated[Positive, Key("hb_interval", typed.duration, ("hbi", "server_to_client_hb_interval"))] = (
        30 * SECOND_NS
    )
    hb_timeout_ns: Annotated[Positive, Key("hb_timeout", typed.duration, ("hbt", "server_to_client_hb_timeout"))] = (
        10 * SECOND_NS
    )
    hb_fail_count: Annotated[
        Nanoseconds, Key("hb_fail_count", typed.integer, ("hbf", "server_to_client_hb_fail_count"))
    ] = 10

    ft_group: Annotated[str | None, Key("ft_group", typed.optional, ("ft_group_name",))] = None
    encrypt: Annotated[bool, Key("encrypt", typed.boolean)] = False
    encryption_cipher: Annotated[Literal["AES", "CHACHA"] | None, Key("encryption_cipher", typed.string)] = None
    encryption_key: Annotated[str | None, Key("encryption_key", typed.optional), Field(repr=False)] = None
    replace_durable: Annotated[
        bool,
        Key(
            "replace_durable", typed.boolean,
            ("replace_durables", "replace_duplicate_durable", "replace_duplicate_durables"),
        ),
    ] = False  # fmt: skip
    sync_on_flush: Annotated[bool, Key("sync_on_flush", typed.boolean, ("sync", "do_sync"), _FILE)] = True
    auto_sync_ns: Annotated[int, Key("auto_sync", typed.duration, ("file_auto_sync",), _FILE)] = 60 * SECOND_NS
    cluster: StreamingClusterConfig | None = None
    stan_debug: Annotated[bool, Key("stan_debug", typed.boolean, ("sd",))] = False
    stan_trace: Annotated[bool, Key("stan_trace", typed.boolean, ("sv",))] = False

    @property
    def own_prefixes(self) -> tuple[str, ...]:
        """Prefixes, without dot, of subjects that are the protocols' own: a channel of such a name can't be native."""
        return (*_OWN, self.discover_prefix)

    def limits_for(self, channel: str) -> Limits:
        """What holds for a channel: its narrowest entry, and what that leaves unset from wider ones."""
        found = matching(self.channels, channel)
        return self._inherited(found[-1]) if found else self.top_limits()

    def inherited_channels(self) -> dict[str, Limits]:
        """Every entry of `channels` with what it inherits, the widest first."""
        return {name: self._inherited(name) for name in sorted(self.channels, key=width)}

    def top_limits(self) -> Limits:
        """What holds where no entry covers a channel."""
        return Limits(self.max_msgs, self.max_bytes, self.max_age_ns, self.max_subs, self.max_inactivity_ns)

    def _inherited(self, name: str) -> Limits:
        wider, own = parent(self.channels, name), self.channels[name]
        base = self.top_limits() if wider is None else self._inherited(wider)
        return Limits(
            max_msgs=base.max_msgs if own.max_msgs is None else own.max_msgs,
            max_bytes=base.max_bytes if own.max_bytes is None else own.max_bytes,
            max_age_ns=base.max_age_ns if own.max_age_ns is None else own.max_age_ns,
            max_subs=base.max_subs if own.max_subs is None else own.max_subs,
            max_inactivity_ns=base.max_inactivity_ns if own.max_inactivity_ns is None else own.max_inactivity_ns,
            native=base.native if own.native is None else own.native,
        )

    @field_validator(*_WORDS)
    @classmethod
    def _not_negative(cls, value: int, info: ValidationInfo) -> int:
        if value < 0:
            assert info.field_name is not None
            shown = duration_text(value) if info.field_name.endswith("_ns") else str(value)
            raise ValueError(f"max {_WORDS[info.field_name]} limit cannot be negative ({shown})")
        return value

    @field_validator("store", mode="before")
    @classmethod
    def _a_store_we_have(cls, kind: object) -> object:
        if isinstance(kind, str) and kind.lower() == "sql":
            raise ValueError("store type SQL is not supported: streamd has a store of its own, take file or memory")
        if isinstance(kind, str) and kind.lower() not in ("memory", "file"):
            raise ValueError(f"unknown store type: {kind}")
        return kind.lower() if isinstance(kind, str) else kind

    @field_validator("encryption_cipher", mode="before")
    @classmethod
    def _a_cipher_we_have(cls, name: object) -> object:
        if isinstance(name, str) and name.upper() not in ("", "AES", "CHACHA"):
            raise ValueError("encryption cipher not supported")
        return (name.upper() or None) if isinstance(name, str) else name

    @model_validator(mode="before")
    @classmethod
    def _key_implies_encryption(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not (values.get("encrypt") or values.get("encryption_key")):
            return values
        key = os.environ.get(KEY_VARIABLE) or values.get("encryption_key")
        return {**values, "encryption_key": key, "encrypt": values.get("encrypt") or True}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        literals = sum(map(is_literal, self.channels))
        if literals > self.max_channels > 0:
            raise ValueError(
                f"too many channels defined ({literals}). The max channels limit is set to {self.max_channels}"
            )
        for name, entry in self.channels.items():
            if entry.native and any(character.isspace() for character in name):
                raise ValueError(f'channel "{name}" can\'t be native: a subject has no spaces')
            if entry.native and any(name.startswith(f"{prefix}.") for prefix in self.own_prefixes):
                raise ValueError(f"channel \"{name}\" can't be native: such subjects are the server's own")
        if self.encrypt and not self.encryption_key:
            raise ValueError(f"encryption key required: set {KEY_VARIABLE} or encryption_key")
        if self.ft_group is not None and self.store != "file":
            raise ValueError("ft: only FILE or SQL stores supported in FT mode")
        if self.cluster is not None and self.store != "file":
            raise ValueError("stan: clustering mode not supported with MEMORY store type")
        if self.cluster is not None and self.ft_group is not None:
            raise ValueError("ft_group and cluster exclude each other: one is a standby, the other a replica")
        return self
