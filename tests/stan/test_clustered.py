"""NATS Streaming on three real servers, with its unmodified Python client: a leader ends, and clients notice nothing of it."""

from __future__ import annotations

import signal
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.wire import BenchError
from tests.stan.program import Connection, Program, Refused, Subscription
from tests.trio import everywhere, streaming_trio, trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.trio import Node, Trio
    from tests.stan.program import Language

CID = "test"
#: How a leader ends: SIGTERM, SIGKILL, SIGSTOP.
ENDS = ("stop", "kill", "freeze")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """Three servers with the files of conf/, for tests that leave all three running."""
    with trio(tmp_path_factory.mktemp("trio")) as running:
        yield running


@pytest.fixture
def program(python_client: Language, tmp_path: Path) -> Iterator[Program]:
    """The client library in a process of its own."""
    running = Program(python_client, tmp_path)
    yield running
    running.close()


def urls(cluster: Trio) -> list[str]:
    """Of all servers, the leader's last: a client is at a follower first."""
    leader = cluster.led()
    return [node.url for node in (*cluster.others(leader), leader)]


def connect(program: Program, client: str, where: str | list[str], name: str = "", **more: int) -> Connection:
    """A client of the cluster's id. `name`: that the test gives the connection, if it isn't the client's."""
    return Connection(program, name or client, where, client, cluster=CID, **more)


@contextmanager
def ended(cluster: Trio, how: str) -> Iterator[Node]:
    """Without its leader, from when it is gone until it is back and has everything."""
    leader = cluster.led()
    if how == "freeze":
        leader.send(signal.SIGSTOP)
        assert leader.process is not None
        stat = Path(f"/proc/{leader.process.pid}/stat")
        cluster.until("standing still", lambda: stat.read_text().rpartition(") ")[2].startswith("T"))
    else:
        getattr(leader, how)()
    try:
        yield leader
    finally:
        if how == "freeze":
            leader.send(signal.SIGCONT)
        else:
            leader.spawn()
            leader.wait_ready()
    cluster.until("servers that are level", cluster.caught_up)


def wait_for_a_leader(connection: Connection) -> None:
    """What is sent to a server that stands still, before the others know, is for nobody: the library's publish times out."""
    patience, connection.ack_seconds = connection.ack_seconds, 1
    for _ in range(10):
        with suppress(Refused):
            connection.publish("probe", "x")
            break
    connection.ack_seconds = patience


def unacked(node: Node, channel: str, client: str) -> int:
    """Messages that a client's durable, which is in no queue, has and hasn't acked; -1 where it isn't known so far."""
    found = node.ask(f"/streaming/channelsz?channel={channel}&subs=1")["subscriptions"]
    mine = (one for one in found if (one["client_id"], one.get("durable_name")) == (client, "d"))
    return int(next(mine, {"pending_count": -1})["pending_count"])


def payloads(subscription: Subscription, count: int) -> list[str]:
    """What the next so many messages say."""
    return [message.data for message in subscription.take(count)]


def test_each_server_serves(cluster: Trio, program: Program) -> None:
    """Publish through one, subscribe at all start positions through the others."""
    names = [node.name for node in cluster.nodes]
    clients = [connect(program, f"at-{node.name}", node.url) for node in cluster.nodes]
    for client, name in zip(clients, names, strict=True):
        client.publish("everywhere", name)
    for client in clients:
        assert payloads(client.subscribe("everywhere", ("first", 0)), 3) == names
        assert payloads(client.subscribe("everywhere", ("sequence", 2)), 2) == names[1:]
        assert payloads(client.subscribe("everywhere", ("last", 0)), 1) == names[2:]
        assert payloads(client.subscribe("everywhere", ("ago", 3600)), 3) == names
        assert payloads(client.subscribe("everywhere", ("time", time.time() - 3600)), 3) == names
    fresh = [client.subscribe("everywhere") for client in clients]
    clients[0].publish("everywhere", "new")
    for subscription in fresh:
        assert [(one.sequence, one.data) for one in subscription.take()] == [(4, "new")]
    for client in clients:
        client.close()


