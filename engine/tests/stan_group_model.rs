//! A NATS Streaming subscription or queue group against a naive model.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod stan_model;
mod wire;

use std::collections::HashSet;

use proptest::prelude::*;
use stan_model::{Model, MS};
use streamd_engine::batch::{Batch, Message};
use streamd_engine::consumer::Blocked;
use streamd_engine::stan::{Group, Member};
use wire::{ack_of, Delivered, Wire, ACCOUNT, CHANNEL};

const BEGIN: i64 = 1_700_000_000_000 * MS;

#[derive(Clone, Debug)]
enum Op {
    /// Messages are stored, each so many sequences after the one before.
    Store(Vec<u64>),
    /// Send at most so many new ones; the flag: the receiver can't keep up.
    Send(usize, bool),
    /// Time passes, and at most so many of what is due are sent again; of those only so many get through.
    Again(i64, usize, usize),
    /// A member joins: ack wait in ms, max in flight.
    Join(i64, u64),
    Leave(usize),
    Failing(usize, bool),
    /// Nobody listens for a member any more, or somebody does and it is told; only of a patient group.
    Deaf(usize),
    Hears(usize),
    /// Acks: how far behind the next sequence, and of what kind.
    Ack(Vec<(u64, AckKind)>),
    Forget(Vec<u64>),
    ForgetBelow(u64),
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum AckKind {
    Right,
    Twice,
    OtherChannel,
    Broken,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        8 => Just(AckKind::Right),
        1 => Just(AckKind::Twice),
        1 => Just(AckKind::OtherChannel),
        1 => Just(AckKind::Broken),
    ];
    let time = prop_oneof![2 => 0..30 * MS, 2 => 0..400 * MS, 1 => 0..3000 * MS, 1 => Just(100 * MS)];
    prop_oneof![
        4 => prop::collection::vec(prop_oneof![4 => Just(1u64), 1 => 1u64..9], 1..8).prop_map(Op::Store),
        8 => (1usize..9, prop::bool::weighted(0.1)).prop_map(|(most, slow)| Op::Send(most, slow)),
        8 => (time, 0usize..9, 0usize..9).prop_map(|(time, limit, sent)| Op::Again(time, limit, sent.max(limit / 2))),
        3 => (prop_oneof![Just(100i64), 100i64..1000], 1u64..6).prop_map(|(wait, most)| Op::Join(wait, most)),
        2 => (0usize..8).prop_map(Op::Leave),
        1 => (0usize..8, any::<bool>()).prop_map(|(which, failing)| Op::Failing(which, failing)),
        2 => (0usize..8).prop_map(Op::Deaf),
        2 => (0usize..8).prop_map(Op::Hears),
        6 => prop::collection::vec((0u64..24, kind), 1..6).prop_map(Op::Ack),
        1 => prop::collection::vec(0u64..24, 1..4).prop_map(Op::Forget),
        1 => (0u64..24).prop_map(Op::ForgetBelow),
        1 => Just(Op::Restart),
    ]
}

fn compare(group: &mut Group, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(group.next_seq(), model.next_seq);
    prop_assert_eq!(group.num_pending(), model.held.len());
    prop_assert_eq!(group.num_queued(), model.again.len());
    let deadline = model.expiries().min().filter(|_| !model.members.is_empty());
    prop_assert_eq!(group.deadline_ns(), deadline);
    let held: Vec<_> = group
        .pending()
        .map(|entry| (entry.stream_seq, entry.member, entry.deliveries, entry.delivered_at_ns))
        .collect();
    let wanted: Vec<_> = model.held.iter().map(|held| (held.seq, held.holder, held.deliveries, held.since)).collect();
    prop_assert_eq!(held, wanted);
    let members: Vec<_> =
        group.members().iter().map(|one| (one.number, one.pending, one.failing, one.absent)).collect();
    let wanted: Vec<_> =
        model.members.iter().map(|who| (who.number, model.pending(who.number), who.failing, who.absent)).collect();
    prop_assert_eq!(members, wanted);
    prop_assert_eq!(group.stalled(), model.members.iter().all(|who| model.stalled(who)));
    Ok(())
}

