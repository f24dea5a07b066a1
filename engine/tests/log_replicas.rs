//! Replicas that apply the same entries know the same message ids, whichever of them start again between, and whenever.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failing unwrap is a failing test")]

use proptest::prelude::*;
use streamd_engine::batch::{Batch, Message};
use streamd_engine::log::{Identity, Limits, StreamState};

/// One replica, and what its store has.
struct Replica {
    limits: Limits,
    state: StreamState,
    records: Vec<Vec<u8>>,
    totals: Vec<u8>,
    /// Segments, and when they were written as far as this life knows.
    ids: Vec<(Vec<u8>, i64)>,
}

impl Replica {
    fn new(limits: &Limits) -> Replica {
        let mut state = StreamState::new(Identity::default(), limits.clone());
        let totals = state.delta().0;
        Replica { limits: limits.clone(), state, records: Vec::new(), totals, ids: Vec::new() }
    }

    /// What became of each message: how many were stored, were there already, and were refused.
    fn admit(&mut self, batch: &Batch, now_ns: i64) -> (u64, u64, u64) {
        let admission = self.state.admit(batch, now_ns);
        self.records.extend(admission.block.from_place(0).map(|(_, value)| value.to_vec()));
        if !admission.ids.is_empty() {
            let written_ns = self.state.last_ts_ns();
            self.ids.push((admission.ids.clone(), written_ns));
            let horizon_ns = written_ns - self.limits.duplicate_window_ns;
            self.ids.retain(|(_, at)| *at >= horizon_ns);
        }
        self.totals = self.state.delta().0;
        (admission.stored, admission.duplicates, admission.refused)
    }

    /// Another window, at the time of its entry; a kill comes after so many of its commits, and then it is applied again.
    fn configure(&mut self, limits: &Limits, now_ns: i64, kills: &[u8]) {
        for kill in kills.iter().copied().chain([u8::MAX]) {
            if self.limits != *limits {
                self.state.expire_ids(now_ns);
                let written_ns = self.state.last_ts_ns();
                self.ids =
                    Some((self.state.ids(), written_ns)).into_iter().filter(|(ids, _)| !ids.is_empty()).collect();
            }
            if kill >= 1 {
                self.limits = limits.clone();
            }
            if kill >= 2 {
                self.state.configure(limits.clone());
            }
            if kill < u8::MAX {
                self.crash();
            }
        }
    }

    fn crash(&mut self) {
        let (mut state, _) =
            StreamState::restore(Identity::default(), self.limits.clone(), None, [].into_iter(), Some(&self.totals))
                .unwrap();
        state.replay(&self.records.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        assert!(state.replayed());
        self.state = state;
        for (segment, at) in &mut self.ids {
            self.state.replay_ids(segment, self.state.last_ts_ns()).unwrap();
            *at = self.state.last_ts_ns();
        }
    }

    /// Its state, taken from another one that leads.
    fn fetch(&mut self, leader: &Replica) {
        self.limits = leader.limits.clone();
        self.records = leader.records.clone();
        self.totals = leader.totals.clone();
        let (snapshot, ids) = (leader.state.snapshot(), leader.state.ids());
        let (mut state, _) =
            StreamState::restore(Identity::default(), self.limits.clone(), Some(&snapshot), [].into_iter(), None)
                .unwrap();
        self.ids.clear();
        if !ids.is_empty() {
            state.replay_ids(&ids, 0).unwrap();
            self.ids.push((ids, state.last_ts_ns()));
        }
        self.state = state;
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Messages: with one of a few ids or none, and whether they expect what isn't so.
    Admit(Vec<(Option<u8>, bool)>),
    /// Time passes, or a leader's clock is behind.
    Wait(i64),
    Configure(i64, Vec<u8>),
    Crash(usize),
    Fetch,
}

fn step() -> impl Strategy<Value = Step> {
    let message = (prop_oneof![1 => Just(None), 2 => (0u8..3).prop_map(Some)], prop::bool::weighted(0.2));
    prop_oneof![
        6 => prop::collection::vec(message, 0..3).prop_map(Step::Admit),
        4 => prop_oneof![3 => 0i64..60, 1 => -60i64..0].prop_map(Step::Wait),
        2 => (prop_oneof![Just(0i64), Just(30), Just(50), Just(200)], prop::collection::vec(0u8..3, 0..2))
            .prop_map(|(window_ns, kills)| Step::Configure(window_ns, kills)),
        3 => (1usize..3).prop_map(Step::Crash),
        1 => Just(Step::Fetch),
    ]
}

fn batch_of(messages: &[(Option<u8>, bool)]) -> Batch {
    let mut batch = Batch::default();
    for (id, refused) in messages {
        let id = id.map(|id| format!("Nats-Msg-Id: {id}\r\n")).unwrap_or_default();
        let expected = if *refused { "Nats-Expected-Last-Sequence: 9999999\r\n" } else { "" };
        let headers = format!("NATS/1.0\r\n{id}{expected}\r\n");
        batch.push(Message { subject: b"a", headers: headers.as_bytes(), payload: b"x", ..Message::default() });
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_know_the_same_message_ids(steps in prop::collection::vec(step(), 1..60)) {
        let mut limits = Limits { duplicate_window_ns: 50, ..Limits::default() };
        // The first one never starts again.
        let mut replicas = [Replica::new(&limits), Replica::new(&limits), Replica::new(&limits)];
        let mut now_ns = 1000;
        for step in steps {
            match step {
                Step::Admit(messages) => {
                    let batch = batch_of(&messages);
                    let [first, second, third] = replicas.each_mut().map(|replica| replica.admit(&batch, now_ns));
                    prop_assert_eq!(first, second);
                    prop_assert_eq!(first, third);
                }
                Step::Wait(by) => now_ns += by,
                Step::Configure(window_ns, kills) => {
                    limits.duplicate_window_ns = window_ns;
                    let [first, second, third] = &mut replicas;
                    first.configure(&limits, now_ns, &[]);
                    second.configure(&limits, now_ns, &kills);
                    third.configure(&limits, now_ns, &[]);
                }
                Step::Crash(which) => replicas[which].crash(),
                Step::Fetch => {
                    let [_, second, third] = &mut replicas;
                    third.fetch(second);
                }
            }
            prop_assert_eq!(replicas[0].state.last_seq(), replicas[1].state.last_seq());
            prop_assert_eq!(replicas[0].state.last_seq(), replicas[2].state.last_seq());
        }
    }
}