@pytest.mark.parametrize("how", ENDS)
def test_clients_outlive_their_leader(cluster: Trio, program: Program, how: str) -> None:
    """The same connection and subscriptions of every kind go on; nothing acked is lost, what was acked doesn't come again."""
    channel, client = f"outlive-{how}", f"client-{how}"
    # A client of a server that stands still notices nothing before its own pings fail.
    me = connect(program, client, urls(cluster)[0] if how == "freeze" else urls(cluster))
    plain = me.subscribe(channel, ("first", 0))
    durable = me.subscribe(channel, ("first", 0), durable="d", manual=True, ack_seconds=2)
    queue = [me.subscribe(channel, ("first", 0), queue="q") for _ in range(2)]
    lasting = me.subscribe(channel, ("first", 0), queue="lq", durable="ld")
    before = [f"before {number}" for number in range(10)]
    me.publish(channel, *before)
    assert payloads(plain, 10) == before
    assert payloads(durable, 10) == before
    assert payloads(lasting, 10) == before
    durable.ack(*range(1, 9))
    # Acks of the last moment may be lost with their server.
    cluster.until("acks", lambda: {unacked(node, channel, client) for node in cluster.nodes} == {2})

    with ended(cluster, how):
        wait_for_a_leader(me)
        after = [f"after {number}" for number in range(10)]
        me.publish(channel, *after)
        assert payloads(plain, 10) == after
        assert payloads(lasting, 10) == after
        heard = durable.take_until(lambda message: message.data == "after 9")
        assert {message.sequence for message in heard if message.sequence <= 10} == {9, 10}
        assert [message.data for message in heard if not message.redelivered] == after
        durable.ack(*range(9, 21))

    shared = [message.sequence for one in queue for message in one.waiting()]
    assert sorted(shared) == list(range(1, 21))
    assert not [event for event in program.events if event["event"] == "lost"]
    assert {"id": client} in [{"id": one["id"]} for one in cluster.led().ask("/streaming/clientsz?subs=1")["clients"]]
    time.sleep(2.2)  # longer than the ack wait
    assert durable.waiting() == []
    durable.close()
    again = me.subscribe(channel, ("first", 0), durable="d")
    me.publish(channel, "last")
    assert payloads(again, 1) == ["last"]
    again.unsubscribe()
    plain.unsubscribe()
    me.close()


def test_what_is_published_without_a_leader_is_stored_once_if_the_next_one_had_it(
    cluster: Trio, program: Program
) -> None:
    """Two of three are gone: the third keeps what comes, and stores it if it leads next."""
    leader = cluster.led()
    first, second = cluster.others(leader)
    me = connect(program, "patient", first.url, ack_seconds=8)
    me.publish("patient", "before")
    leader.kill()
    second.kill()
    cluster.until("a server that knows that it is alone", lambda: not first.ask("/routez")["num_routes"])
    waiting = me.start_async("patient", ["1", "2", "3"])
    second.spawn()
    second.wait_ready()

    acked = me.finish(waiting)
    assert acked == (([0, 1, 2], []) if cluster.led() is first else ([], []))
    leader.spawn()
    leader.wait_ready()
    cluster.until("servers that are level", cluster.caught_up)
    me.publish("patient", "after")
    everything = me.subscribe("patient", ("first", 0)).take_until(lambda message: message.data == "after")
    assert [message.data for message in everything] == ["before", *("123"[place] for place in acked[0]), "after"]
    me.close()


def test_a_leader_that_is_stopped_hands_over_what_it_has(cluster: Trio, program: Program) -> None:
    """One publisher, many messages on their way: each is acked, stored once, and in its order."""
    numbers = range(3_000)
    for channel in ("handed-1", "handed-2", "handed-3", "handed-4"):
        me = connect(program, channel, cluster.others(cluster.led())[0].url, ack_seconds=8)
        waiting = me.start_async(channel, [str(number) for number in numbers])
        with ended(cluster, "stop"):
            assert me.finish(waiting) == (list(numbers), [])
        assert payloads(me.subscribe(channel, ("first", 0)), len(numbers)) == [str(number) for number in numbers]
        me.publish(channel, "last")
        assert cluster.led().ask(f"/streaming/channelsz?channel={channel}")["last_seq"] == len(numbers) + 1
        me.close()


