//! Rules of acks, redelivery and the ack floor. Source: nats-server 2.15.2.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod recorder;

use recorder::*;
use streamd_engine::consumer::{AckPolicy, Consumer, Options};

fn confirmed(consumer: &mut Consumer, hub: &mut Recorder, rows: &[(u64, u64, &str)], now: i64) -> Vec<String> {
    hub.take();
    consumer.ack(&acks(rows), now).confirm(hub, ACCOUNT);
    hub.take().into_iter().map(|seen| seen.to).collect()
}

#[test]
fn explicit_acks_move_the_floor_to_the_first_unsettled() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, [1, 2, 5, 9], 10);
    let outcome = consumer.ack(&acks(&[(5, 3, ""), (2, 2, "+OK")]), 20);
    assert_eq!((outcome.settled.clone(), outcome.changed, floor(&consumer)), (vec![5, 2], true, (0, 0)));
    consumer.ack(&acks(&[(1, 1, "+ACK")]), 30);
    assert_eq!((floor(&consumer), consumer.num_ack_pending()), ((3, 8), 1));
    consumer.ack(&acks(&[(9, 4, "")]), 40);
    assert_eq!((floor(&consumer), consumer.ack_floor().at_ns), ((4, 9), 40));
}

#[test]
fn one_ack_settles_all_up_to_its_message() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::All, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=5, 10);
    let outcome = consumer.ack(&acks(&[(3, 3, "")]), 20);
    assert_eq!((outcome.settled, floor(&consumer), consumer.num_ack_pending()), (vec![1, 2, 3], (3, 3), 2));
    let outcome = consumer.ack(&acks(&[(2, 2, "")]), 20);
    assert_eq!((outcome.settled, outcome.late, outcome.changed), (vec![], vec![2], false));
}

#[test]
fn without_acks_nothing_is_pending_and_the_floor_follows() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::None, options()), Recorder::default());
    push(&mut consumer, &mut hub, [1, 2, 7], 10);
    assert_eq!((consumer.num_ack_pending(), floor(&consumer), consumer.deadline_ns()), (0, (3, 7), None));
    assert_eq!(confirmed(&mut consumer, &mut hub, &[(2, 2, "-NAK")], 20), ["r.2"]);
    assert!(consumer.due(1 << 60, 10).is_empty());
}

#[test]
fn settled_messages_are_confirmed_again_and_undelivered_ones_never() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=2, 10);
    assert_eq!(
        confirmed(&mut consumer, &mut hub, &[(1, 1, ""), (1, 1, ""), (3, 3, ""), (0, 1, "")], 20),
        ["r.1", "r.1"]
    );
    assert_eq!(confirmed(&mut consumer, &mut hub, &[(1, 1, "-NAK"), (1, 1, "what")], 20), ["r.1", "r.1"]);
    let mut outcome = consumer.ack(&acks(&[(1, 1, "-NAK"), (1, 1, "+TERM why"), (2, 2, "hello")]), 20);
    assert_eq!((outcome.naks.len(), outcome.terms.len(), outcome.changed), (0, 1, false));
    assert_eq!((outcome.terms[0].reason.as_slice(), consumer.num_ack_pending()), (&b"why"[..], 1));
    outcome.confirm(&mut hub, ACCOUNT);
    hub.take();
    outcome.confirm(&mut hub, ACCOUNT);
    assert!(hub.take().is_empty(), "a confirmation is sent once");
}

#[test]
fn expired_messages_come_again_in_stream_order_before_and_naks_in_theirs() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=6, 10);
    let outcome = consumer.ack(&acks(&[(6, 6, "-NAK"), (4, 4, "-NAK"), (6, 6, "-NAK")]), 20);
    assert!(outcome.redeliver && outcome.naks.len() == 3);
    assert_eq!(consumer.due(20, 10), [6, 4]);
    assert_eq!(consumer.deadline_ns(), Some(10 + WAIT));
    assert!(consumer.expire(10 + WAIT - 1).is_empty());
    assert_eq!(consumer.due(20, 10), [6, 4]);
    consumer.expire(10 + WAIT);
    assert_eq!(consumer.due(2000, 10), [6, 4, 1, 2, 3, 5]);
    hub.take();
    assert_eq!(push_again(&mut consumer, &mut hub, 2000), [6, 4, 1, 2, 3, 5]);
    let first = &hub.take()[0];
    assert_eq!((first.numbers(), first.to.as_str(), first.subject.as_str()), ((2, 6, 7, 60, 0), "d", "a.b"));
    assert_eq!((consumer.num_redelivered(), consumer.num_queued(), consumer.num_ack_pending()), (6, 0, 6));
    // An ack of the first delivery settles by the stream sequence.
    assert_eq!(consumer.ack(&acks(&[(6, 6, "")]), 2010).settled, [6]);
    assert_eq!((consumer.num_redelivered(), consumer.delivered().stream_seq), (5, 6));
}

