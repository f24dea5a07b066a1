"""The streaming block among the others: the store it shares, the cluster it is in, files and flags that set it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from streamd.config.errors import ConfigError
from streamd.config.load import from_flags, load_file, load_text
from streamd.config.models import Config, JetStreamConfig
from streamd.config.streaming import StreamingClusterConfig, StreamingConfig

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000


def test_block_brings_jetstream_and_shares_its_directory() -> None:
    assert load_text("port: 1").streaming is None
    assert load_text("streaming {}").jetstream == JetStreamConfig()
    for text in (
        "streaming {store: file, dir: d}",
        "streaming {store: file}\njetstream {store_dir: d}",
        "streaming {store: file}\nstore_dir: d",
        "streaming {store: file, dir: d}\njetstream {store_dir: 'x/../d'}",
        "jetstream: true\nstreaming {dir: d}",
    ):
        config = load_text(text)
        assert config.jetstream is not None
        assert config.streaming is not None
        assert (config.jetstream.store_dir, config.streaming.dir) == ("d", "d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "streaming {\ndir: a}\njetstream {store_dir: b}",
            'x:2:1: dir: streaming dir "a" and jetstream store_dir "b" are one store',
        ),
        ("jetstream: false\nstreaming {}", "x:1:1: jetstream: NATS Streaming needs JetStream"),
        ("streaming {}\njetstream {enabled: false}", "x:2:1: jetstream: NATS Streaming needs JetStream"),
        ("streaming: 1", "x:1:1: streaming: expected a map, got an integer"),
    ],
)
def test_blocks_that_contradict_each_other_are_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="x")

    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("streaming {}", "always"),
        ('streaming {file {auto_sync: "5s"}}', "always"),
        ("streaming {file {sync: false}}", 60 * SECOND),
        ('streaming {file {sync: false, auto_sync: "5s"}}', 5 * SECOND),
        ('streaming {file {sync: false, auto_sync: "1ns"}}', 1_000_000),
        ('streaming {file {sync: false, auto_sync: "0s"}}', "never"),
        ("streaming {file {sync: false}}\njetstream {sync_interval: always}", "always"),
        ('streaming {file {sync: false}}\njetstream {sync_interval: "1m"}', 60 * SECOND),
        ("streaming {store: file, dir: d, file {sync: false}, cluster {sync: true}}", "always"),
    ],
)
def test_sync_is_relaxed_only_where_the_file_says_so(text: str, expected: object) -> None:
    jetstream = load_text(text).jetstream

    assert jetstream is not None
    assert expected == jetstream.sync_interval


def test_blocks_given_in_python_mean_the_same() -> None:
    config = Config(streaming=StreamingConfig(store="file", dir="d", cluster=StreamingClusterConfig(node_id="a")))

    assert config.jetstream == JetStreamConfig(store_dir="d")
    assert config.server_name == "a"
    alone = 'without a cluster block with listen and routes: this server "a" serves alone'
    assert config.notes == (f"streaming.cluster has no effect {alone}",)
    for values in ({"streaming": StreamingConfig(store="file")}, {"streaming": 5}, {"streaming": {"store": "x"}}):
        with pytest.raises(ValidationError):
            Config.model_validate(values)
    with pytest.raises(ValidationError):
        StreamingConfig(max_msgs="5")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        StreamingConfig(encrypt="x", encryption_key="k")  # type: ignore[arg-type]


def test_a_node_has_one_name() -> None:
    text = "streaming {store: file, dir: d, cluster {node_id: a}}"

    assert load_text(f"{text}\nserver_name: a").server_name == load_text(text).server_name == "a"
    with pytest.raises(ConfigError, match='node_id "a" and server_name "b" are one name here'):
        load_text(f"{text}\nserver_name: b")


def test_conf_of_the_cluster_loads() -> None:
    config = load_file("conf/a.conf")

    assert config.streaming is not None
    assert config.cluster is not None
    assert (config.port, config.server_name, config.warnings) == (4221, "a", ())
    assert config.streaming.cluster == StreamingClusterConfig(node_id="a", peers=("b", "c"))
    assert (config.streaming.cluster_id, config.streaming.store, config.streaming.dir) == ("test", "file", "storea")
    assert (config.cluster.host, config.cluster.port) == ("0.0.0.0", 6221)
    assert config.cluster.routes == ("nats-route://localhost:6222", "nats-route://localhost:6223")
    assert config.cluster.name == "test"
    assert config.notes == ()


@pytest.mark.parametrize(
    ("nats", "stan", "cluster_id", "port"),
    [
        (None, "port: 5\nstreaming {id: x}", "x", 5),
        (None, "port: 5\nid: x", "x", 5),
        (None, "port: 5", "test-cluster", 5),
        ("port: 5", "id: x", "x", 5),
        ("port: 5", "streaming {id: x}\nport: 6", "x", 5),
        ("port: 5\nstreaming {id: y, ns: z}", "id: x", "x", 5),
        ("port: 5\ncluster {listen: 7}", "id: x", "x", 5),
    ],
)
def test_file_of_its_own(tmp_path: Path, nats: str | None, stan: str, cluster_id: str, port: int) -> None:
    """-c FILE and -sc FILE: one alone serves for both, two have their part each."""
    path = tmp_path / "nats.conf"
    path.write_text(nats or "")
    (tmp_path / "stan.conf").write_text(stan)

    config = load_file(path if nats is not None else None, streaming_file=str(tmp_path / "stan.conf"))

    assert config.streaming is not None
    assert (config.streaming.cluster_id, config.port, config.warnings) == (cluster_id, port, ())


def test_what_the_other_file_has_is_not_ignored_in_silence(tmp_path: Path) -> None:
    nats, stan = tmp_path / "nats.conf", tmp_path / "stan.conf"
    nats.write_text("streaming {id: y}")
    stan.write_text("streaming {}\nport: 6")

    config = load_file(nats, streaming_file=str(stan))

    assert sorted(config.notes) == [
        f"{nats}:1:1: streaming: not read, the file of -sc is: {stan}",
        f"{stan}:2:1: port: not read, the file of -c is: {nats}",
    ]
    stan.write_text("port: 6")
    with pytest.raises(ConfigError, match=r'1:1: unknown field "port"'):
        load_file(nats, streaming_file=str(stan))


def test_one_file_named_twice_serves_for_both(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("port: 5\nid: x")

    config = load_file(path, streaming_file=str(path))

    assert config.streaming == StreamingConfig(cluster_id="x")
    assert (config.port, config.notes) == (5, ())


def test_without_the_block_its_keys_are_unknown() -> None:
    with pytest.raises(ConfigError, match='unknown field "store_limits"'):
        load_text("store_limits {}")


def test_flags_win() -> None:
    text = "streaming {id: x, store: file, dir: d, limits {mm: 5, mb: 6}, cluster {node_id: a, peers: [b]}}"
    flags = {"cluster_id": "y", "max_msgs": 7, "cluster_peers": "c, a,d", "dir": "e"}

    config = load_text(text, overrides={"streaming": flags})

    assert config.streaming is not None
    assert (config.streaming.cluster_id, config.streaming.max_msgs, config.streaming.max_bytes) == ("y", 7, 6)
    assert config.streaming.cluster == StreamingClusterConfig(node_id="a", peers=("c", "d"))
    assert config.jetstream == JetStreamConfig(store_dir="e")


def test_either_flag_names_the_directory() -> None:
    text = "streaming {store: file, dir: d}\njetstream {store_dir: d}"
    for flags in ({"streaming": {"dir": "e"}}, {"store_dir": "e"}):
        config = load_text(text, overrides=flags)
        assert config.streaming is not None
        assert config.jetstream is not None
        assert (config.streaming.dir, config.jetstream.store_dir) == ("e", "e")
    with pytest.raises(ConfigError, match="are one store"):
        load_text(text, overrides={"store_dir": "e", "streaming": {"dir": "f"}})


def test_flags_alone_make_a_streaming_server() -> None:
    config = from_flags({"streaming": {"store": "FILE", "dir": "d"}})

    assert config.streaming == StreamingConfig(store="file", dir="d")
    assert config.jetstream == JetStreamConfig(store_dir="d")
    assert from_flags({"streaming": {}}).streaming == StreamingConfig()


def test_cluster_flags_need_a_cluster() -> None:
    store = {"store": "file", "dir": "d"}
    alone = from_flags({"streaming": {**store, "cluster_node_id": "a"}})
    member = from_flags(
        {"streaming": {**store, "cluster_node_id": "a", "clustered": True, "cluster_log_cache_size": 5}}
    )
    left = load_text("streaming {store: file, dir: d, cluster {}}", overrides={"streaming": {"clustered": False}})

    assert alone.streaming is not None
    assert alone.streaming.cluster is None
    assert alone.notes == ("--cluster_node_id: has no effect without --clustered",)
    assert member.streaming is not None
    assert member.streaming.cluster == StreamingClusterConfig(node_id="a", log_cache_size=5)
    assert member.notes[0].startswith("--cluster_log_cache_size: accepted, has no effect here: ")
    assert left.streaming is not None
    assert left.streaming.cluster is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"store": "nosuch"}, "unsupported store type: nosuch"),
        ({"store": "SQL"}, "streaming.store: store type SQL is not supported"),
        ({"store": "file"}, "for FILE stores, root directory must be specified"),
        ({"max_msgs": -1}, "streaming.max_msgs: max messages limit cannot be negative (-1)"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags({"streaming": flags})

    assert expected in str(caught.value)
