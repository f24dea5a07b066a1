"""The streaming block: keys and their aliases, what is refused, and what is only noted."""

from __future__ import annotations

import pytest

from streamd.config.errors import ConfigError
from streamd.config.load import load_text
from streamd.config.streaming import KEY_VARIABLE, ChannelLimits, StreamingClusterConfig, StreamingConfig

SECOND = 1_000_000_000

# (inside of the block, path of fields, value)
SETTINGS: list[tuple[str, str, object]] = [
    ("", "cluster_id", "test-cluster"),
    ("", "discover_prefix", "_STAN.discover"),
    ("", "store", "memory"),
    ("", "max_channels", 100),
    ("", "max_msgs", 1_000_000),
    ("", "max_bytes", 1_024_000_000),
    ("", "max_subs", 1000),
    ("", "max_age_ns", 0),
    ("", "max_inactivity_ns", 0),
    ("", "hb_interval_ns", 30 * SECOND),
    ("", "hb_timeout_ns", 10 * SECOND),
    ("", "hb_fail_count", 10),
    ("", "sync_on_flush", True),
    ("", "cluster", None),
    ("ID: x", "cluster_id", "x"),
    ("cid: x", "cluster_id", "x"),
    ("Cluster_Id: x", "cluster_id", "x"),
    ("discover_prefix: a.b", "discover_prefix", "a.b"),
    ("st: FILE, dir: d", "store", "file"),
    ("storetype: Memory", "store", "memory"),
    ("store_type: file, datastore: d", "dir", "d"),
    ("sd: true", "stan_debug", True),
    ("stan_trace: true", "stan_trace", True),
    ('hbi: "1m"', "hb_interval_ns", 60 * SECOND),
    ('server_to_client_hb_timeout: "5s"', "hb_timeout_ns", 5 * SECOND),
    ("hbf: 0", "hb_fail_count", 0),
    ("store: file, dir: d, ft_group_name: g", "ft_group", "g"),
    ('ft_group: ""', "ft_group", None),
    ("replace_durables: true", "replace_durable", True),
    ("replace_duplicate_durable: true", "replace_durable", True),
    ("encryption_key: k", "encrypt", True),
    ("encryption_key: k, encrypt: false", "encrypt", True),
    ("encryption_key: k, encryption_cipher: chacha", "encryption_cipher", "CHACHA"),
    ('encryption_cipher: ""', "encryption_cipher", None),
    ("store_limits {mc: 1}", "max_channels", 1),
    ("limits {maxchannels: 0}", "max_channels", 0),
    ("StoreLimits {max_subscriptions: 5}", "max_subs", 5),
    ("limits {msu: 5}", "max_subs", 5),
    ("limits {max_count: 5}", "max_msgs", 5),
    ("limits {mb: 1GB}", "max_bytes", 1 << 30),
    ("limits {maxbytes: 1K}", "max_bytes", 1000),
    ('limits {ma: "1h30m"}', "max_age_ns", 5400 * SECOND),
    ('limits {mi: "0"}', "max_inactivity_ns", 0),
    ("limits {channels {foo {mm: 5}}}", "channels", {"foo": ChannelLimits(max_msgs=5)}),
    ("limits {per_channel {foo {mm: 0}}}", "channels", {"foo": ChannelLimits(max_msgs=0)}),
    ("limits {channels_limits {foo {mm: -1}}}", "channels", {"foo": ChannelLimits(max_msgs=0)}),
    ('limits {per_channel_limits {"a b" {ma: "-1s"}}}', "channels", {"a b": ChannelLimits(max_age_ns=0)}),
    ("limits {channels {foo.> {native: true}}}", "channels", {"foo.>": ChannelLimits(native=True)}),
    ("limits {channels {N: 5, foo {mm: $N}}}", "channels", {"foo": ChannelLimits(max_msgs=5)}),
    ("file {do_sync: false}", "sync_on_flush", False),
    ('file_options {sync: false, file_auto_sync: "2m"}', "auto_sync_ns", 120 * SECOND),
    ("partitioning: false", "cluster_id", "test-cluster"),
    ("store: file, dir: d, cluster {}", "cluster", StreamingClusterConfig()),
    ('store: file, dir: d, cluster {node_id: a, peers: ["b", a, c]}', "cluster.peers", ("b", "c")),
    ("store: file, dir: d, cluster {bootstrap: true}", "cluster.bootstrap", True),
    ("store: file, dir: d, cluster {log_path: x}", "cluster.log_path", "x"),
    ('store: file, dir: d, cluster {raft_lease_timeout: "3s"}', "cluster.raft_lease_timeout_ns", 3 * SECOND),
    ("store: file, dir: d, cluster {trailing_logs: 7}", "cluster.trailing_logs", 7),
]

