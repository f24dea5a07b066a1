//! A NATS Streaming subscription or queue group, rule by rule.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod wire;

use streamd_engine::batch::{Batch, Message};
use streamd_engine::stan::{Group, Member};
use wire::{ack_of, Wire, ACCOUNT, CHANNEL};

const MS: i64 = 1_000_000;
const BEGIN: i64 = 1_700_000_000_000 * MS;

struct World {
    group: Group,
    wire: Wire,
    numbers: u32,
}

/// A group whose members joined before anything was sent: (ack wait in ms, max in flight) of each.
fn group_of(queue: bool, members: &[(i64, u64)]) -> World {
    world_of(queue, false, members)
}

fn world_of(queue: bool, patient: bool, members: &[(i64, u64)]) -> World {
    let group = Group::new(CHANNEL.as_bytes(), queue, patient, 1);
    let mut world = World { group, wire: Wire::default(), numbers: 0 };
    for (wait, most) in members {
        world.join(*wait, *most);
    }
    world
}

impl World {
    fn join(&mut self, wait_ms: i64, max_in_flight: u64) {
        self.numbers += 1;
        self.group.join(Member {
            number: self.numbers,
            inbox: format!("inbox.{}", self.numbers).into_bytes(),
            ack_wait_ns: wait_ms * MS,
            max_in_flight,
            pending: 0,
            failing: false,
            absent: false,
        });
    }

    /// Hand over new messages at a time in ms; returns who got which.
    fn publish(&mut self, ms: i64, sequences: std::ops::RangeInclusive<u64>) -> Vec<(u32, u64)> {
        let values = wire::values(&sequences.collect::<Vec<_>>());
        self.group.deliver(&mut self.wire, ACCOUNT, &values, BEGIN + ms * MS, 1 << 20, false).unwrap();
        self.wire.take().into_iter().map(|one| (one.member, one.sequence)).collect()
    }

    /// What comes again at a time in ms: (member, sequence, count).
    fn at(&mut self, ms: i64) -> Vec<(u32, u64, u32)> {
        let now = BEGIN + ms * MS;
        let due = self.group.due(now, 100);
        self.group.deliver(&mut self.wire, ACCOUNT, &wire::values(&due), now, 1 << 20, true).unwrap();
        self.wire.take().into_iter().map(|one| (one.member, one.sequence, one.count)).collect()
    }

    fn ack(&mut self, sequences: &[u64]) {
        let mut batch = Batch::default();
        for sequence in sequences {
            let payload = &ack_of(CHANNEL, *sequence);
            batch.push(Message { subject: b"_INBOX.acks", payload, ..Message::default() });
        }
        self.group.ack(&batch);
    }
}

#[test]
fn the_member_with_the_fewest_pending_gets_the_next() {
    let mut world = group_of(true, &[(1000, 100)]);
    assert_eq!(world.publish(0, 1..=4), [(1, 1), (1, 2), (1, 3), (1, 4)]);
    world.join(1000, 100);
    assert_eq!(world.publish(0, 5..=8), [(2, 5), (2, 6), (2, 7), (2, 8)]);
    assert_eq!(world.publish(0, 9..=12), [(1, 9), (2, 10), (1, 11), (2, 12)]);
}

#[test]
fn the_period_is_exactly_the_ack_wait() {
    let mut world = group_of(false, &[(1000, 1)]);
    assert_eq!(world.publish(0, 1..=2), [(1, 1)], "the window is one");
    assert_eq!(world.at(999), []);
    // However late or early the timer is.
    assert_eq!(world.at(1300), [(1, 1, 1)]);
    assert_eq!(world.at(1999), []);
    assert_eq!(world.at(2000), [(1, 1, 2)]);
    assert_eq!(world.group.deadline_ns(), Some(BEGIN + 3000 * MS));
    // But what is more than a period late isn't made up for.
    assert_eq!(world.at(9500), [(1, 1, 3)]);
    assert_eq!(world.group.deadline_ns(), Some(BEGIN + 10_500 * MS));
}

#[test]
fn a_sweep_takes_what_is_due_within_15_ms() {
    let mut world = group_of(false, &[(1000, 100)]);
    for (seq, ms) in [(1, 0), (2, 15), (3, 16)] {
        world.publish(ms, seq..=seq);
    }
    assert_eq!(world.at(1000), [(1, 1, 1), (1, 2, 1)]);
    assert_eq!(world.at(1015), []);
    assert_eq!(world.at(1016), [(1, 3, 1)]);
    // The early one keeps its period.
    assert_eq!(world.at(2000), [(1, 1, 2), (1, 2, 2)]);
}