#[test]
fn a_redelivery_of_what_was_settled_meanwhile_is_not_sent() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=2, 10);
    consumer.ack(&acks(&[(1, 1, "-NAK"), (2, 2, "-NAK"), (1, 1, "")]), 20);
    hub.take();
    assert_eq!(push_again(&mut consumer, &mut hub, 30), [2]);
    let how = streamd_engine::consumer::How { redelivery: true, ..how(30) };
    let target = streamd_engine::consumer::Target::Subject("d", "");
    let done = consumer.deliver(&mut hub, ACCOUNT, &values([1, 2]), target, &how).unwrap();
    assert_eq!((done.consumed, done.delivered), (2, 0));
}

#[test]
fn naks_with_a_delay_wait_for_it() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=2, 10);
    consumer.ack(&acks(&[(1, 1, "-NAK {\"delay\": 50}"), (2, 2, "-NAK 1m")]), 20);
    assert_eq!(consumer.deadline_ns(), Some(70));
    assert_eq!((consumer.due(69, 10), consumer.due(70, 10)), (vec![], vec![1]));
    consumer.expire(20 + WAIT * 5);
    assert_eq!(consumer.due(20 + WAIT * 5, 10), [1], "the delay replaces ack_wait");
}

#[test]
fn what_was_refused_changes_what_is_stored() {
    let (mut before, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut before, &mut hub, 1..=2, 10);
    assert!(before.ack(&acks(&[(1, 1, "-NAK 1h")]), 20).changed);
    assert!(before.ack(&acks(&[(2, 2, "-NAK")]), 20).changed);
    assert!(!before.ack(&acks(&[(2, 2, "-NAK")]), 20).changed, "it is queued already");
    let mut after = consumer(AckPolicy::Explicit, options());
    after.decode(&before.encode()).unwrap();
    let hour = 3_600_000_000_000;
    assert_eq!((after.due(20 + hour - 1, 10), after.due(20 + hour, 10)), (vec![2], vec![2, 1]));
}

#[test]
fn progress_restarts_the_wait() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=2, 10);
    assert!(consumer.ack(&acks(&[(1, 1, "+WPI")]), 500).changed);
    assert_eq!((consumer.due(10 + WAIT, 9), consumer.due(500 + WAIT, 9)), (vec![2], vec![2, 1]));
}

#[test]
fn backoff_replaces_ack_wait_step_by_step() {
    let backoff = Options { backoff_ns: vec![10, 100], ..options() };
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, backoff), Recorder::default());
    push(&mut consumer, &mut hub, [1], 0);
    for (now, next) in [(10, 110), (110, 210), (210, 310)] {
        assert_eq!(consumer.deadline_ns(), Some(now));
        assert_eq!(push_again(&mut consumer, &mut hub, now), [1]);
        assert_eq!(consumer.deadline_ns(), Some(next));
    }
}

#[test]
fn a_message_at_max_deliver_leaves_pending_once_and_holds_the_floor() {
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::Explicit, Options { max_deliver: 2, ..options() }), Recorder::default());
    push(&mut consumer, &mut hub, 1..=3, 0);
    assert_eq!(push_again(&mut consumer, &mut hub, WAIT), [1, 2, 3]);
    consumer.ack(&acks(&[(2, 5, "")]), WAIT);
    assert_eq!(push_again(&mut consumer, &mut hub, 2 * WAIT), [0u64; 0]);
    assert_eq!(consumer.num_ack_pending(), 2, "only expire gives up");
    assert_eq!(consumer.expire(2 * WAIT), [(1, 2), (3, 2)]);
    assert!(consumer.expire(9 * WAIT).is_empty());
    assert_eq!((consumer.num_ack_pending(), consumer.num_redelivered(), floor(&consumer)), (0, 2, (0, 0)));
    push(&mut consumer, &mut hub, 4..=5, 3 * WAIT);
    consumer.ack(&acks(&[(4, 7, "")]), 3 * WAIT);
    assert_eq!(floor(&consumer), (0, 0));
    let outcome = consumer.ack(&acks(&[(1, 4, "")]), 3 * WAIT);
    assert_eq!((outcome.settled, consumer.num_redelivered(), floor(&consumer)), (vec![1], 1, (2, 2)));
    consumer.ack(&acks(&[(5, 8, "")]), 3 * WAIT);
    assert_eq!((floor(&consumer), consumer.num_redelivered()), ((8, 5), 1));
}

