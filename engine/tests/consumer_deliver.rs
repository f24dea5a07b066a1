//! Rules of deliveries, pull requests and push extras. Source: nats-server 2.15.2.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod recorder;

use recorder::*;
use streamd_engine::consumer::{AckPolicy, Ask, Blocked, Consumer, How, Options, Target};

fn pulling(options: Options, asks: &[(&str, Ask)]) -> (Consumer, Recorder) {
    let mut consumer = consumer(AckPolicy::Explicit, options);
    for (inbox, ask) in asks {
        assert!(consumer.request(inbox.as_bytes(), *ask, 0));
    }
    (consumer, Recorder::default())
}

fn ask(batch: u64) -> Ask {
    Ask { batch, ..Ask::default() }
}

#[test]
fn a_delivery_shows_the_stored_message_and_counts_down() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    consumer.set_num_pending(2);
    let done = push(&mut consumer, &mut hub, 1..=3, 5);
    assert_eq!((done.consumed, done.delivered, done.blocked, done.last_seq), (3, 3, Blocked::No, 3));
    let seen = hub.take();
    assert_eq!(seen[0].reply, "$JS.ACK.S.C.1.1.1.10.1");
    assert_eq!((seen[0].to.as_str(), seen[0].subject.as_str(), seen[0].payload.as_str()), ("d", "a.b", "data"));
    assert_eq!((seen[2].numbers().4, consumer.num_pending()), (0, 0));
    assert_eq!(done.bytes, seen.iter().map(|seen| (3 + seen.reply.len() + 4) as u64).sum::<u64>());
    assert_eq!(push(&mut consumer, &mut hub, 1..=3, 5).delivered, 0, "never twice");
}

#[test]
fn filters_pass_records_over() {
    let filters = vec!["x".to_owned(), "a.*".to_owned()];
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::Explicit, Options { filters, ..options() }), Recorder::default());
    let subjects = ["a.b", "b", "b", "x", "a.b.c", "a.c", "b"];
    let values: Vec<_> = subjects.iter().zip(1..).map(|(subject, seq)| value_of(seq, subject, "")).collect();
    let done = consumer.deliver(&mut hub, ACCOUNT, &values, Target::Subject("d", ""), &how(0)).unwrap();
    assert_eq!((done.consumed, done.delivered, consumer.next_seq()), (7, 3, 8));
    assert_eq!(hub.brief(), ["d 1", "d 4", "d 6"]);
    assert_eq!(consumer.delivered().stream_seq, 6);
    consumer.configure(options());
    let done = consumer.deliver(&mut hub, ACCOUNT, &[value_of(8, "b", "")], Target::Subject("d", ""), &how(0)).unwrap();
    assert_eq!(done.delivered, 1, "the answer for b isn't kept across a change");
}

#[test]
fn max_ack_pending_stops_new_messages_only() {
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::Explicit, Options { max_ack_pending: 2, ..options() }), Recorder::default());
    let done = push(&mut consumer, &mut hub, 1..=3, 0);
    assert_eq!((done.delivered, done.blocked, consumer.at_limit()), (2, Blocked::AckPending, true));
    assert_eq!(push_again(&mut consumer, &mut hub, WAIT), [1, 2]);
    consumer.ack(&acks(&[(1, 1, "")]), WAIT);
    assert_eq!(push(&mut consumer, &mut hub, 3..=4, WAIT).delivered, 1);
}

#[test]
fn bounds_of_a_round() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::None, options()), Recorder::default());
    let given = values(1..=4);
    let mut round = |how: How| consumer.deliver(&mut hub, ACCOUNT, &given, Target::Subject("d", ""), &how).unwrap();
    let done = round(How { bytes_max: 0, ..how(0) });
    assert_eq!((done.delivered, done.blocked), (1, Blocked::No));
    let done = round(How { upto_ts_ns: 25, ..how(0) });
    assert_eq!((done.consumed, done.delivered, done.blocked), (2, 1, Blocked::Younger));
    let mut damaged = values(3..=4);
    damaged[1][30] ^= 1;
    assert!(consumer.deliver(&mut hub, ACCOUNT, &damaged, Target::Subject("d", ""), &how(0)).is_err());
    assert_eq!(consumer.next_seq(), 4);
}