@pytest.mark.parametrize("how", ENDS)
def test_durables_wait_for_their_client_through_a_change_of_leader(cluster: Trio, program: Program, how: str) -> None:
    """Closed and resumed, by another connection with the same id."""
    channel = f"resume-{how}"
    me = connect(program, f"resuming-{how}", urls(cluster))
    durable = me.subscribe(channel, ("first", 0), durable="d", manual=True)
    queue = me.subscribe(channel, ("first", 0), queue="q", durable="qd", manual=True)
    me.publish(channel, "1", "2", "3")
    for one in (durable, queue):
        one.take(3)
        one.ack(1, 3)
    me.close()

    other = connect(program, f"other-{how}", urls(cluster)[0])
    with ended(cluster, how) as gone:
        wait_for_a_leader(other)
        again = connect(program, f"resuming-{how}", cluster.others(gone)[0].url, "again")
        again.publish(channel, "4")
        for one in (
            again.subscribe(channel, ("first", 0), durable="d"),
            again.subscribe(channel, ("first", 0), queue="q", durable="qd"),
        ):
            assert [(message.data, message.redelivered) for message in one.take(2)] == [("2", True), ("4", False)]
        again.close()
    other.close()


def test_what_comes_while_a_client_looks_for_another_server_waits_for_it(
    cluster: Trio, program: Program, python_client: Language, tmp_path: Path
) -> None:
    """Its server was the leader. Nothing is sent to nobody, to come again only when its ack is overdue."""
    channel, leader = "underway", cluster.led()
    me = connect(program, "underway", leader.url)
    plain = me.subscribe(channel, ("first", 0))
    durable = me.subscribe(channel, ("first", 0), durable="d", manual=True)
    me.publish(channel, "1", "2")
    assert payloads(plain, 2) == payloads(durable, 2) == ["1", "2"]
    cluster.until("what is pending", lambda: {unacked(node, channel, "underway") for node in cluster.nodes} == {2})
    second = tmp_path / "second"
    second.mkdir()
    with closing(Program(python_client, second)) as other:
        publisher = connect(other, "publisher", cluster.others(leader)[0].url)
        program.process.send_signal(signal.SIGSTOP)
        try:
            with ended(cluster, "kill"):
                wait_for_a_leader(publisher)
                publisher.publish(channel, *"3456")
                program.process.send_signal(signal.SIGCONT)
                # Of what it acked in the last moment some may come again.
                heard = [one.take_until(lambda message: message.data == "6") for one in (plain, durable)]
        finally:
            program.process.send_signal(signal.SIGCONT)
        publisher.close()

    shown = [[(message.data, message.redelivered) for message in messages] for messages in heard]
    new = [(data, False) for data in "3456"]
    assert shown[0][-4:] == new
    assert shown[1] == [("1", True), ("2", True), *new]


def test_a_client_id_is_one_clients_after_a_change_of_leader(cluster: Trio, program: Program) -> None:
    """While its holder answers nobody else gets it; once that is gone the next one does."""
    holder = connect(program, "unique", urls(cluster)[0])
    with ended(cluster, "kill"):
        with pytest.raises(Refused, match="already registered"):
            connect(program, "unique", urls(cluster), "thief")
        holder.drop()
        heir = connect(program, "unique", urls(cluster), "heir")
        heir.publish("unique", "mine")
        heir.close()


