//! Rules of the hub: bytes in, bytes and events out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod cluster;
mod cuts;
mod routes;
mod rows;

use super::*;
use crate::publish::{Outgoing, Publisher};

const QUIET: Options = Options { verbose: false, pedantic: false, echo: true, headers: true, no_responders: false };

/// Output so far of every client, and events, as text.
fn turn(hub: &mut Hub) -> (Vec<(u64, String)>, Vec<Event>) {
    let mut out = Vec::new();
    hub.turn(|conn, bytes| out.push((conn, String::from_utf8_lossy(&bytes).into_owned())));
    (out, hub.events())
}

fn output(hub: &mut Hub) -> String {
    turn(hub).0.into_iter().map(|(_, text)| text).collect()
}

fn small() -> Hub {
    Hub::new(Limits { max_payload: 64, max_control_line: 64, ..Limits::default() })
}

fn client(hub: &mut Hub, options: Options) -> u64 {
    let conn = hub.open("A", b"", false);
    hub.feed(conn, b"CONNECT {}\r\n");
    hub.connected(conn, "A", options, b"");
    turn(hub);
    conn
}

fn send(hub: &mut Hub, subject: &[u8]) -> u32 {
    hub.publish("A", Outgoing { to: subject, subject, reply: b"", headers: &[], payload: &[b"x"] }).receivers
}

/// What one quiet client gets for its bytes, and why it was closed.
fn quiet(options: Options, input: &str) -> (String, Option<String>) {
    let mut hub = small();
    let conn = client(&mut hub, options);
    hub.feed(conn, input.as_bytes());
    let (out, events) = turn(&mut hub);
    let reason = events.into_iter().find_map(|event| match event {
        Event::Close(_, reason) => Some(reason.into_owned()),
        _ => None,
    });
    (out.into_iter().map(|(_, text)| text).collect(), reason)
}

#[test]
fn connect_holds_back_what_follows() {
    let mut hub = small();
    let conn = hub.open("A", b"", true);
    hub.feed(conn, b"CONNECT {\"user\":1}\r\nPING\r\nSUB a");
    let (out, events) = turn(&mut hub);
    assert_eq!((out, events), (vec![], vec![Event::Connect(conn, b"{\"user\":1}".to_vec())]));
    hub.feed(conn, b" 1\r\nPUB a 1\r\nx\r\n");
    assert_eq!(output(&mut hub), "");
    hub.connected(conn, "A", Options { verbose: true, ..QUIET }, b"INFO {2} \r\n");
    assert_eq!(output(&mut hub), "+OK\r\nPONG\r\nINFO {2} \r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n");
    // A second CONNECT drops the subscriptions; the further INFO comes once.
    hub.feed(conn, b"PING\r\nCONNECT {}\r\nPUB a 1\r\nx\r\nPING\r\n");
    assert_eq!(output(&mut hub), "PONG\r\n");
    hub.connected(conn, "A", QUIET, b"");
    assert_eq!(output(&mut hub), "PONG\r\n");
    assert_eq!(hub.statistics().subscriptions, 0);
}

#[test]
fn only_connect_is_legal_before_authentication() {
    let mut hub = small();
    let conn = hub.open("A", b"", true);
    hub.feed(conn, b"PING\r\n");
    let (out, events) = turn(&mut hub);
    assert_eq!(out, [(conn, "-ERR 'Authorization Violation'\r\n".to_owned())]);
    assert_eq!(events, [Event::Close(conn, "Authentication Failure".into())]);
    hub.feed(conn, b"PING\r\n");
    assert_eq!(turn(&mut hub), (vec![], vec![]));
    let conn = hub.open("A", b"", true);
    hub.feed(conn, b"CONNECT {}\r\nPING\r\n");
    hub.fail(conn, Some("Authorization Violation"), "Authentication Failure");
    assert_eq!(output(&mut hub), "-ERR 'Authorization Violation'\r\n");
}

#[test]
fn subscription_limits_refuse_and_stay_open() {
    let mut hub = Hub::new(Limits { max_subscriptions: 1, max_subscription_tokens: 2, ..Limits::default() });
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB a.b.c 1\r\nSUB a.b 1\r\nSUB b 2\r\nPING\r\n");
    assert_eq!(
        output(&mut hub),
        "-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'\r\n\
         -ERR 'maximum subscriptions exceeded'\r\nPONG\r\n"
    );
}

