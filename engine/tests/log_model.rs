//! The log's state against a naive model that keeps every message, with crashes at any moment.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failing unwrap is a failing test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::record::{self, Record};
use streamd_engine::log::{Identity, Limits, StreamState};
use streamd_engine::publish::{Outgoing, Publisher, Sent};
use streamd_engine::subject;

const WINDOW_NS: i64 = 50;

#[derive(Default)]
struct Replies(Vec<(String, String)>);

impl Publisher for Replies {
    fn publish(&mut self, account: &str, message: Outgoing<'_>) -> Sent {
        assert_eq!("$G", account);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        self.0.push((text(message.to.to_vec()), text(message.payload.concat())));
        Sent::default()
    }

    fn interest(&mut self, _: &str, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
struct Publish {
    subject: u8,
    size: u8,
    id: Option<u8>,
    rollup: Option<&'static str>,
    last_seq: Option<i8>,
    last_subject_seq: Option<i8>,
}

#[derive(Clone, Debug)]
enum Step {
    Admit(Vec<Publish>),
    Trim(u64),
    Remove(Vec<u8>),
    Reset(u64),
    Checkpoint,
    Crash,
    Wait(i64),
    Rebuild,
}

fn publish() -> impl Strategy<Value = Publish> {
    let rollup = prop_oneof![20 => Just(None), 1 => Just(Some("sub")), 1 => Just(Some("all")), 1 => Just(Some("x"))];
    let expected = || prop_oneof![9 => Just(None), 1 => (-1i8..2).prop_map(Some)];
    let id = prop_oneof![3 => Just(None), 1 => (0u8..6).prop_map(Some)];
    (0u8..5, any::<u8>(), id, rollup, expected(), expected()).prop_map(
        |(subject, size, id, rollup, last_seq, last_subject_seq)| Publish {
            subject,
            size,
            id,
            rollup,
            last_seq,
            last_subject_seq,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(publish(), 0..8).prop_map(Step::Admit),
        2 => (0u64..6).prop_map(Step::Trim),
        3 => prop::collection::vec(any::<u8>(), 1..5).prop_map(Step::Remove),
        1 => (0u64..4).prop_map(Step::Reset),
        3 => Just(Step::Checkpoint),
        3 => Just(Step::Crash),
        2 => (0i64..40).prop_map(Step::Wait),
        1 => Just(Step::Rebuild),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = |range: std::ops::Range<i64>| prop_oneof![1 => Just(-1), 1 => range];
    let age = prop_oneof![2 => Just(0), 1 => 30i64..90];
    (limit(1..12), limit(100..2500), limit(1..4), limit(60..200), age, any::<[bool; 6]>()).prop_map(
        |(max_msgs, max_bytes, max_msgs_per_subject, max_msg_size, max_age_ns, flags)| Limits {
            max_msgs,
            max_bytes,
            max_msgs_per_subject,
            max_msg_size,
            max_age_ns,
            discard_new: flags[0],
            discard_new_per_subject: flags[0] && flags[1],
            duplicate_window_ns: if flags[2] { WINDOW_NS } else { 0 },
            allow_rollup: flags[3],
            deny_purge: flags[4] && flags[5],
            ..Limits::default()
        },
    )
}

#[derive(Clone, Debug)]
struct Held {
    subject: String,
    size: u64,
    timestamp_ns: i64,
}

/// What a naive reader of the rules would keep.
struct Model {
    limits: Limits,
    memory: bool,
    held: BTreeMap<u64, Held>,
    first_seq: u64,
    last_seq: u64,
    ids: Vec<(String, u64, i64)>,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.held.values().map(|held| held.size).sum()
    }

    fn settle(&mut self) {
        self.first_seq = self.held.keys().next().copied().unwrap_or(self.last_seq + 1);
    }

    fn of(&self, subject: &str) -> Vec<u64> {
        self.held.iter().filter(|(_, held)| held.subject == subject).map(|(sequence, _)| *sequence).collect()
    }

    fn over(&self) -> bool {
        let above = |limit: i64, value: u64| limit > 0 && value > limit as u64;
        above(self.limits.max_msgs, self.held.len() as u64) || above(self.limits.max_bytes, self.bytes())
    }

    /// The ack that a message gets.
    fn admit(
        &mut self,
        publish: &Publish,
        expected: (Option<u64>, Option<u64>),
        now_ns: i64,
        sizes: (usize, usize),
    ) -> String {
        let error = |code: u32, err_code: u32, text: String| {
            format!("{{\"error\":{{\"code\":{code},\"err_code\":{err_code},\"description\":\"{text}\"}},\"stream\":\"S\",\"seq\":0}}")
        };
        let limits = self.limits.clone();
        let subject = subject_of(publish);
        let (headers, payload) = sizes;
        if limits.max_msg_size >= 0 && (headers + payload) as i64 > limits.max_msg_size {
            return error(400, 10054, "message size exceeds maximum allowed".into());
        }
        let lasts = self.of(&subject);
        let last = lasts.last().copied().unwrap_or(0);
        if expected.1.is_some_and(|expected| expected != last) {
            return error(400, 10071, format!("wrong last sequence: {last}"));
        }
        if expected.0.is_some_and(|expected| expected != self.last_seq) {
            return error(400, 10071, format!("wrong last sequence: {}", self.last_seq));
        }
        let id = publish.id.map(|id| format!("id{id}"));
        if let (Some(id), true) = (&id, limits.duplicate_window_ns > 0) {
            let seen = self.ids.iter().rev().find(|(seen, _, ts)| seen == id && now_ns - ts < WINDOW_NS);
            if let Some((_, sequence, _)) = seen {
                return format!("{{\"stream\":\"S\",\"seq\":{sequence},\"duplicate\": true}}");
            }
        }
        if publish.rollup.is_some() && (!limits.allow_rollup || limits.deny_purge) {
            return error(500, 10111, "rollup not permitted".into());
        }
        if publish.rollup == Some("x") {
            return error(500, 10111, "rollup value invalid: \\\"x\\\"".into());
        }
        let fixed = if self.memory {
            16
        } else if headers > 0 {
            34
        } else {
            30
        };
        let size = (fixed + subject.len() + headers + payload) as u64;
        let full = limits.max_msgs_per_subject > 0 && lasts.len() as i64 >= limits.max_msgs_per_subject;
        if limits.discard_new {
            if full && limits.discard_new_per_subject {
                return error(503, 10077, "maximum messages per subject exceeded".into());
            }
            if limits.max_msgs > 0 && !full && self.held.len() as i64 >= limits.max_msgs {
                return error(503, 10077, "maximum messages exceeded".into());
            }
            let freed = if full { self.held[&lasts[0]].size } else { 0 };
            if limits.max_bytes > 0 && self.bytes() + size - freed > limits.max_bytes as u64 {
                return error(503, 10077, "maximum bytes exceeded".into());
            }
        }
        self.last_seq += 1;
        self.held.insert(self.last_seq, Held { subject: subject.clone(), size, timestamp_ns: now_ns });
        match publish.rollup {
            Some("sub") => self.held.retain(|sequence, held| held.subject != subject || *sequence == self.last_seq),
            Some(_) => self.held.retain(|sequence, _| *sequence == self.last_seq),
            None if full => drop(self.held.remove(&lasts[0])),
            None => {}
        }
        if let (Some(id), true) = (id, limits.duplicate_window_ns > 0) {
            self.ids.push((id, self.last_seq, now_ns));
        }
        self.settle();
        format!("{{\"stream\":\"S\",\"seq\":{}}}", self.last_seq)
    }
}

fn subject_of(publish: &Publish) -> String {
    ["a", "a.b", "a.c", "b.b", "c"][usize::from(publish.subject)].to_owned()
}

/// The state together with what a store would hold of it.
struct Stored {
    state: StreamState,
    records: BTreeMap<u64, Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
    removals: Vec<Vec<u8>>,
    totals: Option<Vec<u8>>,
    ids: Vec<Vec<u8>>,
}

impl Stored {
    fn commit(&mut self) {
        let (totals, removals) = self.state.delta();
        self.totals = Some(totals);
        if !removals.is_empty() {
            self.removals.push(removals);
        }
    }

    fn checkpoint(&mut self) {
        self.checkpoint = Some(self.state.checkpoint());
        self.removals.clear();
    }

    fn crash(&mut self, identity: &Identity, limits: &Limits) {
        let blocks = self.removals.iter().map(Vec::as_slice);
        let (mut state, from) = StreamState::restore(
            identity.clone(),
            limits.clone(),
            self.checkpoint.as_deref(),
            blocks,
            self.totals.as_deref(),
        )
        .unwrap();
        let values: Vec<&[u8]> = self.records.range(from..).map(|(_, value)| value.as_slice()).collect();
        let middle = values.len() / 2;
        state.replay(&values[..middle]).unwrap();
        state.replay(&values[middle..]).unwrap();
        assert!(state.replayed(), "totals disagree");
        for segment in &self.ids {
            state.replay_ids(segment, state.last_ts_ns()).unwrap();
        }
        // A lost record never goes unnoticed.
        if let Some(lost) = values.len().checked_sub(1).map(|_| values.len() / 3) {
            let blocks = self.removals.iter().map(Vec::as_slice);
            let checkpoint = self.checkpoint.as_deref();
            let restored =
                StreamState::restore(identity.clone(), limits.clone(), checkpoint, blocks, self.totals.as_deref());
            let (mut other, _) = restored.unwrap();
            other.replay(&values[..lost]).unwrap();
            other.replay(&values[lost + 1..]).unwrap();
            assert!(!other.replayed(), "a lost record was not noticed");
        }
        self.state = state;
    }

    fn trim(&mut self, now_ns: i64, below_seq: u64) {
        let values: Vec<&[u8]> = self.records.values().map(Vec::as_slice).collect();
        let (gone, _) = self.state.trim(&values, now_ns, below_seq).unwrap();
        let keys: Vec<u64> = self.records.keys().take(gone).copied().collect();
        for key in keys {
            self.records.remove(&key);
        }
    }
}

fn compare(stored: &Stored, model: &Model) {
    let state = &stored.state;
    assert_eq!(model.held.keys().collect::<Vec<_>>(), stored.records.keys().collect::<Vec<_>>());
    assert_eq!(model.held.len() as u64, state.messages());
    assert_eq!(model.bytes(), state.bytes());
    if model.last_seq > 0 {
        assert_eq!((model.first_seq, model.last_seq), (state.first_seq(), state.last_seq()));
    }
    let deleted: Vec<u64> = (model.first_seq..=model.last_seq).filter(|at| !model.held.contains_key(at)).collect();
    assert_eq!(deleted, state.deleted(usize::MAX));
    assert_eq!(deleted.len() as u64, state.num_deleted());
    let mut counts = BTreeMap::new();
    for held in model.held.values() {
        *counts.entry(held.subject.as_bytes().to_vec()).or_insert(0u64) += 1;
    }
    let subjects: Vec<(Vec<u8>, u64)> =
        state.subjects(b">", 0, usize::MAX).into_iter().map(|(name, count)| (name.to_vec(), count)).collect();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), subjects);
    assert_eq!(subjects.len(), state.num_subjects());
    let values: Vec<&[u8]> = stored.records.values().map(Vec::as_slice).collect();
    assert_eq!(model.last_seq, state.check(model.first_seq, &values, model.last_seq).unwrap());
    if !values.is_empty() {
        assert!(state.check(model.first_seq, &values[..values.len() - 1], model.last_seq).is_err());
    }
    for filters in [&["a"][..], &["a.*"], &["a", "*.b"], &[">"], &["x"], &[]] {
        let bytes: Vec<&[u8]> = filters.iter().map(|filter| filter.as_bytes()).collect();
        let matches = |held: &Held| {
            bytes.is_empty() || bytes.iter().any(|filter| subject::matches(filter, held.subject.as_bytes()))
        };
        let found: Vec<u64> = model.held.iter().filter(|(_, held)| matches(held)).map(|(at, _)| *at).collect();
        let (first, last, count) = state.bounds(&bytes);
        assert_eq!(found.len() as u64, count);
        if let (Some(lowest), Some(highest)) = (found.first(), found.last()) {
            assert!(first <= *lowest && last >= *highest);
        }
        for from in model.first_seq.saturating_sub(1)..=model.last_seq + 1 {
            let (pending, exact) = state.pending(&bytes, from);
            assert!(!exact || pending == found.iter().filter(|at| **at >= from).count() as u64);
        }
    }
    let mut exact_lasts = BTreeSet::new();
    for name in ["a", "a.b", "a.c", "b.b", "c", "x"] {
        let (last, exact) = state.last_of(name.as_bytes());
        let wanted = model.of(name).last().copied().unwrap_or(0);
        assert!(if exact { last == wanted } else { last >= wanted && wanted > 0 }, "{name} {last} {exact} {wanted}");
        if exact && last > 0 {
            exact_lasts.insert(last);
        }
        assert!(exact || !state.limits().needs_queues());
    }
    assert!(exact_lasts.iter().all(|last| state.last_per_subject(&[]).contains(last)));
    if state.first_ts_ns() != 0 {
        assert_eq!(model.held[&model.first_seq].timestamp_ns, state.first_ts_ns());
    }
}

fn admit(stored: &mut Stored, model: &mut Model, publishes: &[Publish], now_ns: i64) {
    let (mut batch, mut wanted) = (Batch::default(), Vec::new());
    for (place, publish) in publishes.iter().enumerate() {
        let subject = subject_of(publish);
        let last = model.of(&subject).last().copied().unwrap_or(0);
        let near = |base: u64, by: Option<i8>| by.map(|by| base.saturating_add_signed(i64::from(by)));
        let expected = (near(model.last_seq, publish.last_seq), near(last, publish.last_subject_seq));
        let mut lines = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                lines.push_str(&format!("{key}: {value}\r\n"));
            }
        };
        line("Nats-Msg-Id", publish.id.map(|id| format!("id{id}")));
        line("Nats-Rollup", publish.rollup.map(str::to_owned));
        line("Nats-Expected-Last-Sequence", expected.0.map(|number| number.to_string()));
        line("Nats-Expected-Last-Subject-Sequence", expected.1.map(|number| number.to_string()));
        let headers = if lines.is_empty() { String::new() } else { format!("NATS/1.0\r\n{lines}\r\n") };
        let payload = vec![b'x'; usize::from(publish.size)];
        let reply = format!("r{place}");
        // An expectation needs the subject's last message: look it up as the caller does.
        if publish.last_subject_seq.is_some() {
            stored.state.note_last(subject.as_bytes(), last);
        }
        wanted.push((reply.clone(), model.admit(publish, expected, now_ns, (headers.len(), payload.len()))));
        let message = Message {
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            headers: headers.as_bytes(),
            payload: &payload,
            conn: 1,
            ..Message::default()
        };
        batch.push(message);
    }
    for name in stored.state.unresolved(&batch) {
        let records = stored.records.values().rev().map(|value| record::decode(value).unwrap());
        let found: Vec<u64> = records.filter(|record| record.subject == name).map(|record| record.sequence).collect();
        stored.state.note_last(&name, found[0]);
    }
    let admission = stored.state.admit(&batch, now_ns);
    let mut replies = Replies::default();
    admission.ack(&mut replies);
    assert_eq!(wanted, replies.0);
    assert_eq!(publishes.len() as u64, admission.stored + admission.refused + admission.duplicates);
    assert_eq!(admission.block.from_place(0).count() as u64, admission.block.matching(&[b">"]));
    for (sequence, value) in admission.block.from_place(0) {
        let Record { sequence: own, timestamp_ns, .. } = record::decode(value).unwrap();
        assert_eq!((sequence, now_ns), (own, timestamp_ns));
        assert!(stored.records.insert(sequence, value.to_vec()).is_none());
    }
    for sequence in &admission.deletes {
        assert!(stored.records.remove(sequence).is_some(), "delete of {sequence}");
    }
    for (subject, below) in &admission.purges {
        assert!(subject.is_empty());
        stored.records = stored.records.split_off(below);
    }
    if !admission.ids.is_empty() {
        stored.ids.push(admission.ids.clone());
    }
    assert_eq!(model.over(), admission.over);
}