def test_followers_show_what_they_have(cluster: Trio, program: Program) -> None:
    """The pages of all three tell the same of channels, subscriptions and clients; roles differ."""
    me = connect(program, "watched", urls(cluster))
    subscription = me.subscribe("watched", ("first", 0), durable="d", manual=True, in_flight=7)
    me.publish("watched", "1", "2", "3")
    subscription.take(3)
    subscription.ack(1)

    def same() -> bool:
        pages = everywhere(cluster, "/streaming/channelsz?channel=watched&subs=1")
        return pages[0] == pages[1] == pages[2] and pages[0]["last_seq"] == 3

    cluster.until("same channel everywhere", same, 10)
    page = cluster.nodes[0].ask("/streaming/channelsz?channel=watched&subs=1")
    assert page["subscriptions"][0]["durable_name"] == "d"
    assert page["subscriptions"][0]["max_inflight"] == 7
    assert page["subscriptions"][0]["pending_count"] == 2
    for page in everywhere(cluster, "/streaming/clientsz?client=watched&subs=1"):
        assert page["id"] == "watched"
        assert list(page["subscriptions"]) == ["watched"]  # type: ignore[call-overload]
    servers = everywhere(cluster, "/streaming/serverz")
    assert sorted(str(server["role"]) for server in servers) == ["Follower", "Follower", "Leader"]
    assert [server["node_id"] for server in servers] == ["a", "b", "c"]
    assert {server["state"] for server in servers} == {"CLUSTERED"}
    assert len({server["channels"] for server in servers}) == len({server["clients"] for server in servers}) == 1
    assert {page["type"] for page in everywhere(cluster, "/streaming/storez")} == {"RAFT_FILE"}
    me.close()


def test_jetstream_reads_channels_and_does_not_change_them(cluster: Trio, program: Program) -> None:
    """From any server, also after the leader has changed."""
    me = connect(program, "writer", urls(cluster))
    me.publish("both.worlds", "1", "2")
    with ended(cluster, "kill") as gone:
        wait_for_a_leader(me)
        me.publish("both.worlds", "3")
        for node in cluster.others(gone):
            with node.client() as client:
                name = "STAN_both=2Eworlds"
                info = client.request(f"$JS.API.STREAM.INFO.{name}")
                assert info["state"]["messages"] == 3
                assert info["config"]["num_replicas"] == 3
                for verb, body in (("UPDATE", info["config"]), ("DELETE", {})):
                    with pytest.raises(
                        Exception, match=r"both.worlds.*its limits and its end are those of the streaming"
                    ):
                        client.request(f"$JS.API.STREAM.{verb}.{name}", body)
                assert "STAN_both=2Eworlds" in client.request("$JS.API.STREAM.NAMES")["streams"]
    me.close()


def test_a_channel_is_no_stream_that_another_server_has(cluster: Trio, program: Program) -> None:
    """The leader knows of it though nothing of it is there: neither is touched."""
    me = connect(program, "careful", urls(cluster))
    with cluster.led().client() as client:
        for name in ("taken-a", "taken-b", "taken-c"):
            body = {"name": f"STAN_{name}", "subjects": [name], "num_replicas": 1}
            client.request(f"$JS.API.STREAM.CREATE.STAN_{name}", body)
            client.request(name, {"is": "kept"})
        for name in ("taken-a", "taken-b", "taken-c"):
            with pytest.raises(Refused, match=f"stream STAN_{name} exists and is not the channel"):
                me.publish(name, "x")
            assert client.request(f"$JS.API.STREAM.INFO.STAN_{name}")["state"]["messages"] == 1
    me.close()


def test_a_leader_says_what_operators_look_for(cluster: Trio) -> None:
    """The lines of the original, in its order."""
    with ended(cluster, "stop") as gone:
        leader = cluster.led()
        text = gone.log.read_text()
        lines = [
            "STREAM: server lost leadership, performing leader stepdown actions",
            "STREAM: finished leader stepdown actions",
        ]
        assert [text.index(line) for line in lines] == sorted(text.index(line) for line in lines)
        text = leader.log.read_text()
        lines = [
            "STREAM: Starting streamd streaming[test] version",
            f"STREAM: Cluster Node ID : {leader.name}",
            "STREAM: Cluster known peers:",
            'STREAM:   peer 1: "',
            'STREAM:   peer 2: "',
            "STREAM: Message store is RAFT_FILE",
            f"STREAM: Store location: store{leader.name}",
            "Server is ready",
            "STREAM: server became leader, performing leader promotion actions",
            "STREAM: finished leader promotion actions",
            "STREAM: Streaming Server is ready",
        ]
        assert [text.index(line) for line in lines] == sorted(text.index(line) for line in lines)


