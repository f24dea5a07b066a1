"""The flags of NATS Streaming, as nats-streaming-server has them.

Each sets a field of StreamingConfig, `streaming_` in front of its name here, and any of them turns NATS
Streaming on. Importing this module must stay cheap: `streamd -v` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.cli.flag import Flag
from streamd.config import foreign

if TYPE_CHECKING:
    from streamd.cli.flag import Kind

_VALUES: Final = {"string": "<string>", "integer": "<int>", "switch": "", "duration": "<duration>", "size": "<size>"}


def _flag(names: str, field: str, kind: Kind, text: str, *, idle: str = "", group: str = "Streaming") -> Flag:
    return Flag(tuple(names.split()), f"streaming_{field}", kind, text, _VALUES[kind], group, idle)


def _cluster(name: str, kind: Kind, text: str) -> Flag:
    idle = foreign.CLUSTER.get(name, "")
    text += ": accepted without effect" if idle else ""
    # The note about one without effect is written where the block is merged, so `idle` stays empty here.
    return _flag(f"--cluster_{name}", f"cluster_{name}", kind, text, group="Streaming Clustering")


def _idle_file(names: str, key: str, kind: Kind) -> Flag:
    return _flag(
        names, f"idle_{key}", kind, "Accepted without effect",
        idle=foreign.FILE[key], group="Streaming File Store",
    )  # fmt: skip


STREAMING: Final = (
    _flag("-cid --cluster_id", "cluster_id", "string", "Cluster ID (default: test-cluster)"),
    _flag("-st --store", "store", "string", "Store type: memory or file (default: memory)"),
    _flag("--dir", "dir", "string", "For store type file: its directory, the same as --store_dir"),
    _flag("-mc --max_channels", "max_channels", "integer", "Max number of channels (0 for unlimited)"),
    _flag("-msu --max_subs", "max_subs", "integer", "Max number of subscriptions per channel (0 for unlimited)"),
    _flag("-mm --max_msgs", "max_msgs", "integer", "Max number of messages per channel (0 for unlimited)"),
    _flag("-mb --max_bytes", "max_bytes", "size", "Max bytes of messages per channel, such as 1GB (0 for unlimited)"),
    _flag("-ma --max_age", "max_age_ns", "duration", "How long a message is kept, such as 1h30m (0s for unlimited)"),
    _flag(
        "-mi --max_inactivity", "max_inactivity_ns", "duration",
        "How long a channel stays without a new message or a subscription (0s for ever)",
    ),
    _flag("-hbi --hb_interval", "hb_interval_ns", "duration", "Between heartbeats to a client (default: 30s)"),
    _flag("-hbt --hb_timeout", "hb_timeout_ns", "duration", "Wait for the answer to a heartbeat (default: 10s)"),
    _flag("-hbf --hb_fail_count", "hb_fail_count", "integer", "Failed heartbeats before a client is closed (default: 10)"),
    _flag("--ft_group", "ft_group", "string", "Fault tolerance: one of the group is active on the shared store"),
    _flag("--encrypt", "encrypt", "switch", "Encrypt messages in the store"),
    _flag("--encryption_cipher", "encryption_cipher", "string", "AES or CHACHA"),
    _flag(
        "--encryption_key", "encryption_key", "string",
        "Encryption key; the variable NATS_STREAMING_ENCRYPTION_KEY is the better place",
    ),
    _flag("--replace_durable", "replace_durable", "switch", "A duplicate durable replaces the existing one"),
    _flag("-SD --stan_debug", "stan_debug", "switch", "Enable debugging output of NATS Streaming"),
    _flag("-SV --stan_trace", "stan_trace", "switch", "Trace the NATS Streaming protocol"),
    _flag("-SDV", "debug_and_trace", "switch", "Debug and trace NATS Streaming"),
    Flag(("-sc", "--stan_config"), "stan_config", "string", "Configuration file of NATS Streaming", "<file>", "Streaming"),
    _flag("--io_batch_size", "idle_io_batch_size", "integer", "Accepted without effect", idle=foreign.IO["io_batch_size"]),
    _flag("--io_sleep_time", "idle_io_sleep_time", "integer", "Accepted without effect", idle=foreign.IO["io_sleep_time"]),
    _flag("--clustered", "clustered", "switch", "Run as a member of a cluster", group="Streaming Clustering"),
    _cluster("node_id", "string", "ID of the node within the cluster"),
    _cluster("bootstrap", "switch", "Elect itself as leader if there is no state"),
    _cluster("peers", "string", "The other nodes, separated by commas"),
    _cluster("log_path", "string", "Directory of the replicated log"),
    _cluster("log_cache_size", "integer", "Log entries in memory"),
    _cluster("log_snapshots", "integer", "Snapshots that are kept (default: 2)"),
    _cluster("trailing_logs", "integer", "Log entries that stay after a snapshot"),
    _cluster("sync", "switch", "Sync the replicated log at every write"),
    _cluster("raft_logging", "switch", "Log the replication's own steps"),
    _cluster("proceed_on_restore_failure", "switch", "Go on if messages can't be restored from the leader"),
    _cluster("allow_add_remove_node", "switch", "Let requests add and remove nodes"),
    _flag("--file_sync", "sync_on_flush", "switch", "Sync before acks (default: true)", group="Streaming File Store"),
    _flag(
        "--file_auto_sync", "auto_sync_ns", "duration",
        "How often to sync with --file_sync=false (default: 60s)", group="Streaming File Store",
    ),
    _idle_file("--file_compact_enabled", "compact", "switch"),
    _idle_file("--file_compact_frag", "compact_fragmentation", "integer"),
    _idle_file("--file_compact_interval", "compact_interval", "integer"),
    _idle_file("--file_compact_min_size", "compact_min_size", "size"),
    _idle_file("--file_buffer_size", "buffer_size", "size"),
    _idle_file("--file_read_buffer_size", "read_buffer_size", "size"),
    _idle_file("--file_crc", "crc", "switch"),
    _idle_file("--file_crc_poly", "crc_poly", "integer"),
    _idle_file("--file_slice_max_msgs", "slice_max_msgs", "integer"),
    _idle_file("--file_slice_max_bytes", "slice_max_bytes", "size"),
    _idle_file("--file_slice_max_age", "slice_max_age", "duration"),
    _idle_file("--file_slice_archive_script", "slice_archive_script", "string"),
    _idle_file("--file_fds_limit", "file_descriptors_limit", "integer"),
    _idle_file("--file_parallel_recovery", "parallel_recovery", "integer"),
    _idle_file("--file_truncate_bad_eof", "truncate_bad_eof", "switch"),
)  # fmt: skip

#: Flags of nats-streaming-server that streamd has no meaning for, with the reason.
REFUSED: Final = {
    **dict.fromkeys(
        ("ns", "nats_server", "secure", "tls_client_cert", "tls_client_key", "tls_client_cacert"), foreign.EXTERNAL
    ),
    **dict.fromkeys(
        ("sql_driver", "sql_source", "sql_no_caching", "sql_max_open_conns", "sql_bulk_insert_limit"), foreign.SQL
    ),
    "partitioning": foreign.PARTS,
    "syslog_name": foreign.SYSLOG,
}
