//! Rates of the log's state: admit, ack, replay, checkpoint, restore. Run with `cargo run --release --example admission`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program that prints, and may fail loudly"
)]

use std::hint::black_box;
use std::time::Instant;

use streamd_engine::batch::{Batch, Message};
use streamd_engine::log::{Admission, Identity, Limits, StreamState};
use streamd_engine::publish::{Outgoing, Publisher, Sent};

const BATCH: usize = 1000;

#[derive(Default)]
struct Counter {
    bytes: usize,
}

impl Publisher for Counter {
    fn publish(&mut self, _: &str, message: Outgoing<'_>) -> Sent {
        self.bytes += message.to.len() + message.payload.iter().map(|piece| piece.len()).sum::<usize>();
        Sent { receivers: 1, congested: 0 }
    }

    fn interest(&mut self, _: &str, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn batch(subjects: u64, start: u64, headers: &str) -> Batch {
    let mut batch = Batch::default();
    for number in start..start + BATCH as u64 {
        // Spread over the subjects without order, as keys are.
        let subject = format!("orders.{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % subjects);
        let headers = headers.replace('#', &number.to_string());
        let message = Message {
            subject: subject.as_bytes(),
            reply: b"_INBOX.abcdefghijklmnop.123456",
            headers: headers.as_bytes(),
            payload: &[b'x'; 128],
            conn: 1,
            ..Message::default()
        };
        batch.push(message);
    }
    batch
}

fn report(what: &str, count: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<44} {:>8.2} M/s  {:>9.1} ms", count as f64 / seconds / 1e6, seconds * 1e3);
}

fn admit(what: &str, total: usize, subjects: u64, headers: &str, limits: Limits) -> (StreamState, Vec<Admission>) {
    let mut state = StreamState::new(Identity { name: "ORDERS".into(), ..Identity::default() }, limits);
    let batches: Vec<Batch> =
        (0..total / BATCH).map(|place| batch(subjects, (place * BATCH) as u64, headers)).collect();
    let started = Instant::now();
    let admissions: Vec<Admission> = batches.iter().map(|batch| state.admit(batch, 1)).collect();
    report(what, total, started);
    (state, admissions)
}

fn main() {
    let total = 500_000;
    let (_, admissions) = admit("admit, 128 B, one subject", total, 1, "", Limits::default());
    let mut counter = Counter::default();
    let started = Instant::now();
    admissions.iter().for_each(|admission| admission.ack(&mut counter));
    report("ack", total, started);
    replay("replay, one subject", &admissions);
    drop(admissions);
    let (_, admissions) = admit("admit, 100,000 subjects", total, 100_000, "", Limits::default());
    replay("replay, 100,000 subjects", &admissions);
    drop(admissions);
    let last = Limits { max_msgs_per_subject: 1, ..Limits::default() };
    admit("admit, 100,000 subjects, the last one each", total, 100_000, "", last);
    let window = Limits { duplicate_window_ns: 1 << 40, ..Limits::default() };
    admit("admit, Nats-Msg-Id", total, 1, "NATS/1.0\r\nNats-Msg-Id: message-#\r\n\r\n", window);
    restore(Limits::default(), "");
    restore(Limits { max_msgs_per_subject: 1000, ..Limits::default() }, " with queues");
    println!("{}", black_box(counter.bytes));
}

fn replay(what: &str, admissions: &[Admission]) {
    let values: Vec<&[u8]> =
        admissions.iter().flat_map(|admission| admission.block.from_place(0).map(|(_, value)| value)).collect();
    let mut state = StreamState::new(Identity::default(), Limits::default());
    let started = Instant::now();
    state.replay(&values).unwrap();
    report(what, values.len(), started);
    let started = Instant::now();
    state.check(1, &values, 0).unwrap();
    report("  check", values.len(), started);
    let started = Instant::now();
    let gone = state.trim(&values, 1, u64::MAX).unwrap();
    report("  trim", gone.0, started);
}

/// 5 M messages over 100,000 subjects.
fn restore(limits: Limits, what: &str) {
    let mut state = StreamState::new(Identity::default(), limits.clone());
    for place in 0..5_000_000 / BATCH {
        state.admit(&batch(100_000, (place * BATCH) as u64, ""), 1);
    }
    let started = Instant::now();
    let checkpoint = state.checkpoint();
    report(&format!("checkpoint{what}, {} bytes", checkpoint.len()), state.num_subjects(), started);
    let (totals, removals) = state.delta();
    let started = Instant::now();
    let blocks = [removals.as_slice()].into_iter();
    let restored = StreamState::restore(Identity::default(), limits, Some(&checkpoint), blocks, Some(&totals));
    let (mut restored, _) = restored.unwrap();
    assert!(restored.replayed());
    report(&format!("restore{what}"), restored.num_subjects(), started);
}