# (inside of the block, the error behind the file's name)
REFUSED: list[tuple[str, str]] = [
    ("id: 1", '1:13: parameter "id" value is expected to be string, got int64'),
    ("hbf: x", '1:13: parameter "hbf" value is expected to be int64, got string'),
    ("hbi: 2m", '1:13: parameter "hbi" value is expected to be string, got int64: a duration is quoted, such as "30s"'),
    ("hbi: x", '1:13: hbi: expected a duration such as "30s"'),
    ("encrypt: 1", '1:13: parameter "encrypt" value is expected to be bool, got int64'),
    ("limits {mb: x}", '1:21: parameter "mb" value is expected to be int64, got string'),
    ("limits {channels {foo {ma: 1}}}", '1:36: parameter "ma" value is expected to be string, got int64'),
    ("limits: 1", "1:13: limits: expected a map, got an integer"),
    ("limits {channels {foo: 1}}", "1:31: foo: expected a map, got an integer"),
    ("cluster: true", "1:13: cluster: expected a map, got a boolean"),
    ("cluster {peers: a}", '1:22: parameter "peers" value is expected to be slice, got string: write ["a", "b"]'),
    ("cluster {peers: [1]}", '1:22: parameter "peers" value is expected to be string, got int64'),
    ("file {sync: 1}", '1:19: parameter "sync" value is expected to be bool, got int64'),
    ("file {compact: 1}", '1:19: parameter "compact" value is expected to be bool, got int64'),
    ('file {slice_age: "x"}', "1:19: slice_age: expected a duration such as"),
    ("partitioning: 1", '1:13: parameter "partitioning" value is expected to be bool, got int64'),
    ("cluster_di: x", '1:13: unknown field "cluster_di", did you mean "cluster_id"?'),
    ("limits {max_msg: 1}", '1:21: unknown field "max_msg", did you mean "max_msgs"?'),
    ("limits {channels {foo {max_channels: 1}}}", '1:36: unknown field "max_channels"'),
    ("limits {native: true}", '1:21: unknown field "native"'),
    ("file {max_msgs: 1}", '1:19: unknown field "max_msgs"'),
    ("cluster {node: a}", '1:22: unknown field "node", did you mean "node_id"?'),
    ("limits {mc: -1}", "1:21: mc: max channels limit cannot be negative (-1)"),
    ("limits {msu: -1}", "1:21: msu: max subscriptions limit cannot be negative (-1)"),
    ("limits {mm: -2}", "1:21: mm: max messages limit cannot be negative (-2)"),
    ("limits {mb: -1}", "1:21: mb: max bytes limit cannot be negative (-1)"),
    ('limits {ma: "-90s"}', "1:21: ma: max age limit cannot be negative (-1m30s)"),
    ('limits {mi: "-1ms"}', "1:21: mi: max inactivity limit cannot be negative (-1ms)"),
    ("limits {channels {foo..bar {}}}", '1:31: foo..bar: invalid channel name "foo..bar"'),
    ("limits {channels {foo* {}}}", '1:31: foo*: invalid channel name "foo*"'),
    (
        "limits {mc: 1, channels {a {}, b {}, c.* {}}}",
        "1:1: streaming: too many channels defined (2). The max channels limit is set to 1",
    ),
    ('limits {channels {"a b" {native: true}}}', '1:1: streaming: channel "a b" can\'t be native'),
    ('limits {channels {"_INBOX.a" {native: true}}}', '1:1: streaming: channel "_INBOX.a" can\'t be native: such'),
    (
        "discover_prefix: d.e, limits {channels {d.e.f {native: true}}}",
        '1:1: streaming: channel "d.e.f" can\'t be native',
    ),
    ("store: nosuch", "1:13: store: unknown store type: nosuch"),
    ("store: SQL", "1:13: store: store type SQL is not supported: streamd has a store of its own"),
    ("store: file", "1:13: store: for FILE stores, root directory must be specified"),
    ("id: 'a b'", '1:13: id: "a b" can\'t be part of a subject'),
    ("id: a.*", '1:13: id: "a.*" can\'t be part of a subject'),
    ('discover_prefix: ""', '1:13: discover_prefix: "" can\'t be part of a subject'),
    ('hb_interval: "0s"', "1:13: hb_interval: input should be greater than or equal to 1"),
    ("encrypt: true", f"1:1: streaming: encryption key required: set {KEY_VARIABLE}"),
    ("encryption_cipher: DES", "1:13: encryption_cipher: encryption cipher not supported"),
    ("ft_group: g", "1:1: streaming: ft: only FILE or SQL stores supported in FT mode"),
    ("cluster {}", "1:1: streaming: stan: clustering mode not supported with MEMORY store type"),
    ("store: file, dir: d, ft_group: g, cluster {}", "1:1: streaming: ft_group and cluster exclude each other"),
    ("cluster {node_id: 'a b'}", "1:22: node_id: cannot contain spaces"),
    ("nats_server_url: x", '1:13: "nats_server_url" is not supported by streamd: streamd serves clients itself'),
    ("ns: x", '1:13: "ns" is not supported by streamd'),
    ("credentials: x", '1:13: "credentials" is not supported by streamd'),
    ("Username: x", '1:13: "Username" is not supported by streamd'),
    ("tls {}", '1:13: "tls" is not supported by streamd'),
    ("secure: true", '1:13: "secure" is not supported by streamd'),
    ("sql {}", '1:13: "sql" is not supported by streamd: streamd has a store of its own'),
    ("partitioning: true", '1:13: "partitioning" is not supported by streamd: one server has all channels'),
    ("syslog_name: x", '1:13: "syslog_name" is not supported by streamd'),
]