def test_heartbeats_and_limits_go_on_with_the_next_leader(tmp_path: Path, program: Program) -> None:
    """Short ones: silent clients end, old messages and unused channels go, and only so many channels there are."""
    block = (
        'hb_interval: "200ms"\nhb_timeout: "200ms"\nhb_fail_count: 2\n'
        'store_limits { max_channels: 3, max_msgs: 5, channels { aged { max_age: "1s" }, unused { max_inactivity: "2s" } } }\n'
    )
    with streaming_trio(tmp_path, block) as cluster:
        me = connect(program, "me", urls(cluster))
        silent = connect(program, "silent", urls(cluster))
        for channel in ("many", "aged", "unused"):
            me.publish(channel, *(str(number) for number in range(8)))
        with pytest.raises(Refused, match="too many channels"):
            me.publish("fourth", "x")
        with ended(cluster, "kill"):
            silent.drop()
            with suppress(Refused):
                me.publish("fourth", "so that there is a leader")
            me.publish("many", "8")
            leader = cluster.led()

            def clients() -> set[str]:
                return {one["id"] for one in leader.ask("/streaming/clientsz")["clients"]}

            def channels() -> set[str]:
                return {*leader.ask("/streaming/channelsz")["names"]}

            cluster.until("end of the silent client", lambda: clients() == {"me"}, 10)
            cluster.until("end of the unused channel", lambda: channels() == {"many", "aged"}, 10)
            me.publish("fourth", "x")
            assert payloads(me.subscribe("many", ("first", 0)), 5) == ["4", "5", "6", "7", "8"]

            def aged() -> bool:
                return bool(leader.ask("/streaming/channelsz?channel=aged")["msgs"] == 0)

            cluster.until("end of old messages", aged, 10)
        for page in everywhere(cluster, "/streaming/channelsz?channel=aged"):
            assert (page["msgs"], page["first_seq"], page["last_seq"]) == (0, 9, 8)
        for page in everywhere(cluster, "/streaming/channelsz"):
            assert page["names"] == ["aged", "fourth", "many"]
        me.close()


@pytest.mark.parametrize("clustered_first", [False, True])
def test_a_store_is_one_servers_or_a_clusters(tmp_path: Path, program: Program, clustered_first: bool) -> None:
    """What was stored alone isn't served in a cluster, nor the other way round; both are said."""
    cluster = streaming_trio(tmp_path, "")
    alone, member = f'streaming {{\nid: {CID}\nstore: file\ndir: "storea"\n}}\n', cluster.nodes[0].config.read_text()
    node = cluster.nodes[0]
    if clustered_first:
        with cluster:
            connect(program, "me", urls(cluster))
            cluster.until("a replica", lambda: "me" in str(node.ask("/streaming/clientsz")))
            node.stop()
        expected = "is one replica of a cluster's NATS Streaming"
        node.config.write_text(f"listen: 127.0.0.1:{node.port}\n{alone}")
    else:
        node.config.write_text(f"listen: 127.0.0.1:{node.port}\n{alone}")
        node.spawn()
        node.wait_ready()
        node.stop()
        expected = "stan: cannot restart server in clustered mode if it was not previously clustered"
        node.config.write_text(member)
    node.spawn()
    try:
        with pytest.raises(BenchError, match=expected):
            node.wait_ready()
    finally:
        node.kill()


def test_nodes_are_not_added_by_request(tmp_path: Path) -> None:
    """The original's requests are answered, with what to do instead."""
    with streaming_trio(tmp_path, "") as cluster:
        pass
    for node in cluster.nodes:
        text = node.config.read_text()
        node.config.write_text(text.replace("node_id", "allow_add_remove_node: true\n    node_id", 1))
    with cluster:
        for node in cluster.nodes:
            with node.client() as client:
                answer = client.ask(f"_STAN.raft.{CID}.node.remove", b"c")
            assert answer.startswith(b'-ERR removing node "c": not supported: servers join by themselves')
