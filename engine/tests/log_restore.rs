//! What a store keeps of a state is enough for its way back, whatever else was asked of the state meanwhile.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failing unwrap is a failing test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::record;
use streamd_engine::log::{Identity, Limits, StreamState};

/// A state, and what a store holds of it.
struct Stored {
    limits: Limits,
    state: StreamState,
    records: BTreeMap<u64, Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
    removals: Vec<Vec<u8>>,
    totals: Vec<u8>,
}

impl Stored {
    fn new(first_seq: u64, limits: Limits) -> Stored {
        let identity = Identity { name: "S".into(), first_seq, ..Identity::default() };
        let mut stored = Stored {
            state: StreamState::new(identity, limits.clone()),
            limits,
            records: BTreeMap::new(),
            checkpoint: None,
            removals: Vec::new(),
            totals: Vec::new(),
        };
        stored.commit();
        stored
    }

    fn commit(&mut self) {
        let (totals, removals) = self.state.delta();
        self.totals = totals;
        self.removals.extend(Some(removals).filter(|block| !block.is_empty()));
    }

    fn checkpoint(&mut self) {
        self.commit();
        self.checkpoint = Some(self.state.checkpoint());
        self.removals.clear();
    }

    fn publish(&mut self, count: usize) {
        let mut batch = Batch::default();
        for place in 0..count {
            let subject = [&b"a"[..], b"b", b"c"][place % 3];
            batch.push(Message { subject, payload: b"x", ..Message::default() });
        }
        let admission = self.state.admit(&batch, 1000);
        self.records.extend(admission.block.from_place(0).map(|(sequence, value)| (sequence, value.to_vec())));
        admission.deletes.iter().for_each(|sequence| drop(self.records.remove(sequence)));
        self.commit();
    }

    fn remove(&mut self, sequence: u64) {
        let value = self.records.remove(&sequence).unwrap();
        self.state.remove(&[&value]).unwrap();
        self.commit();
    }

    /// As after a kill -9: the definition that is stored says nothing of where the log began.
    fn crash(&mut self) {
        let blocks = self.removals.iter().map(Vec::as_slice);
        let identity = Identity { name: "S".into(), ..Identity::default() };
        let checkpoint = self.checkpoint.as_deref();
        let (mut state, from) =
            StreamState::restore(identity, self.limits.clone(), checkpoint, blocks, Some(&self.totals)).unwrap();
        let values: Vec<&[u8]> = self.records.range(from..).map(|(_, value)| value.as_slice()).collect();
        state.replay(&values).unwrap();
        assert!(state.replayed(), "the parts disagree");
        assert_eq!(self.state.subjects(b">", 0, 100), state.subjects(b">", 0, 100));
        assert_eq!(self.state.deleted(100), state.deleted(100));
        assert!(!self.limits.needs_queues() || !state.configure(self.limits.clone()), "it has the queues it needs");
        self.state = state;
        self.compare();
    }

    /// Other limits, as a store has them first: the state takes them on if nothing comes between.
    fn configure(&mut self, limits: Limits, crash: bool) {
        self.limits = limits;
        if crash {
            self.crash();
        }
        if self.state.configure(self.limits.clone()) {
            let from = self.state.rebuild();
            let values: Vec<&[u8]> = self.records.range(from..).map(|(_, value)| value.as_slice()).collect();
            self.state.replay(&values).unwrap();
            assert!(self.state.replayed());
        }
        self.commit();
    }

    fn compare(&self) {
        let sizes = self.records.values().map(|value| record::decode(value).unwrap().subject.len() as u64 + 31);
        assert_eq!((self.records.len() as u64, sizes.sum::<u64>()), (self.state.messages(), self.state.bytes()));
        assert_eq!(
            self.records.keys().next().copied().unwrap_or(self.state.last_seq() + 1),
            self.state.first_seq().max(1)
        );
    }
}

/// With a limit per subject, or without.
fn limits(per_subject: bool) -> Limits {
    Limits { max_msgs_per_subject: if per_subject { 8 } else { -1 }, ..Limits::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Remove(usize),
    Reset,
    Configure(bool, bool),
    Checkpoint,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..9).prop_map(Step::Publish),
        4 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Reset),
        2 => any::<(bool, bool)>().prop_map(|(per_subject, crash)| Step::Configure(per_subject, crash)),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limits_may_begin_to_need_queues(steps in prop::collection::vec(step(), 1..40), per_subject: bool) {
        let mut stored = Stored::new(1, limits(per_subject));
        for step in steps {
            match step {
                Step::Publish(count) => stored.publish(count),
                Step::Remove(place) => {
                    let keys: Vec<u64> = stored.records.keys().copied().collect();
                    if !keys.is_empty() {
                        stored.remove(keys[place % keys.len()]);
                    }
                }
                Step::Reset => {
                    stored.records.clear();
                    stored.state.reset(stored.state.last_seq() + 1);
                    stored.commit();
                }
                Step::Configure(per_subject, crash) => stored.configure(limits(per_subject), crash),
                Step::Checkpoint => stored.checkpoint(),
                Step::Crash => stored.crash(),
            }
            stored.compare();
        }
        stored.crash();
    }
}

#[test]
fn what_was_sent_to_somebody_else_is_no_checkpoint() {
    for checkpoint in [false, true] {
        let mut stored = Stored::new(1, Limits::default());
        stored.publish(20);
        if checkpoint {
            stored.checkpoint();
        }
        stored.publish(20);
        let snapshot = stored.state.snapshot();
        assert_eq!(snapshot, stored.state.snapshot());
        for sequence in [1, 2, 25, 30] {
            stored.remove(sequence);
        }
        stored.crash();
        stored.checkpoint();
        assert_eq!(stored.checkpoint, Some(stored.state.snapshot()), "they are the same bytes");
    }
}

#[test]
fn a_log_that_begins_later_comes_back() {
    for first_seq in [1, 2, 100] {
        let mut stored = Stored::new(first_seq, Limits::default());
        stored.crash();
        stored.publish(5);
        stored.crash();
        stored.remove(first_seq);
        stored.remove(first_seq + 2);
        stored.crash();
        stored.publish(5);
        stored.checkpoint();
        stored.crash();
        assert_eq!((first_seq + 1, first_seq + 9), (stored.state.first_seq(), stored.state.last_seq()));
    }
}