#[test]
fn headers_are_stripped_and_echo_is_off() {
    let mut hub = small();
    let plain = client(&mut hub, Options { headers: false, ..QUIET });
    let mute = client(&mut hub, Options { echo: false, ..QUIET });
    hub.feed(plain, b"SUB a 1\r\n");
    hub.feed(mute, b"SUB a 7\r\nHPUB a re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    hub.feed(mute, b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    let (out, _) = turn(&mut hub);
    assert_eq!(out, [(plain, "MSG a 1 re 2\r\nhi\r\nMSG a 1 2\r\nhi\r\n".to_owned())]);
}

#[test]
fn no_responders_answers_one_own_plain_subscription() {
    let options = Options { no_responders: true, ..QUIET };
    let nobody = "HMSG in.1 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: x\r\n\r\n\r\n";
    for (input, wanted) in [
        ("SUB in.* 1\r\nPUB x in.1 1\r\nx\r\n", nobody),
        ("SUB in.* 1\r\nHPUB x in.1 0 1\r\nx\r\n", nobody),
        ("SUB in.* q 1\r\nPUB x in.1 1\r\nx\r\n", ""),
        ("SUB in.* 1\r\nPUB x 1\r\nx\r\n", ""),
    ] {
        assert_eq!(quiet(options, input), (wanted.to_owned(), None), "{input:?}");
        assert_eq!(quiet(QUIET, input).0, "", "{input:?}");
    }
    let mut hub = small();
    let conn = client(&mut hub, options);
    let tap = hub.tap("A", true);
    assert!(hub.tap_add(tap, b"x", b""));
    hub.feed(conn, b"SUB in.* 1\r\nSUB in.> 2\r\nPUB x in.1 1\r\nx\r\n");
    assert_eq!(output(&mut hub), "");
    hub.tap_remove(tap, b"x");
    hub.feed(conn, b"PUB x in.1 1\r\nx\r\n");
    assert_eq!(output(&mut hub).matches("503").count(), 1);
}

#[test]
fn queue_groups_span_patterns_and_spread() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB a.* q 1\r\nSUB a.> q 2\r\nSUB a.b q 3\r\nSUB a.b r 4\r\nSUB a.b 5\r\n");
    let mut seen = [0; 6];
    for _ in 0..300 {
        assert_eq!(send(&mut hub, b"a.b"), 3);
        let text = output(&mut hub);
        for line in text.split("\r\n").filter(|line| line.starts_with("MSG")) {
            seen[line.split(' ').nth(2).unwrap().parse::<usize>().unwrap()] += 1;
        }
    }
    assert_eq!((seen[1] + seen[2] + seen[3], seen[4], seen[5]), (300, 300, 300));
    assert!(seen[1..4].iter().all(|count| *count > 60), "{seen:?}");
}

#[test]
fn routes_follow_interest() {
    // Each subject is sent three times so that it is cached, then interest changes under it.
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    for subject in [b"a.b".as_slice(), b"c.d", b"a.c"] {
        for _ in 0..3 {
            assert_eq!(send(&mut hub, subject), 0);
        }
    }
    assert_eq!(hub.statistics().num_cache, 3);
    for (line, counts) in [
        ("SUB a.* 1\r\n", [1, 0, 1]),
        ("SUB a.b 2\r\n", [2, 0, 1]),
        ("SUB > 3\r\n", [3, 1, 2]),
        ("SUB *.d 4\r\n", [3, 2, 2]),
        ("UNSUB 2\r\n", [2, 2, 2]),
        ("UNSUB 1\r\n", [1, 2, 1]),
        ("UNSUB 3\r\n", [0, 1, 0]),
        ("UNSUB 4\r\n", [0, 0, 0]),
    ] {
        hub.feed(conn, line.as_bytes());
        let sent: Vec<u32> = [b"a.b", b"c.d", b"a.c"].iter().map(|subject| send(&mut hub, *subject)).collect();
        assert_eq!(sent, counts, "{line}");
    }
    assert_eq!(hub.accounts[0].nodes(), 1);
}

#[test]
fn one_shot_subjects_do_not_enter_the_cache_and_it_is_bounded() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB in.* 1\r\n");
    for number in 0..100_000 {
        send(&mut hub, format!("in.{number}").as_bytes());
    }
    assert!(hub.statistics().num_cache < 100);
    for number in 0..20_000 {
        for _ in 0..3 {
            assert_eq!(send(&mut hub, format!("in.{number}").as_bytes()), 1);
        }
        hub.turn(|_, _| {});
    }
    assert_eq!(hub.statistics().num_cache, 4096);
}