#[test]
fn nothing_counts_that_nobody_took() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    hub.deaf.insert("d".to_owned());
    let done = push(&mut consumer, &mut hub, 1..=3, 0);
    assert_eq!((done.consumed, done.blocked, consumer.next_seq()), (0, Blocked::Interest, 1));
    assert_eq!((consumer.num_ack_pending(), consumer.delivered().consumer_seq), (0, 0));
    hub.deaf = ["workers".to_owned()].into();
    let done = consumer.deliver(&mut hub, ACCOUNT, &values([1]), Target::Subject("d", "workers"), &how(0)).unwrap();
    assert_eq!((done.consumed, done.blocked), (0, Blocked::Interest));
    hub.congested = 7;
    let done = push(&mut consumer, &mut hub, 1..=3, 0);
    assert_eq!((done.consumed, done.blocked, done.conn), (1, Blocked::Congested, 7));
}

#[test]
fn requests_take_turns() {
    let (mut consumer, mut hub) = pulling(options(), &[("x", ask(3)), ("y", ask(1)), ("z", ask(2))]);
    assert_eq!((consumer.demand(), consumer.num_waiting()), (6, 3));
    let done = pull(&mut consumer, &mut hub, 1..=9, 0);
    assert_eq!((done.delivered, done.blocked, consumer.num_waiting()), (6, Blocked::Request, 0));
    assert_eq!(hub.brief(), ["x 1", "y 2", "z 3", "x 4", "z 5", "x 6"]);
    assert_eq!((consumer.next_seq(), consumer.demand()), (7, 0));
}

#[test]
fn requests_without_interest_vanish() {
    let (mut consumer, mut hub) = pulling(options(), &[("x", ask(3)), ("y", ask(1))]);
    hub.deaf.insert("x".to_owned());
    pull(&mut consumer, &mut hub, 1..=2, 0);
    assert_eq!((hub.brief(), consumer.num_waiting(), consumer.num_ack_pending()), (vec!["y 1".to_owned()], 0, 1));
    consumer.request(b"x", ask(1), 0);
    assert_eq!((consumer.requests_tick(&mut hub, ACCOUNT, 1), consumer.num_waiting()), (None, 0));
}

#[test]
fn max_waiting_bounds_the_queue() {
    let (mut consumer, _) = pulling(Options { max_waiting: 1, ..options() }, &[("x", ask(0))]);
    assert!(!consumer.request(b"y", ask(1), 0));
    assert_eq!(consumer.demand(), 1, "a batch of 0 is one of 1");
}

#[test]
fn max_bytes_ends_a_request() {
    // Subject 3, ack subject 22, body 4.
    let bytes = |batch, max_bytes| Ask { batch, max_bytes, ..Ask::default() };
    let (mut consumer, mut hub) = pulling(options(), &[("x", bytes(9, 40)), ("y", bytes(1, 30)), ("z", bytes(1, 29))]);
    assert_eq!(pull(&mut consumer, &mut hub, 1..=9, 0).blocked, Blocked::Request);
    assert_eq!(
        hub.brief(),
        [
            "x 1",
            "y 2",
            "y 409 Batch Completed|Nats-Pending-Messages: 0|Nats-Pending-Bytes: 1",
            "z 3",
            "x 409 Message Size Exceeds MaxBytes|Nats-Pending-Messages: 8|Nats-Pending-Bytes: 11",
        ]
    );
    assert_eq!(consumer.next_seq(), 4);
}

#[test]
fn requests_time_out_and_beat() {
    let long = Ask { batch: 2, expires_at_ns: 1000, heartbeat_ns: 100, ..Ask::default() };
    let (mut consumer, mut hub) =
        pulling(options(), &[("x", long), ("y", Ask { expires_at_ns: 150, max_bytes: 99, ..ask(1) })]);
    assert_eq!(consumer.requests_tick(&mut hub, ACCOUNT, 10), Some(100));
    assert!(hub.take().is_empty());
    pull(&mut consumer, &mut hub, 1..=1, 60);
    assert_eq!(consumer.requests_tick(&mut hub, ACCOUNT, 100), Some(150));
    assert_eq!(consumer.requests_tick(&mut hub, ACCOUNT, 160), Some(260));
    assert_eq!(
        hub.brief(),
        [
            "x 1",
            "y 408 Request Timeout|Nats-Pending-Messages: 1|Nats-Pending-Bytes: 99",
            "x 100 Idle Heartbeat|Nats-Last-Consumer: 1|Nats-Last-Stream: 1",
        ]
    );
    assert_eq!(consumer.requests_tick(&mut hub, ACCOUNT, 1000), None);
    assert_eq!(
        hub.take()[0].headers,
        "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: 0\r\n\r\n"
    );
    consumer.request(b"x", Ask { expires_at_ns: 2000, ..ask(1) }, 1000);
    assert_eq!(pull(&mut consumer, &mut hub, 2..=2, 2000).delivered, 0, "no message after its end");
    assert_eq!(hub.brief().len(), 1);
}