#[test]
fn what_a_leaving_member_held_moves_in_100_ms_and_its_counts_go_on() {
    let mut world = group_of(true, &[(1000, 100), (1000, 100), (1000, 100)]);
    world.publish(0, 1..=6);
    assert_eq!(world.at(1000).len(), 6);
    let held: Vec<u64> =
        world.group.pending().filter(|entry| entry.member == 1).map(|entry| entry.stream_seq).collect();
    assert_eq!(held.len(), 2);
    world.group.leave(1, BEGIN + 1200 * MS);
    assert_eq!(world.group.members().iter().map(|member| member.pending).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(world.at(1299), []);
    let moved = world.at(1300);
    assert_eq!(moved.iter().map(|(_, seq, count)| (*seq, *count)).collect::<Vec<_>>(), [(held[0], 2), (held[1], 2)]);
    assert!(moved.iter().all(|(member, ..)| [2, 3].contains(member)));
}

#[test]
fn who_resumes_gets_all_that_is_pending_at_once_in_order() {
    let mut world = group_of(false, &[(1000, 5)]);
    world.publish(0, 1..=4);
    world.publish(500, 5..=5);
    world.ack(&[1, 3]);
    assert_eq!(world.at(1000), [(1, 2, 1), (1, 4, 1)]);
    // The last one is queued already.
    assert_eq!(world.group.due(BEGIN + 1500 * MS, 10), [5]);
    world.group.leave(1, BEGIN + 1600 * MS);
    assert_eq!(world.at(10_000), [], "there is nobody");
    assert_eq!(world.group.deadline_ns(), None);

    world.join(500, 2);
    assert_eq!(world.at(10_100), [(2, 2, 2), (2, 4, 2), (2, 5, 1)]);
    assert!(world.group.stalled());
    assert_eq!(world.publish(10_100, 6..=6), [], "beyond the window only what comes again");
    world.ack(&[2, 5]);
    assert_eq!(world.publish(10_100, 6..=6), [(2, 6)]);
}

#[test]
fn who_resumes_has_the_whole_ack_wait() {
    let mut world = group_of(false, &[(1000, 5)]);
    world.publish(0, 1..=1);
    world.group.leave(1, BEGIN + 900 * MS);
    world.join(1000, 5);
    assert_eq!(world.at(990), [(2, 1, 1)]);
    assert_eq!(world.at(1989), []);
    assert_eq!(world.at(1990), [(2, 1, 2)]);
}

#[test]
fn the_first_sweep_after_a_restart_keeps_the_members() {
    let mut world = group_of(true, &[(1000, 100)]);
    world.publish(0, 1..=4);
    world.at(1000);
    world.join(1000, 100);
    let state = world.group.encode();
    world = group_of(true, &[(1000, 100), (1000, 100)]);
    world.group.decode(&state).unwrap();
    world.group.set_failing(1, true);
    assert_eq!(world.at(2000), [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1)], "counts begin anew");
    // From then on, with or without new messages, whoever answers gets them.
    assert_eq!(world.at(3000), [(2, 1, 2), (2, 2, 2), (2, 3, 2), (2, 4, 2)]);
}

#[test]
fn new_messages_go_on_when_all_clients_fail_their_heartbeats() {
    let mut world = group_of(true, &[(1000, 1), (1000, 2)]);
    world.group.set_failing(1, true);
    assert_eq!(world.publish(0, 1..=1), [(2, 1)]);
    world.group.set_failing(2, true);
    assert_eq!(world.publish(0, 2..=4), [(1, 2), (2, 3)], "up to their windows");
}

#[test]
fn redelivery_to_a_silent_client_waits() {
    let mut world = group_of(false, &[(1000, 5)]);
    world.publish(0, 1..=1);
    world.group.set_failing(1, true);
    assert_eq!(world.at(1000), []);
    assert_eq!(world.publish(1500, 2..=2), [(1, 2)], "new ones don't");
    world.group.set_failing(1, false);
    assert_eq!(world.at(1999), []);
    assert_eq!(world.at(2000), [(1, 1, 1)]);
}

#[test]
fn what_nobody_is_there_to_get_waits_until_somebody_is() {
    let mut world = world_of(false, true, &[(1000, 100)]);
    assert_eq!(world.publish(0, 1..=2), [(1, 1), (1, 2)]);
    world.wire.deaf.insert("inbox.1".into());
    assert_eq!(world.publish(10, 3..=4), []);
    assert_eq!((world.group.next_seq(), world.group.num_pending()), (3, 2));
    assert_eq!(world.group.absent().collect::<Vec<_>>(), [1]);
    assert_eq!(world.at(1000), [], "nor does anything come again");
    world.wire.deaf.clear();
    assert_eq!(world.publish(1001, 3..=4), [], "it isn't asked for each message");
    world.group.set_present(1);
    assert_eq!(world.at(1002), [(1, 1, 1), (1, 2, 1)], "not counted as sent in vain");
    assert_eq!(world.publish(1003, 3..=4), [(1, 3), (1, 4)]);
    assert_eq!(world.at(2003), [(1, 1, 2), (1, 2, 2), (1, 3, 1), (1, 4, 1)]);
}

#[test]
fn members_that_are_there_get_what_others_are_not_there_for() {
    let mut world = world_of(true, true, &[(1000, 2), (1000, 100)]);
    world.wire.deaf.insert("inbox.2".into());
    assert_eq!(world.publish(0, 1..=3), [(1, 1), (1, 2)]);
    assert_eq!(world.group.absent().collect::<Vec<_>>(), [2]);
    world.wire.deaf.insert("inbox.1".into());
    assert_eq!(world.at(1000), []);
    assert_eq!(world.group.absent().count(), 2);
    world.wire.deaf.clear();
    world.group.set_present(2);
    assert_eq!(world.at(1001), [(2, 1, 1), (2, 2, 1)]);
    assert_eq!(world.publish(1001, 3..=3), [(2, 3)]);
    // One that isn't patient sends to nobody, and waits for the ack.
    let mut world = group_of(false, &[(1000, 100)]);
    world.wire.deaf.insert("inbox.1".into());
    assert_eq!((world.publish(0, 1..=1), world.group.num_pending(), world.group.absent().count()), (vec![], 1, 0));
}
