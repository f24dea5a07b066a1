"""The cluster block and its flags: routes to other servers."""

from __future__ import annotations

import pytest

from streamd.config.cluster import ClusterAuthorization, ClusterConfig, ClusterTls
from streamd.config.errors import ConfigError
from streamd.config.load import from_flags, load_file, load_text

SECOND = 1_000_000_000

# (what stands in the block, field, value)
SETTINGS: list[tuple[str, str, object]] = [
    ("", "port", None),
    ("listen: 127.0.0.1:5", "host", "127.0.0.1"),
    ("listen: 127.0.0.1:5", "port", 5),
    ("listen: 5", "host", "0.0.0.0"),
    ("port: -1, net: h", "port", -1),
    ("port: 5, name: x", "name", "x"),
    ("port: 5, routes: [nats-route://h:1, nats://u:p@i:2,]", "routes", ("nats-route://h:1", "nats://u:p@i:2")),
    ("port: 5, advertise: h:7", "advertise", "h:7"),
    ("cluster_advertise: h", "advertise", "h"),
    ("no_advertise: true", "no_advertise", True),
    ("connect_retries: 7", "connect_retries", 7),
    ("connect_backoff: true", "connect_backoff", True),
    ("pool_size: -1", "pool_size", -1),
    ("ping_interval: 5s", "ping_interval_ns", 5 * SECOND),
    ("ping_max: 0", "ping_max", 0),
    ("write_deadline: 3s", "write_deadline_ns", 3 * SECOND),
    ("authorization {user: u, pass: p, timeout: 0.5}", "authorization", ClusterAuthorization(
        user="u", password="p", timeout_ns=SECOND // 2
    )),
    ("tls {cert_file: c, key_file: k, ca_file: a, verify: true, timeout: 3}", "tls", ClusterTls(
        cert_file="c", key_file="k", ca_file="a", timeout_ns=3 * SECOND
    )),
]  # fmt: skip

REFUSED: list[tuple[str, str]] = [
    ("cluster {route: x}", '1:10: unknown field "route", did you mean "routes"?'),
    ("cluster {routes: [tcp://u:hush@h:1]}", '1:10: routes: "h:1" is no route'),
    ("cluster {routes: [nats://h]}", '1:10: routes: "nats://h" is no route'),
    ("cluster {routes: [nats://h:1]}", "1:1: cluster: routes need a port of their own, too: set listen or port"),
    ("cluster {listen: h:70000}", "1:10: listen: input should be less than"),
    ("cluster {name: 'a b'}", "1:10: name: cluster name cannot contain spaces"),
    ("cluster {advertise: 'a:b:c'}", '1:10: advertise: cluster_advertise "a:b:c" is no address'),
    ("cluster {pool_size: -2}", "1:10: pool_size: input should be greater than"),
    ("cluster {compression: off}", '1:10: "compression" is not supported yet'),
    ("cluster {authorization {user: a}}", "1:10: authorization: needs a user and a password"),
    ("cluster {authorization {token: hush}}", '1:25: "token" is not supported yet'),
    ("cluster {authorization {usr: a}}", '1:25: unknown field "usr", did you mean "user"?'),
    ("cluster {tls {cert_file: c}}", "1:10: tls: field required"),
    ("cluster {tls {cert_fil: c}}", '1:15: unknown field "cert_fil", did you mean "cert_file"?'),
    ("cluster {tls {min_version: x}}", '1:15: "min_version" is not supported yet'),
    ("cluster: 5", "1:1: cluster: expected a map, got an integer"),
]


@pytest.mark.parametrize(("text", "name", "value"), SETTINGS)
def test_setting(text: str, name: str, value: object) -> None:
    cluster = load_text(f"cluster {{{text}}}").cluster

    assert cluster is not None
    assert value == getattr(cluster, name)


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_wrong_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="x")

    assert str(caught.value).startswith(f"x:{expected}")
    assert "hush" not in str(caught.value)


def test_name_is_the_streaming_clusters_unless_there_is_one() -> None:
    for text, expected in (("", "test-cluster"), ("name: own", "own")):
        cluster = load_text(f"streaming {{}}\ncluster {{port: 5\n{text}}}").cluster

        assert cluster is not None
        assert expected == cluster.name


def test_flags_make_a_cluster_and_win() -> None:
    flags = {
        "routes_listen": "nats://u:p@h:-1",
        "routes_routes": "nats://a:1, nats-route://b:2,",
        "routes_name": "x",
        "routes_no_advertise": True,
        "routes_connect_retries": 5,
        "routes_advertise": "me:6",
    }
    expected = ClusterConfig(
        name="x", host="h", port=-1, routes=("nats://a:1", "nats-route://b:2"), no_advertise=True, connect_retries=5,
        advertise="me:6", authorization=ClusterAuthorization(user="u", password="p"),
    )  # fmt: skip

    assert expected == from_flags(flags).cluster
    text = "cluster {listen: i:6, name: y, ping_max: 7, authorization {user: v, pass: q}}"
    cluster = load_text(text, overrides={"routes_listen": "nats://h:5"}).cluster
    assert cluster is not None
    # A listener of the command line has the file's user only if it names one itself, as in nats-server.
    assert (cluster.host, cluster.port, cluster.name, cluster.ping_max) == ("h", 5, "y", 7)
    assert cluster.authorization is None
    cluster = load_text("cluster {listen: i:6, routes: [nats://h:1]}", overrides={"routes_listen": ""}).cluster
    assert cluster is not None
    assert (cluster.port, cluster.routes) == (None, ())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"routes_routes": "nats://a:1"}, "cluster: solicited routes require cluster capabilities, e.g. --cluster"),
        ({"routes_listen": "nats://hush@h:1"}, "cluster: expected cluster password to be set"),
        ({"routes_listen": "u:hush@h"}, 'cluster: "h" is no address: expected nats://host:port'),
        ({"routes_listen": "nats://h:1", "routes_routes": "u:hush@x"}, 'cluster.routes: "x" is no route'),
    ],
)
def test_flags_that_cannot_be(flags: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags(flags)

    assert str(caught.value).startswith(expected)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_three_files_are_one_cluster(name: str) -> None:
    config = load_file(f"conf/{name}.conf")

    assert config.cluster is not None
    assert (config.cluster.name, config.server_name, len(config.cluster.routes)) == ("test", name, 2)
