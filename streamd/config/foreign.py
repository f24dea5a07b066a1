"""Settings of NATS Streaming that have no meaning here: accepted without effect, or refused, with the reason.

What is accepted tunes the files of the original's store and of its Raft log; a file that sets it is still a
good file. Importing this module must stay cheap: the table of flags does.
"""

from __future__ import annotations

from typing import Final

#: Why a setting is refused.
EXTERNAL: Final = "streamd serves clients itself and connects to no other NATS server"
SQL: Final = "streamd has a store of its own, take store file or memory"
PARTS: Final = "one server has all channels"
SYSLOG: Final = "streamd writes its log to stderr or to log_file"

_ROOM = "the store uses the room of what is deleted again"
_PAGES = "LMDB reads and writes through the system's page cache"
_CHECKSUM = "every record has a CRC-32C that is always checked"
_SLICES = "the log is one file without slices"
_FLOW = "publishes are stored in batches that form by themselves"
_LOG = "the log is part of the store, as its messages are"
_TIMES = "a leader is missed after 0.8 to 1.6 s, at once where its connections end"
#: Why the original's requests that add and remove nodes are refused.
MEMBERS: Final = "servers join by themselves; `nats server cluster peer-remove` takes one out"

#: Without effect: `file_options`, by the first name of the key.
FILE: Final = {
    "compact": _ROOM,
    "compact_fragmentation": _ROOM,
    "compact_interval": _ROOM,
    "compact_min_size": _ROOM,
    "buffer_size": _PAGES,
    "read_buffer_size": _PAGES,
    "crc": _CHECKSUM,
    "crc_poly": _CHECKSUM,
    "slice_max_msgs": _SLICES,
    "slice_max_bytes": _SLICES,
    "slice_max_age": _SLICES,
    "slice_archive_script": _SLICES,
    "file_descriptors_limit": "the store has a few files, however many channels there are",
    "parallel_recovery": "a start reads no channel through",
    "truncate_bad_eof": "a store that was cut off recovers by itself",
}

#: Without effect: `streaming { cluster { } }`, by field of StreamingClusterConfig.
CLUSTER: Final = {
    "bootstrap": "the servers that peers or routes name found the cluster together",
    "log_path": _LOG,
    "log_snapshots": _LOG,
    "trailing_logs": "the log keeps 32 MiB behind what is stored",
    "raft_logging": "elections are logged in any case",
    "raft_heartbeat_timeout": _TIMES,
    "raft_election_timeout": _TIMES,
    "raft_lease_timeout": _TIMES,
    "raft_commit_timeout": _TIMES,
    "proceed_on_restore_failure": "a replica that can't be read is made anew from the others",
    "allow_add_remove_node": MEMBERS,
    "log_cache_size": "the log's pages are cached by the system",
    "bolt_free_list_sync": "the log isn't kept in Bolt",
    "bolt_free_list_map": "the log isn't kept in Bolt",
    "nodes_connections": "streamd speaks to itself without connections",
}

#: Without effect: flags without a key in the file.
IO: Final = {"io_batch_size": _FLOW, "io_sleep_time": _FLOW}


def note(what: str, why: str) -> str:
    """The line a person reads about a setting that was accepted."""
    return f"{what}: accepted, has no effect here: {why}"