fn run(steps: Vec<Step>, limits: Limits, memory: bool, first_seq: u64) {
    let identity = Identity { name: "S".into(), memory, first_seq, ..Identity::default() };
    let mut stored = Stored {
        state: StreamState::new(identity.clone(), limits.clone()),
        records: BTreeMap::new(),
        checkpoint: None,
        removals: Vec::new(),
        totals: None,
        ids: Vec::new(),
    };
    let mut model = Model {
        limits: limits.clone(),
        memory,
        held: BTreeMap::new(),
        first_seq,
        last_seq: first_seq - 1,
        ids: Vec::new(),
    };
    stored.commit();
    let mut now_ns = 1000;
    for step in steps {
        match step {
            Step::Admit(publishes) => admit(&mut stored, &mut model, &publishes, now_ns),
            Step::Trim(below) => {
                let below = model.first_seq + below;
                stored.trim(now_ns, below);
                let oldest = if limits.max_age_ns > 0 { now_ns - limits.max_age_ns } else { i64::MIN };
                while let Some((sequence, held)) = model.held.iter().next().map(|(at, held)| (*at, held.clone())) {
                    if !(sequence < below || held.timestamp_ns < oldest || model.over()) {
                        break;
                    }
                    model.held.remove(&sequence);
                }
                model.settle();
                assert!(!stored.state.over());
            }
            Step::Remove(places) => {
                let keys: Vec<u64> = model.held.keys().copied().collect();
                let chosen: BTreeSet<u64> = places
                    .iter()
                    .filter_map(|place| keys.get(usize::from(*place) % keys.len().max(1)).copied())
                    .collect();
                let values: Vec<Vec<u8>> = chosen.iter().filter_map(|key| stored.records.remove(key)).collect();
                let bytes: u64 = chosen.iter().filter_map(|key| model.held.remove(key)).map(|held| held.size).sum();
                model.settle();
                let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                assert_eq!(bytes, stored.state.remove(&slices).unwrap());
            }
            Step::Reset(ahead) => {
                model.held.clear();
                model.last_seq += ahead;
                model.settle();
                stored.records.clear();
                stored.state.reset(model.last_seq + 1);
            }
            Step::Checkpoint => stored.checkpoint(),
            // Nobody but the store knows where the log began.
            Step::Crash => stored.crash(&Identity { first_seq: 1, ..identity.clone() }, &limits),
            Step::Wait(by) => now_ns += by,
            Step::Rebuild => {
                let from = stored.state.rebuild();
                let values: Vec<&[u8]> = stored.records.range(from..).map(|(_, value)| value.as_slice()).collect();
                stored.state.replay(&values).unwrap();
                assert!(stored.state.replayed());
                stored.checkpoint();
            }
        }
        stored.commit();
        compare(&stored, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_what_a_naive_model_says(
        steps in prop::collection::vec(step(), 1..60),
        limits in limits(),
        memory: bool,
        first_seq in prop_oneof![3 => Just(1u64), 1 => 2u64..9000],
    ) {
        run(steps, limits, memory, first_seq);
    }

    #[test]
    fn damaged_parts_are_found(at in 0usize..400, bit in 0u8..8) {
        let mut state = StreamState::new(Identity::default(), Limits::default());
        let mut batch = Batch::default();
        for subject in [&b"a"[..], b"b", b"a", b"c"] {
            batch.push(Message { subject, reply: b"", headers: b"", payload: b"x", conn: 1, ..Message::default() });
        }
        let admission = state.admit(&batch, 5);
        let mut checkpoint = state.checkpoint();
        let values: Vec<&[u8]> = admission.block.from_place(0).map(|(_, value)| value).collect();
        state.remove(&values[1..2]).unwrap();
        let (mut totals, mut removals) = state.delta();
        let parts = checkpoint.len() + totals.len() + removals.len();
        let mut at = at % parts;
        for part in [&mut checkpoint, &mut totals, &mut removals] {
            if at < part.len() {
                part[at] ^= 1 << bit;
                break;
            }
            at -= part.len();
        }
        let restored = StreamState::restore(
            Identity::default(), Limits::default(), Some(&checkpoint), [removals.as_slice()].into_iter(), Some(&totals),
        );
        prop_assert!(restored.is_err());
    }
}
