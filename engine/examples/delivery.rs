//! Rates of a consumer's work: deliveries, acks and the stored form. Run with `cargo run --release --example delivery`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the eyes of its caller")]

use std::time::Instant;

use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::record::{self, Record};
use streamd_engine::consumer::{AckPolicy, Ask, Consumer, How, Options, Target};
use streamd_engine::publish::{Outgoing, Publisher, Sent};

/// As cheap as a receiver can be that still looks at every piece.
#[derive(Default)]
struct Sink {
    bytes: usize,
}

impl Publisher for Sink {
    fn publish(&mut self, _account: &str, message: Outgoing<'_>) -> Sent {
        let pieces = message.headers.iter().chain(message.payload).map(|piece| piece.len()).sum::<usize>();
        self.bytes += message.subject.len() + message.reply.len() + pieces;
        Sent { receivers: 1, congested: 0 }
    }

    fn interest(&mut self, _account: &str, _subject: &[u8], _group: &[u8]) -> bool {
        true
    }
}

const MESSAGES: u64 = 1_000_000;
const ROUND: usize = 500;

fn consumer(policy: AckPolicy, filters: &[&str]) -> Consumer {
    let filters = filters.iter().map(|filter| filter.to_string()).collect();
    Consumer::new("ORDERS", "worker", policy, Options { filters, ..Options::default() }, false, 1)
}

fn report(what: &str, count: u64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<44} {:>8.2} M/s  {:>7.1} ns each", count as f64 / seconds / 1e6, seconds * 1e9 / count as f64);
}

fn main() {
    let payload = [b'x'; 128];
    let values: Vec<Vec<u8>> = (1..=MESSAGES)
        .map(|sequence| {
            let timestamp_ns = 1_700_000_000_000_000_000 + (sequence / 256) as i64 * 1_000_000;
            let subject = b"orders.created.eu";
            let mut value = Vec::new();
            record::encode_into(
                &mut value,
                &Record { sequence, timestamp_ns, subject, headers: b"", payload: &payload },
            );
            value
        })
        .collect();
    let how = How { now_ns: 1_700_000_000_000_000_000, bytes_max: u64::MAX, upto_ts_ns: 0, redelivery: false };

    for (name, policy) in [("none", AckPolicy::None), ("explicit", AckPolicy::Explicit)] {
        for (filter_name, filters) in [("no filter", &[][..]), ("3 filters", &["a.b", "x.*", "orders.>"][..])] {
            for push in [true, false] {
                let mut sink = Sink::default();
                let mut consumer = consumer(policy, filters);
                consumer.set_num_pending(MESSAGES);
                for inbox in ["_INBOX.a", "_INBOX.b", "_INBOX.c"] {
                    consumer.request(inbox.as_bytes(), Ask { batch: MESSAGES, ..Ask::default() }, 0);
                }
                let target = if push { Target::Subject("deliver.here", "") } else { Target::Requests };
                let started = Instant::now();
                for round in values.chunks(ROUND) {
                    let done = consumer.deliver(&mut sink, "A", round, target, &how).unwrap();
                    assert_eq!(done.delivered, round.len());
                }
                let way = if push { "push" } else { "pull, 3 requests" };
                report(&format!("deliver, ack {name}, {filter_name}, {way}"), MESSAGES, started);
            }
        }
    }

    for (name, stride) in [("in order", 1u64), ("shuffled within 500", 211)] {
        let mut consumer = consumer(AckPolicy::Explicit, &[]);
        let mut spent = std::time::Duration::ZERO;
        for round in values.chunks(ROUND) {
            let first = consumer.next_seq();
            consumer.deliver(&mut Sink::default(), "A", round, Target::Subject("d", ""), &how).unwrap();
            let mut batch = Batch::default();
            for at in 0..ROUND as u64 {
                let seq = first + (at * stride) % ROUND as u64;
                let subject = format!("$JS.ACK.ORDERS.worker.1.{seq}.{seq}.1700000000000000000.{}", MESSAGES - seq);
                batch.push(Message {
                    subject: subject.as_bytes(),
                    reply: b"",
                    headers: b"",
                    payload: b"+ACK",
                    conn: 1,
                    ..Message::default()
                });
            }
            let started = Instant::now();
            let outcome = consumer.ack(&batch, how.now_ns);
            spent += started.elapsed();
            assert_eq!(outcome.settled.len(), ROUND);
        }
        assert_eq!(consumer.ack_floor().stream_seq, MESSAGES);
        report(&format!("ack explicit, {name}"), MESSAGES, Instant::now() - spent);
    }

    let mut consumer = consumer(AckPolicy::Explicit, &[]);
    consumer.deliver(&mut Sink::default(), "A", &values[..1000], Target::Subject("d", ""), &how).unwrap();
    let started = Instant::now();
    let size = (0..10_000).map(|_| consumer.encode().len()).sum::<usize>() / 10_000;
    report(&format!("encode, 1,000 pending, {size} B"), 10_000, started);
    let stored = consumer.encode();
    let started = Instant::now();
    for _ in 0..10_000 {
        consumer.decode(&stored).unwrap();
    }
    report("decode, 1,000 pending", 10_000, started);

    let started = Instant::now();
    let mut again = 0;
    for round in 1..=200 {
        let now_ns = how.now_ns + round * 60_000_000_000;
        consumer.expire(now_ns);
        let due: Vec<&Vec<u8>> = consumer.due(now_ns, 1000).iter().map(|seq| &values[*seq as usize - 1]).collect();
        let how = How { now_ns, redelivery: true, ..how };
        again += consumer.deliver(&mut Sink::default(), "A", &due, Target::Subject("d", ""), &how).unwrap().delivered;
    }
    report("expire and deliver again", again as u64, started);
}
