//! What hubs say to each other: rows of bytes in and out.

use super::*;

/// A hub with a ready route, and what it was told at the start.
pub(super) fn routed(hub: &mut Hub) -> (u64, Vec<String>) {
    let route = hub.open_route();
    hub.route_ready(route, "B", Lane::default());
    (route, sorted(&text(hub, route)))
}

/// Output for one connection.
pub(super) fn text(hub: &mut Hub, conn: u64) -> String {
    turn(hub).0.into_iter().filter(|(to, _)| *to == conn).map(|(_, text)| text).collect()
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn interest_goes_out_at_the_start_and_as_it_changes() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    let tap = hub.tap("J", true);
    assert!(hub.tap_add(tap, b"$JS.API.>", b"") && hub.tap_add(tap, b"t", b"q"));
    hub.feed(conn, b"SUB a.*.c 1\r\nSUB a.*.c 2\r\nSUB a q 3\r\nSUB a q 4\r\nSUB a r 5\r\nSUB a 6\r\n");
    let (route, start) = routed(&mut hub);
    let wanted = ["RS+ A a", "RS+ A a q 2", "RS+ A a r 1", "RS+ A a.*.c", "RS+ J $JS.API.>", "RS+ J t q 1"];
    assert_eq!(start, wanted);
    for (line, wanted) in [
        ("SUB a.*.c 7\r\n", ""),
        ("UNSUB 1\r\nUNSUB 2\r\n", ""),
        ("UNSUB 7\r\n", "RS- A a.*.c\r\n"),
        ("SUB a q 8\r\n", "RS+ A a q 3\r\n"),
        ("UNSUB 3\r\nUNSUB 4\r\nUNSUB 8\r\n", "RS+ A a q 2\r\nRS+ A a q 1\r\nRS- A a q\r\n"),
        ("SUB > 9\r\nSUB > 10\r\nUNSUB 9\r\n", "RS+ A >\r\n"),
        ("SUB in 11\r\nUNSUB 11 2\r\nPUB in 1\r\nx\r\nPUB in 1\r\nx\r\n", "RS+ A in\r\nRS- A in\r\n"),
    ] {
        hub.feed(conn, line.as_bytes());
        assert_eq!(text(&mut hub, route), wanted, "{line}");
    }
    hub.tap_remove(tap, b"t");
    assert_eq!(text(&mut hub, route), "RS- J t q\r\n");
    assert!(hub.tap_add(tap, b"t", b""));
    hub.untap(tap);
    assert_eq!(text(&mut hub, route), "RS+ J t\r\nRS- J $JS.API.>\r\nRS- J t\r\n");
    hub.close(conn);
    assert_eq!(sorted(&text(&mut hub, route)), ["RS- A >", "RS- A a", "RS- A a r"]);
    hub.close(route);
    assert!(hub.accounts.iter().all(|account| account.counts.is_none() && account.links.is_empty()));
    assert!(hub.routes.is_empty());
}