# (inside of file_options, reason)
IDLE: list[tuple[str, str]] = [
    ("compact: true", "the store uses the room of what is deleted again"),
    ("compact_frag: 50", "the store uses"),
    ("compact_interval: 300", "the store uses"),
    ("compact_min_size: 1MB", "the store uses"),
    ("buffer_size: 2MB", "LMDB reads"),
    ("file_read_buffer_size: 0", "LMDB reads"),
    ("do_crc: false", "every record has a CRC-32C"),
    ("crc_poly: 3988292384", "every record"),
    ("slice_count: 5", "the log is one file"),
    ("slice_size: 64MB", "the log is one file"),
    ('slice_max_age: "1h"', "the log is one file"),
    ("slice_archive: /bin/true", "the log is one file"),
    ("fds_limit: 100", "the store has a few files"),
    ("parallel_recovery: 4", "a start reads no channel through"),
]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def streaming(inside: str) -> StreamingConfig:
    found = load_text(f"streaming {{ {inside} }}").streaming
    assert found is not None
    return found


@pytest.mark.parametrize(("inside", "path", "expected"), SETTINGS)
def test_setting(inside: str, path: str, expected: object) -> None:
    value: object = streaming(inside)
    for name in path.split("."):
        value = getattr(value, name)

    assert expected == value


@pytest.mark.parametrize(("inside", "expected"), REFUSED)
def test_refusal_says_where_and_what(inside: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"streaming {{ {inside} }}", file="x.conf")

    assert f"x.conf:{expected}" in str(caught.value)


@pytest.mark.parametrize(("inside", "reason"), IDLE)
def test_what_changes_nothing_is_noted(inside: str, reason: str) -> None:
    config = load_text(f"streaming {{ file_options {{ {inside} }} }}", file="x.conf")

    key = inside.partition(":")[0]
    (note,) = config.notes
    assert note.startswith(f"x.conf:1:28: streaming.file_options.{key}: accepted, has no effect here: {reason}")
    assert config.warnings == ()


def test_what_changes_nothing_in_the_cluster_is_noted() -> None:
    config = load_text(
        "streaming {store: file, dir: d, cluster {log_cache_size: 5\nbolt_free_list_map: true}}", file="x"
    )

    assert [note.split(": accepted")[0] for note in config.notes[:2]] == [
        "x:1:42: streaming.cluster.log_cache_size",
        "x:2:1: streaming.cluster.bolt_free_list_map",
    ]


def test_all_problems_are_shown_at_once() -> None:
    text = "streaming {\nid: 1\nns: x\nlimits {mc: y\nchannels {a {mm: z}}}\nqqq: 1\n}\nprot: 1"

    with pytest.raises(ConfigError) as caught:
        load_text(text, file="x")

    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", "3", "4", "5", "6", "8"]


def test_key_of_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "hush")

    assert streaming("encryption_key: k").encryption_key == "hush"
    assert streaming("encrypt: true").encryption_key == "hush"
    assert "hush" not in repr(streaming("encrypt: true"))
    # The variable alone encrypts nothing.
    assert (streaming("").encrypt, streaming("").encryption_key) == (False, None)