#[test]
fn much_output_is_handed_over_where_it_lies_and_its_buffer_is_used_again() {
    let mut hub = Hub::new(Limits::default());
    let conn = client(&mut hub, QUIET);
    let large = vec![b'x'; 100_000];
    let mut handed = |bytes: &[u8]| {
        let mut whole = None;
        hub.write(conn, bytes);
        hub.turn(|_, out| {
            assert_eq!(out, bytes);
            if let Cow::Owned(buffer) = out {
                whole = Some(buffer);
            }
        });
        let place = whole.as_ref().map(|buffer| buffer.as_ptr() as usize);
        whole.into_iter().for_each(|buffer| hub.give_back(buffer));
        place
    };
    let first = handed(&large);
    assert!(first.is_some());
    assert_eq!(handed(b"little"), None);
    // Many bytes, but few for the buffer that they are in.
    assert_eq!(handed(&large[..20_000]), None);
    assert_eq!(handed(&large), first);
}

#[test]
fn slow_consumers_stall_their_producer_and_are_cut() {
    let mut hub = Hub::new(Limits { max_pending: 1000, ..Limits::default() });
    let slow = client(&mut hub, QUIET);
    let producer = client(&mut hub, QUIET);
    hub.feed(slow, b"SUB a 1\r\n");
    hub.pause(slow);
    let message = format!("PUB a 100\r\n{}\r\n", "x".repeat(100));
    for _ in 0..6 {
        hub.feed(producer, message.as_bytes());
    }
    hub.notify_drained(slow);
    assert_eq!(turn(&mut hub), (vec![], vec![]));
    let sent = hub.publish("A", Outgoing { to: b"a", subject: b"a", reply: b"", headers: &[], payload: &[b"x"] });
    assert_eq!(sent.congested, slow);
    hub.feed(producer, message.as_bytes());
    hub.feed(producer, message.as_bytes());
    assert_eq!(turn(&mut hub), (vec![], vec![Event::Stall(producer)]));
    hub.feed(producer, message.as_bytes());
    let (out, events) = turn(&mut hub);
    assert_eq!(out, []);
    assert_eq!(events, [Event::Close(slow, "Slow Consumer (Pending Bytes)".into()), Event::Drained(slow)],);
    let figures = hub.statistics();
    assert_eq!((figures.slow_consumers, figures.subscriptions, figures.pending_bytes), (1, 0, 0));
    hub.close(slow);
    assert_eq!(hub.statistics().connections, 1);
}

#[test]
fn a_pause_keeps_output_and_resume_hands_it_out_in_pieces() {
    let mut hub = Hub::new(Limits::default());
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB a 1\r\n");
    hub.pause(conn);
    let body = vec![b'x'; 1 << 20];
    for _ in 0..3 {
        hub.publish("A", Outgoing { to: b"a", subject: b"a", reply: b"", headers: &[], payload: &[&body] });
    }
    assert_eq!(turn(&mut hub), (vec![], vec![]));
    hub.resume(conn);
    let sizes: Vec<usize> = (0..5).map(|_| output(&mut hub).len()).collect();
    let frame = (1 << 20) + "MSG a 1 1048576\r\n\r\n".len();
    assert_eq!(sizes, [1 << 20, 1 << 20, 1 << 20, 3 * frame - (3 << 20), 0]);
}

#[test]
fn taps_announce_once_and_again_for_a_remainder() {
    let mut hub = Hub::new(Limits { tap_bytes_max: 300, ..Limits::default() });
    let conn = client(&mut hub, QUIET);
    let tap = hub.tap("A", false);
    assert!(hub.tap_add(tap, b"a.>", b"") && !hub.tap_add(tap, b"a..b", b""));
    hub.feed(conn, b"PUB a.1 re 1\r\nx\r\nHPUB a.2 12 13\r\nNATS/1.0\r\n\r\ny\r\nPUB a.3 1\r\nz\r\n");
    assert_eq!(turn(&mut hub), (vec![], vec![Event::Tap(tap)]));
    let batch = hub.take(tap, 1).unwrap();
    let message = batch.get(0).unwrap();
    assert_eq!(
        (batch.len(), message.subject, message.reply, message.conn),
        (1, b"a.1".as_slice(), b"re".as_slice(), conn)
    );
    assert_eq!(turn(&mut hub).1, [Event::Tap(tap)]);
    let batch = hub.take(tap, 0).unwrap();
    let message = batch.get(0).unwrap();
    assert_eq!((batch.len(), message.headers, message.payload), (2, b"NATS/1.0\r\n\r\n".as_slice(), b"y".as_slice()));
    assert!(hub.take(tap, 0).is_none());
    assert_eq!(turn(&mut hub).1, []);
    for _ in 0..10 {
        hub.feed(conn, b"PUB a.1 1\r\nx\r\n");
    }
    assert_eq!(turn(&mut hub).1, [Event::Tap(tap), Event::Stall(conn)]);
    hub.untap(tap);
    assert_eq!((send(&mut hub, b"a.1"), hub.statistics().subscriptions), (0, 0));
}