#[test]
fn messages_go_out_once_a_peer() {
    for (interest, publish, wanted) in [
        ("", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a 2\r\nhi\r\n"),
        ("RS+ A a\r\nRS+ A *\r\nRS+ A >\r\n", "PUB a re 2\r\nhi\r\n", "RMSG A a re 2\r\nhi\r\n"),
        ("RS+ A a\r\nRS- A a\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a\r\nRS+ A a\r\nRS- A a\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ B a\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a q 1\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a | q 2\r\nhi\r\n"),
        ("RS+ A a q 1\r\n", "PUB a re 2\r\nhi\r\n", "RMSG A a + re q 2\r\nhi\r\n"),
        ("RS+ A a q 1\r\nRS+ A * q 2\r\nRS+ A a\r\n", "PUB  a re 2 \r\nhi\r\n", "RMSG A a + re q 2\r\nhi\r\n"),
        ("RS+ A a q 1\r\nRS+ A * r 1\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a | q r 2\r\nhi\r\n"),
        ("RS+ A a q 1\r\nRS- A a q\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a here 5\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a here 5\r\nRS+ A a\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a 2\r\nhi\r\n"),
        ("LS+ leaf A a\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a 2\r\nhi\r\n"),
        ("LS+ leaf A a\r\nRS+ A a\r\nLS- leaf A a\r\n", "PUB a 2\r\nhi\r\n", "RMSG A a 2\r\nhi\r\n"),
        ("LS+ leaf A a q 1\r\nLS- leaf A a q\r\n", "PUB a 2\r\nhi\r\n", ""),
        ("RS+ A a\r\n", "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG A a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("RS+ A a\r\n", "HPUB a 0 2\r\nhi\r\n", "RMSG A a 2\r\nhi\r\n"),
        (
            "RS+ A a q 1\r\n",
            "HPUB a re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            "HMSG A a + re q 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        ),
    ] {
        let mut hub = small();
        let conn = client(&mut hub, QUIET);
        hub.feed(conn, b"SUB a here 1\r\n");
        let (route, _) = routed(&mut hub);
        hub.feed(route, interest.as_bytes());
        // The third one finds its receivers in the cache.
        for _ in 0..3 {
            hub.feed(conn, publish.as_bytes());
            assert_eq!(text(&mut hub, route), wanted, "{interest} {publish}");
        }
    }
}

#[test]
fn messages_come_in_for_clients_and_for_the_groups_they_name() {
    for (message, wanted) in [
        ("RMSG A a 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n"),
        ("RMSG A a re 2\r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\n"),
        ("rmsg  A  a\tre 02 \nhi\r\n", "MSG a 1 re 02\r\nhi\r\n"),
        ("RMSG A a | q 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\nMSG a 2 2\r\nhi\r\n"),
        ("RMSG A a + re q s r 2\r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\nMSG a 2 re 2\r\nhi\r\nMSG a 3 re 2\r\nhi\r\n"),
        ("RMSG A a + re 2\r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\n"),
        ("RMSG A b 2\r\nhi\r\n", ""),
        ("RMSG B a 2\r\nhi\r\n", ""),
        ("RMSG A a..b 2\r\nhi\r\n", ""),
        ("HMSG A a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("HMSG A a re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("HMSG A a + re x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("LMSG leaf A a 0 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n"),
        ("LMSG leaf A a re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("PING\r\nPONG\r\n+OK\r\nA+ A\r\nA- A\r\nRMSG A a 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n"),
    ] {
        let mut hub = small();
        let conn = client(&mut hub, QUIET);
        hub.feed(conn, b"SUB a 1\r\nSUB a q 2\r\nSUB * r 3\r\n");
        let (route, _) = routed(&mut hub);
        // What came from a route never goes to another one.
        let other = hub.open_route();
        hub.route_ready(other, "C", Lane::default());
        hub.feed(other, b"RS+ A >\r\nRS+ A a q 9\r\n");
        turn(&mut hub);
        for _ in 0..3 {
            hub.feed(route, message.as_bytes());
            let out = turn(&mut hub).0;
            assert_eq!(out.iter().find(|(to, _)| *to == other), None);
            let out: String = out.into_iter().filter(|(to, _)| *to == conn).map(|(_, text)| text).collect();
            assert_eq!(out, wanted, "{message}");
        }
    }
}

#[test]
fn deliveries_show_the_stored_subject_across() {
    let ack = "$JS.ACK.s@x.c.1.2.3.4.5";
    let message = Outgoing {
        to: b"inbox",
        subject: b"orders.@1",
        reply: ack.as_bytes(),
        headers: &[b"NATS/1.0\r\n", b"\r\n"],
        payload: &[b"a", b"bc"],
    };
    for (interest, wanted) in [
        ("RS+ A inbox\r\n", format!("HMSG A inbox {ack}@orders.@1 12 15\r\nNATS/1.0\r\n\r\nabc\r\n")),
        ("RS+ A inbox q 1\r\n", format!("HMSG A inbox + {ack}@orders.@1 q 12 15\r\nNATS/1.0\r\n\r\nabc\r\n")),
    ] {
        let (mut hub, mut other) = (small(), small());
        let (route, _) = routed(&mut hub);
        hub.feed(route, interest.as_bytes());
        let conn = client(&mut other, QUIET);
        other.feed(conn, b"SUB inbox 1\r\nSUB inbox q 2\r\nUNSUB 1 1\r\n");
        let (back, _) = routed(&mut other);
        assert_eq!(hub.publish("A", message).receivers, 1);
        let sent = text(&mut hub, route);
        assert_eq!(sent, wanted);
        other.feed(back, sent.as_bytes());
        let shown = format!("HMSG orders.@1 1 {ack} 12 15\r\nNATS/1.0\r\n\r\nabc\r\n");
        assert!(text(&mut other, conn).starts_with(&shown));
    }
    // Without an ack there is no place for the subject; what isn't a word can't be said.
    let mut hub = small();
    let (route, _) = routed(&mut hub);
    hub.feed(route, b"RS+ A >\r\n");
    hub.publish("A", Outgoing { reply: b"", headers: &[], ..message });
    assert_eq!(text(&mut hub, route), "RMSG A inbox 3\r\nabc\r\n");
    for (to, reply) in [(b"a b".as_slice(), b"".as_slice()), (b"a\r\nPING", b""), (b"a", b"b c")] {
        assert_eq!(hub.publish("A", Outgoing { to, subject: to, reply, ..message }).receivers, 0);
    }
    assert_eq!(text(&mut hub, route), "");
}

#[test]
fn remote_interest_counts() {
    let mut hub = small();
    let conn = client(&mut hub, Options { no_responders: true, ..QUIET });
    let (plain, member) = (hub.watch("A", b"a", b""), hub.watch("A", b"a", b"q"));
    let (route, _) = routed(&mut hub);
    hub.feed(conn, b"SUB in 1\r\nPUB a in 1\r\nx\r\n");
    assert!(text(&mut hub, conn).contains("503"));
    assert_eq!((send(&mut hub, b"a"), hub.interest("A", b"a", b"")), (0, false));
    hub.feed(route, b"RS+ A a\r\nRS+ A * q 3\r\n");
    assert_eq!(turn(&mut hub).1, [Event::Interest(plain, true), Event::Interest(member, true)]);
    let late = hub.watch("A", b"a", b"q");
    assert!(hub.interested(late) && hub.interest("A", b"a", b"q") && hub.interest("A", b"a", b""));
    assert!(!hub.interest("A", b"a", b"r"));
    hub.feed(conn, b"PUB a in 1\r\nx\r\n");
    assert_eq!(text(&mut hub, conn), "");
    assert_eq!(send(&mut hub, b"a"), 2);
    assert_eq!(hub.statistics().subscriptions, 1);
    assert_eq!((hub.routes()[0].subscriptions, hub.statistics().connections), (2, 1));
    hub.close(route);
    assert_eq!(turn(&mut hub).1.len(), 3);
    assert_eq!((send(&mut hub, b"a"), hub.interest("A", b"a", b"q"), hub.routes().len()), (0, false, 0));
}

#[test]
fn groups_are_spread_by_weight_and_stay_at_home() {
    let mut hub = small();
    let conn = client(&mut hub, Options { echo: false, ..QUIET });
    let mut peers = Vec::new();
    for (server, weight) in [("B", 1), ("C", 3)] {
        let route = hub.open_route();
        hub.route_ready(route, server, Lane::default());
        hub.feed(route, format!("RS+ A a q 9\r\nRS+ A a q {weight}\r\n").as_bytes());
        peers.push(route);
    }
    let count = |hub: &mut Hub| {
        let mut counts = [0; 2];
        for _ in 0..4000 {
            hub.feed(conn, b"PUB a 1\r\nx\r\n");
        }
        for (to, text) in turn(hub).0 {
            let place = peers.iter().position(|peer| *peer == to).unwrap();
            counts[place] += text.matches("RMSG").count();
        }
        counts
    };
    let spread = count(&mut hub);
    assert!(spread[0] + spread[1] == 4000 && (850..1150).contains(&spread[0]), "{spread:?}");
    // Its own member may not take it, as echo is off.
    hub.feed(conn, b"SUB a q 1\r\n");
    turn(&mut hub);
    assert_eq!(count(&mut hub).iter().sum::<usize>(), 4000);
    let tap = hub.tap("A", true);
    assert!(hub.tap_add(tap, b"a", b"q"));
    turn(&mut hub);
    assert_eq!(count(&mut hub), [0, 0]);
}

#[test]
fn lanes_share_the_accounts() {
    let mut hub = small();
    let tap = hub.tap("$SYS", true);
    assert!(hub.tap_add(tap, b"s", b""));
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB a 1\r\n");
    let (system, rest) = (hub.open_route(), hub.open_route());
    let lane = |account: Option<&str>, without: &[&str]| Lane {
        account: account.map(Into::into),
        without: without.iter().map(|name| (*name).into()).collect(),
    };
    hub.route_ready(system, "B", lane(Some("$SYS"), &[]));
    assert_eq!(text(&mut hub, system), "RS+ $SYS s\r\n");
    hub.route_ready(rest, "B", lane(None, &["$SYS"]));
    assert_eq!(text(&mut hub, rest), "RS+ A a\r\n");
    // A line is taken on either, and messages go where they belong, once.
    hub.feed(rest, b"RS+ $SYS x\r\nRS+ A x\r\nRS+ $SYS x q 1\r\n");
    hub.feed(system, b"RS+ $SYS x\r\nRS+ A x\r\n");
    for account in ["$SYS", "A"] {
        hub.publish(account, Outgoing { to: b"x", subject: b"x", reply: b"", headers: &[], payload: &[] });
    }
    let out = turn(&mut hub).0;
    assert_eq!(out, [(system, "RMSG $SYS x | q 0\r\n\r\n".to_owned()), (rest, "RMSG A x 0\r\n\r\n".to_owned())]);
    assert!(hub.tap_add(tap, b"t", b""));
    assert_eq!(turn(&mut hub).0, [(system, "RS+ $SYS t\r\n".to_owned())]);
    // A second connection for the same accounts takes over.
    let newer = hub.open_route();
    hub.route_ready(newer, "B", lane(None, &["$SYS"]));
    assert_eq!(turn(&mut hub), (vec![(newer, "RS+ A a\r\n".to_owned())], vec![]));
    hub.fail(rest, None, "over");
    turn(&mut hub);
    hub.close(rest);
    // An account that is new, or can't be said in a line.
    let tap = hub.tap("N", true);
    assert!(hub.tap_add(tap, b"n", b""));
    assert_eq!(turn(&mut hub).0, [(newer, "RS+ N n\r\n".to_owned())]);
    let tap = hub.tap("two words", true);
    assert!(hub.tap_add(tap, b"n", b""));
    assert_eq!(turn(&mut hub).0, []);
}

#[test]
fn nothing_but_greetings_counts_before_a_route_is_ready() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB a 1\r\n");
    let route = hub.open_route();
    hub.feed(route, b"INFO {\"a\":1}\r\nCONNECT {}\r\nPING\r\nRS");
    let (out, events) = turn(&mut hub);
    assert_eq!(out, []);
    assert_eq!(events, [Event::Info(route, b"{\"a\":1}".to_vec()), Event::Connect(route, b"{}".to_vec())]);
    hub.route_welcome(route);
    assert_eq!(turn(&mut hub), (vec![(route, "PONG\r\n".to_owned())], vec![]));
    hub.feed(route, b"+ A b\r\nRMSG A a 2\r\n");
    hub.feed(route, b"hi\r\nPING\r\n");
    assert_eq!((turn(&mut hub), send(&mut hub, b"b")), ((vec![], vec![]), 0));
    hub.connected(route, "A", QUIET, b"");
    assert_eq!(turn(&mut hub), (vec![], vec![]));
    hub.route_ready(route, "B", Lane::default());
    let out = turn(&mut hub).0;
    let wanted = [(conn, "MSG a 1 2\r\nhi\r\n".to_owned()), (route, "RS+ A a\r\nPONG\r\n".to_owned())];
    assert!(out.len() == 2 && wanted.iter().all(|row| out.contains(row)), "{out:?}");
    assert_eq!(send(&mut hub, b"b"), 1);
    // A stranger may not fill the memory.
    let route = hub.open_route();
    for _ in 0..5 {
        hub.feed(route, &b"RS+ A b\r\n".repeat(120_000));
    }
    assert_eq!(turn(&mut hub).1, [Event::Close(route, "Protocol Violation".into())]);
}

#[test]
fn rows_that_close_a_route() {
    let long = format!("RS+ A {}", "a".repeat(1 << 20));
    let parser = "-ERR 'Parser Error'\r\n";
    for (input, out, reason) in [
        ("-ERR 'Stale Connection'\r\nPING\r\n", "", "Stale Connection"),
        ("-ERR x\r\n", "", "x"),
        ("PUB a 1\r\nx\r\n", parser, "Parse Error"),
        ("SUB a 1\r\n", parser, "Parse Error"),
        ("\r\n", parser, "Parse Error"),
        ("RS* A a\r\n", parser, "Parse Error"),
        ("RS+ A\r\n", parser, "Parse Error"),
        ("RS+ A a..b\r\n", parser, "Parse Error"),
        ("RS+ A a q\r\n", parser, "Parse Error"),
        ("RS+ A a q x\r\n", parser, "Parse Error"),
        ("RS+ A a q 1 2\r\n", parser, "Parse Error"),
        ("RS- A a q 1\r\n", parser, "Parse Error"),
        ("LS+ leaf A\r\n", parser, "Parse Error"),
        ("INFO\r\n", parser, "Parse Error"),
        ("CONNECT x\r\n", parser, "Parse Error"),
        ("RMSG A a\r\n", parser, "Parse Error"),
        ("RMSG A a x\r\n", parser, "Parse Error"),
        ("RMSG A a b q 1\r\n", parser, "Parse Error"),
        ("RMSG A a 67108865\r\n", parser, "Parse Error"),
        ("HMSG A a 2\r\n", parser, "Parse Error"),
        ("HMSG A a 3 2\r\n", parser, "Parse Error"),
        ("LMSG leaf A a 2\r\n", parser, "Parse Error"),
        ("RMSG A a 1\r\nxy\r\n", parser, "Parse Error"),
        ("RMSG A a 1\r\nxy", parser, "Parse Error"),
        (&long, parser, "Parse Error"),
    ] {
        let mut hub = small();
        let (route, _) = routed(&mut hub);
        hub.feed(route, input.as_bytes());
        let (sent, events) = turn(&mut hub);
        assert_eq!(sent.into_iter().map(|(_, text)| text).collect::<String>(), out, "{input:.30}");
        assert_eq!(events, [Event::Close(route, reason.to_owned().into())], "{input:.30}");
        hub.feed(route, b"RS+ A a\r\n");
        assert_eq!(send(&mut hub, b"a"), 0);
    }
}

#[test]
fn a_route_that_lags_is_told_of_and_in_the_end_cut() {
    let mut hub = Hub::new(Limits { max_pending: 1 << 20, max_payload: 8 << 20, ..Limits::default() });
    let conn = client(&mut hub, QUIET);
    let (route, _) = routed(&mut hub);
    hub.feed(route, b"RS+ A a\r\n");
    hub.pause(route);
    let body = vec![b'x'; 8 << 20];
    let message = Outgoing { to: b"a", subject: b"a", reply: b"", headers: &[], payload: &[&body] };
    let publish = [b"PUB a 8388608\r\n".as_slice(), &body, b"\r\n"].concat();
    hub.feed(conn, &publish);
    assert_eq!(turn(&mut hub).1, [Event::Stall(conn)]);
    assert_eq!(hub.publish("A", message).congested, route);
    hub.notify_drained(route);
    for _ in 2..31 {
        hub.publish("A", message);
    }
    assert_eq!(turn(&mut hub), (vec![], vec![]));
    hub.publish("A", message);
    let events = turn(&mut hub).1;
    assert_eq!(events, [Event::Close(route, "Slow Consumer (Pending Bytes)".into()), Event::Drained(route)]);
    assert_eq!(hub.publish("A", message).receivers, 0);
    // One slow client doesn't hold up what another server sends; a full tap does.
    let (route, _) = routed(&mut hub);
    hub.feed(conn, b"SUB s 1\r\n");
    hub.pause(conn);
    hub.feed(route, [b"RMSG A s 900000\r\n", &body[..900_000], b"\r\n"].concat().as_slice());
    turn(&mut hub);
    assert_eq!(turn(&mut hub).1, []);
    let tap = hub.tap("A", false);
    assert!(hub.tap_add(tap, b"t", b""));
    for _ in 0..9 {
        hub.feed(route, [b"RMSG A t 8388608\r\n", body.as_slice(), b"\r\n"].concat().as_slice());
    }
    assert_eq!(turn(&mut hub).1, [Event::Tap(tap), Event::Filling(tap), Event::Stall(route)]);
}