fn acks(rows: &[(u64, AckKind)]) -> Batch {
    let mut batch = Batch::default();
    for (seq, kind) in rows {
        let payload = match kind {
            AckKind::OtherChannel => ack_of("other", *seq),
            AckKind::Broken => vec![0x0a, 9, 1],
            _ => ack_of(CHANNEL, *seq),
        };
        for _ in 0..if *kind == AckKind::Twice { 2 } else { 1 } {
            batch.push(Message { subject: b"_INBOX.acks", payload: &payload, ..Message::default() });
        }
    }
    batch
}

/// What is in the channel, and what the last test step may aim at.
struct World {
    group: Group,
    model: Model,
    wire: Wire,
    stored: Vec<u64>,
    now: i64,
    numbers: u32,
}

impl World {
    fn new(queue: bool, patient: bool) -> World {
        let (deaf, held, again, members) = (HashSet::new(), Vec::new(), Vec::new(), Vec::new());
        World {
            group: Group::new(CHANNEL.as_bytes(), queue, patient, 1),
            model: Model { queue, patient, deaf, next_seq: 1, held, again, members },
            wire: Wire::default(),
            stored: Vec::new(),
            now: BEGIN,
            numbers: 0,
        }
    }

    fn aim(&self, back: u64) -> u64 {
        (self.model.next_seq + 1).saturating_sub(back)
    }