#[test]
fn a_nak_at_max_deliver_gives_up_at_once() {
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::Explicit, Options { max_deliver: 1, ..options() }), Recorder::default());
    push(&mut consumer, &mut hub, [1], 0);
    assert!(!consumer.ack(&acks(&[(1, 1, "-NAK")]), 5).redeliver);
    assert_eq!((consumer.deadline_ns(), consumer.expire(5)), (Some(5), vec![(1, 1)]));
    assert_eq!(consumer.num_redelivered(), 0);
}

#[test]
fn a_lowered_max_deliver_holds_for_what_is_queued() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, [1], 0);
    consumer.expire(WAIT);
    consumer.configure(Options { max_deliver: 1, ..options() });
    hub.take();
    assert_eq!(push_again(&mut consumer, &mut hub, WAIT), [1]);
    assert!(hub.take().is_empty());
    assert_eq!((consumer.num_queued(), consumer.expire(WAIT)), (0, vec![(1, 1)]));
}

#[test]
fn a_changed_wait_shifts_what_waits() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, [1], 0);
    consumer.configure(Options { ack_wait_ns: 50, ..options() });
    assert_eq!(consumer.deadline_ns(), Some(50));
}

#[test]
fn next_acks_and_hands_over_the_request_without_a_confirmation() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=2, 0);
    let outcome = consumer.ack(&acks(&[(1, 1, "+NXT {\"batch\":3}"), (2, 2, "+NXT")]), 5);
    assert_eq!((outcome.settled.len(), outcome.confirmations()), (2, 0));
    assert_eq!(outcome.nexts[0], (b"r.1".to_vec(), b"{\"batch\":3}".to_vec()));
    assert_eq!(outcome.nexts[1], (b"r.2".to_vec(), Vec::new()));
}

#[test]
fn sampling_tells_when_a_message_was_delivered() {
    let (mut consumer, mut hub) =
        (consumer(AckPolicy::Explicit, Options { sampling: true, ..options() }), Recorder::default());
    push(&mut consumer, &mut hub, [1], 7);
    let outcome = consumer.ack(&acks(&[(1, 1, ""), (1, 1, "")]), 9);
    assert_eq!((outcome.acked.len(), outcome.acked[0].delivered_at_ns), (1, 7));
}

#[test]
fn deleted_messages_are_settled() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=5, 0);
    consumer.ack(&acks(&[(2, 2, "-NAK")]), 1);
    assert_eq!(consumer.forget(&[1, 9]).len(), 1);
    assert_eq!(floor(&consumer), (1, 1));
    let gone = consumer.forget_below(4);
    assert_eq!(gone.iter().map(|entry| (entry.consumer_seq, entry.stream_seq)).collect::<Vec<_>>(), [(2, 2), (3, 3)]);
    assert_eq!((consumer.next_seq(), consumer.num_queued(), floor(&consumer)), (6, 0, (3, 3)));
    consumer.forget_below(20);
    assert_eq!((consumer.next_seq(), consumer.num_ack_pending(), floor(&consumer)), (20, 0, (5, 5)));
}

#[test]
fn a_reset_begins_anew() {
    let (mut consumer, mut hub) = (consumer(AckPolicy::Explicit, options()), Recorder::default());
    push(&mut consumer, &mut hub, 1..=5, 0);
    consumer.reset(3);
    assert_eq!((consumer.next_seq(), consumer.num_ack_pending(), floor(&consumer)), (3, 0, (0, 2)));
    assert_eq!(consumer.ack(&acks(&[(4, 4, "")]), 1).confirmations(), 0);
    push(&mut consumer, &mut hub, 3..=4, 0);
    assert_eq!(hub.take().last().unwrap().numbers().2, 2);
}

#[test]
fn what_was_stored_is_restored() {
    let given = Options { max_deliver: 2, ..options() };
    let (mut before, mut hub) = (consumer(AckPolicy::Explicit, given.clone()), Recorder::default());
    push(&mut before, &mut hub, [1, 2, 4], 100);
    push_again(&mut before, &mut hub, 100 + WAIT);
    before.ack(&acks(&[(2, 5, "")]), 1200);
    push(&mut before, &mut hub, [900], 1300);
    before.expire(100 + 2 * WAIT);
    let stored = before.encode();
    let mut after = consumer(AckPolicy::Explicit, given);
    after.decode(&stored).unwrap();
    assert_eq!(after.encode(), stored);
    assert_eq!((after.next_seq(), after.delivered(), after.ack_floor()), (901, before.delivered(), before.ack_floor()));
    assert_eq!((after.num_ack_pending(), after.num_redelivered(), after.deadline_ns()), (1, 2, Some(1300 + WAIT)));
    for at in 0..stored.len() {
        assert!(after.decode(&stored[..at]).is_err());
        let mut damaged = stored.clone();
        damaged[at] ^= 4;
        assert!(after.decode(&damaged).is_err());
    }
    assert_eq!(after.encode(), stored, "a failed decode changes nothing");
}