#[test]
fn no_wait_requests_end_with_the_log() {
    let no_wait = |batch, expires_at_ns| Ask { batch, no_wait: true, expires_at_ns, ..Ask::default() };
    let asks = [("now", no_wait(5, 0)), ("first", no_wait(5, 99)), ("idle", no_wait(5, 99)), ("wait", ask(5))];
    let (mut consumer, mut hub) = pulling(options(), &asks);
    pull(&mut consumer, &mut hub, 1..=2, 0);
    hub.take();
    consumer.requests_drained(&mut hub, ACCOUNT);
    assert_eq!(hub.brief(), ["now 404 No Messages", "first 404 No Messages"]);
    assert_eq!(consumer.num_waiting(), 2);
    assert_eq!(consumer.requests_end(&mut hub, ACCOUNT, "409 Consumer Deleted", false), 2);
    assert_eq!(hub.brief(), ["idle 409 Consumer Deleted", "wait 409 Consumer Deleted"]);
}

#[test]
fn headers_only_leaves_the_body_out() {
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::None, Options { headers_only: true, ..options() }), Recorder::default());
    push(&mut consumer, &mut hub, 1..=1, 0);
    let seen = &hub.take()[0];
    assert_eq!((seen.headers.as_str(), seen.payload.as_str()), ("NATS/1.0\r\nNats-Msg-Size: 4\r\n\r\n", ""));
}

#[test]
fn the_window_opens_as_clients_answer() {
    let mut hub = Recorder::default();
    let mut consumer = Consumer::new("S", "C", AckPolicy::None, options(), true, 1);
    let body = "x".repeat(100_000);
    let given: Vec<_> = (1..=60).map(|seq| value_of(seq, "a", &body)).collect();
    let how = How { bytes_max: u64::MAX, ..how(0) };
    let round = |consumer: &mut Consumer, hub: &mut Recorder| {
        let from = consumer.next_seq() as usize - 1;
        consumer.deliver(hub, ACCOUNT, &given[from..], Target::Subject("d", ""), &how).unwrap()
    };
    let done = round(&mut consumer, &mut hub);
    assert_eq!((done.blocked, done.delivered), (Blocked::Window, 21));
    let seen = hub.take();
    let flow: Vec<_> = seen.iter().filter(|seen| seen.reply.starts_with("$JS.FC.")).collect();
    assert_eq!(
        (flow.len(), flow[0].headers.as_str(), flow[0].to.as_str()),
        (1, "NATS/1.0 100 FlowControl Request\r\n\r\n", "d")
    );
    let subject = flow[0].reply.clone();
    assert!(subject.starts_with("$JS.FC.S.C.") && subject.len() == "$JS.FC.S.C.".len() + 4);
    assert_eq!(seen[11].reply, subject, "past one MiB, right behind the message that made it so");
    consumer.heartbeat(&mut hub, ACCOUNT, b"d");
    assert_eq!(
        hub.brief(),
        [format!("d 100 Idle Heartbeat|Nats-Last-Consumer: 21|Nats-Last-Stream: 21|Nats-Consumer-Stalled: {subject}")]
    );
    assert!(!consumer.flow_answered(b"$JS.FC.S.C.none") && consumer.flow_answered(subject.as_bytes()));
    assert!(!consumer.flow_answered(subject.as_bytes()));
    consumer.heartbeat(&mut hub, ACCOUNT, b"d");
    assert_eq!(hub.brief(), ["d 100 Idle Heartbeat|Nats-Last-Consumer: 21|Nats-Last-Stream: 21"]);
    // 10 messages are still on their way, and 4 MiB hold 42.
    assert_eq!(round(&mut consumer, &mut hub).delivered, 32);
    consumer.flow_reset();
    assert_eq!(round(&mut consumer, &mut hub).delivered, 7);
}