    fn which(&self, choice: usize) -> Option<u32> {
        let members = &self.model.members;
        (!members.is_empty()).then(|| members[choice % members.len()].number)
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Store(steps) => {
                for step in steps {
                    self.stored.push(self.stored.last().unwrap_or(&0) + step);
                }
            }
            Op::Send(most, slow) => self.send(most, slow)?,
            Op::Again(time, limit, through) => self.again(time, limit, through)?,
            Op::Join(wait, most) => {
                if !self.model.queue && !self.model.members.is_empty() {
                    return Ok(());
                }
                self.numbers += 1;
                let inbox = format!("inbox.{}", self.numbers).into_bytes();
                let (number, ack_wait_ns) = (self.numbers, wait * MS);
                let who = Member {
                    number,
                    inbox,
                    ack_wait_ns,
                    max_in_flight: most,
                    pending: 0,
                    failing: false,
                    absent: false,
                };
                self.group.join(who.clone());
                self.model.join(who);
            }
            Op::Leave(choice) => {
                if let Some(number) = self.which(choice) {
                    self.group.leave(number, self.now);
                    self.model.leave(number, self.now);
                }
            }
            Op::Failing(choice, failing) => {
                if let Some(number) = self.which(choice) {
                    self.group.set_failing(number, failing);
                    self.model.member(number).failing = failing;
                }
            }
            Op::Deaf(choice) => {
                if let Some(number) = self.which(choice).filter(|_| self.model.patient) {
                    self.model.deaf.insert(number);
                    self.wire.deaf.insert(format!("inbox.{number}"));
                }
            }
            Op::Hears(choice) => {
                if let Some(number) = self.which(choice) {
                    self.model.deaf.remove(&number);
                    self.wire.deaf.remove(&format!("inbox.{number}"));
                    self.model.member(number).absent = false;
                    self.group.set_present(number);
                }
            }
            Op::Ack(rows) => {
                let rows: Vec<_> = rows.iter().map(|(back, kind)| (self.aim(*back), *kind)).collect();
                let done = self.group.ack(&acks(&rows));
                let is_foreign = |kind: AckKind| matches!(kind, AckKind::OtherChannel | AckKind::Broken);
                let settled = rows.iter().filter(|(seq, kind)| !is_foreign(*kind) && self.model.settle(*seq)).count();
                prop_assert_eq!(done.settled, settled as u64);
                prop_assert_eq!(done.foreign, rows.iter().filter(|(_, kind)| is_foreign(*kind)).count() as u64);
            }
            Op::Forget(backs) => {
                let sequences: Vec<_> = backs.iter().map(|back| self.aim(*back)).collect();
                let gone = sequences.iter().filter(|seq| self.model.settle(**seq)).count();
                prop_assert_eq!(self.group.forget(&sequences), gone);
                self.stored.retain(|seq| !sequences.contains(seq) || *seq >= self.model.next_seq);
            }
            Op::ForgetBelow(back) => {
                let below = self.aim(back);
                let gone = (0..below).filter(|seq| self.model.settle(*seq)).count();
                prop_assert_eq!(self.group.forget_below(below), gone);
                self.model.next_seq = self.model.next_seq.max(below);
            }
            Op::Restart => {
                let state = self.group.encode();
                self.group = Group::new(CHANNEL.as_bytes(), self.model.queue, self.model.patient, 1);
                self.model.restart();
                self.model.members.iter().for_each(|who| self.group.join(who.clone()));
                self.group.decode(&state).unwrap();
                prop_assert_eq!(self.group.encode(), state);
            }
        }
        Ok(())
    }

    /// New messages from the log.
    fn send(&mut self, most: usize, slow: bool) -> Result<(), TestCaseError> {
        let next = self.model.next_seq;
        let sequences: Vec<u64> = self.stored.iter().copied().filter(|seq| *seq >= next).take(most).collect();
        self.wire.congested = u64::from(slow) * 7;
        let now = self.now;
        let done = self.group.deliver(&mut self.wire, ACCOUNT, &wire::values(&sequences), now, 1 << 20, false).unwrap();
        self.wire.congested = 0;
        let mut wanted = Vec::new();
        let mut blocked = Blocked::No;
        for seq in &sequences {
            let Some(number) = self.model.first(*seq, now) else {
                let away = self.model.members.iter().all(|who| who.absent);
                blocked = if away { Blocked::Interest } else { Blocked::AckPending };
                break;
            };
            let most = self.model.members.iter().find(|who| who.number == number).unwrap().max_in_flight;
            prop_assert!(self.model.pending(number) <= most, "a window that holds too many");
            wanted.push(Delivered::first(number, *seq));
            if slow {
                blocked = Blocked::Congested;
                break;
            }
        }
        prop_assert_eq!(done.delivered, wanted.len());
        prop_assert_eq!(done.blocked, blocked);
        prop_assert_eq!(self.wire.take(), wanted);
        Ok(())
    }

    fn again(&mut self, time: i64, limit: usize, through: usize) -> Result<(), TestCaseError> {
        self.now += time;
        let due = self.group.due(self.now, limit);
        prop_assert_eq!(&due, &self.model.due(self.now, limit));
        let sent = &due[..through.min(due.len())];
        let done = self.group.deliver(&mut self.wire, ACCOUNT, &wire::values(sent), self.now, 1 << 20, true).unwrap();
        let mut wanted = Vec::new();
        for seq in sent {
            let Some((number, deliveries)) = self.model.again(*seq, self.now) else { break };
            wanted.push(Delivered::again(number, *seq, deliveries - 1));
        }
        prop_assert_eq!((done.delivered, done.consumed), (wanted.len(), wanted.len()));
        prop_assert_eq!(done.blocked == Blocked::Interest, wanted.len() < sent.len());
        prop_assert_eq!(self.wire.take(), wanted);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_does(
        queue in prop::bool::weighted(0.7),
        patient in any::<bool>(),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        let mut world = World::new(queue, patient);
        for op in ops {
            world.step(op)?;
            compare(&mut world.group, &world.model)?;
        }
    }

    #[test]
    fn a_flipped_bit_is_found(ops in prop::collection::vec(op(), 1..40), place: prop::sample::Index, bit in 0u8..8) {
        let mut world = World::new(true, false);
        for op in ops {
            world.step(op)?;
        }
        let mut state = world.group.encode();
        let place = place.index(state.len());
        state[place] ^= 1 << bit;
        let before = world.group.encode();
        prop_assert!(world.group.decode(&state).is_err());
        prop_assert_eq!(world.group.encode(), before, "nothing has changed");
    }

    #[test]
    fn garbage_is_refused_without_a_panic(
        mut data in prop::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..80),
        sound in prop::bool::weighted(0.9),
    ) {
        if sound && data.len() >= 5 {
            data[4] = 1;
            let checksum = crc32c::crc32c(&data[4..]);
            data[..4].copy_from_slice(&checksum.to_le_bytes());
        }
        let mut world = World::new(true, false);
        world.step(Op::Join(100, 2))?;
        if world.group.decode(&data).is_ok() {
            // What is taken for sound must work.
            let due = world.group.due(i64::MAX, 100);
            world.group.deliver(&mut world.wire, ACCOUNT, &wire::values(&due), i64::MAX, 1 << 20, true).unwrap();
            world.group.encode();
            world.group.leave(1, i64::MAX);
            world.group.forget_below(u64::MAX);
            prop_assert_eq!(world.group.num_pending(), 0);
        }
    }
}