#[test]
fn a_tap_that_fills_is_told_once_between_takes() {
    let mut hub = Hub::new(Limits::default());
    let conn = client(&mut hub, QUIET);
    let tap = hub.tap("A", false);
    hub.tap_add(tap, b"a", b"");
    let message = format!("PUB a 50000\r\n{}\r\n", "x".repeat(50_000));
    for events in [vec![Event::Tap(tap)], vec![], vec![Event::Filling(tap)], vec![], vec![]] {
        hub.feed(conn, message.as_bytes());
        assert_eq!(turn(&mut hub).1, events);
    }
    // What is left of a large batch counts again.
    assert_eq!(hub.take(tap, 110_000).unwrap().len(), 2);
    assert_eq!(turn(&mut hub).1, [Event::Tap(tap)]);
    hub.feed(conn, message.as_bytes());
    assert_eq!(turn(&mut hub).1, [Event::Filling(tap)]);
    assert_eq!(hub.take(tap, 0).unwrap().len(), 3);
    assert_eq!(hub.take(tap, 0).unwrap().len(), 1);
    turn(&mut hub);
    hub.feed(conn, message.as_bytes());
    assert_eq!(turn(&mut hub).1, [Event::Tap(tap)]);
}

#[test]
fn watches_count_clients_only() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    let tap = hub.tap("A", false);
    hub.tap_add(tap, b"a.b", b"");
    hub.feed(conn, b"SUB a.* 1\r\n");
    let plain = hub.watch("A", b"a.b", b"");
    let member = hub.watch("A", b"a.b", b"q");
    assert!(hub.interested(plain) && !hub.interested(member));
    for (line, events) in [
        ("UNSUB 1\r\n", vec![Event::Interest(plain, false)]),
        ("SUB a.> q 2\r\n", vec![Event::Interest(member, true)]),
        ("SUB a.b q 3\r\n", vec![]),
        ("SUB a.c 4\r\n", vec![]),
        ("SUB *.b 5\r\n", vec![Event::Interest(plain, true)]),
        ("UNSUB 2\r\n", vec![]),
        ("UNSUB 3\r\n", vec![Event::Interest(member, false)]),
    ] {
        hub.feed(conn, line.as_bytes());
        assert_eq!(turn(&mut hub).1, events, "{line}");
    }
    hub.unwatch(plain);
    hub.close(conn);
    assert_eq!(turn(&mut hub).1, []);
    assert!(!hub.interested(plain) && !hub.interested(member));
}

#[test]
fn server_messages_reach_clients_and_show_another_subject() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    hub.feed(conn, b"SUB in 1\r\nSUB g q 2\r\n");
    let message = Outgoing {
        to: b"in",
        subject: b"orders",
        reply: b"ack",
        headers: &[b"NATS/1.0\r\n", b"\r\n"],
        payload: &[b"a", b"bc"],
    };
    for _ in 0..3 {
        assert_eq!(hub.publish("A", message).receivers, 1);
        assert_eq!(output(&mut hub), "HMSG orders 1 ack 12 15\r\nNATS/1.0\r\n\r\nabc\r\n");
    }
    assert!(hub.interest("A", b"in", b"") && !hub.interest("A", b"in", b"q") && hub.interest("A", b"g", b"q"));
    assert!(!hub.interest("B", b"in", b""));
    assert_eq!(hub.publish("B", message).receivers, 0);
}

#[test]
fn accounts_are_apart() {
    let mut hub = small();
    let first = client(&mut hub, QUIET);
    let other = hub.open("B", b"", false);
    hub.feed(first, b"SUB > 1\r\n");
    hub.feed(other, b"PUB a 1\r\nx\r\n");
    assert_eq!(output(&mut hub), "+OK\r\n");
}

#[test]
fn pings_are_counted() {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    let received = hub.activity(conn).1;
    assert_eq!(hub.ping(conn), (0, received));
    assert_eq!(hub.ping(conn).0, 1);
    hub.feed(conn, b"PONG\r\n");
    assert_eq!(hub.activity(conn), (0, received + 6));
}
