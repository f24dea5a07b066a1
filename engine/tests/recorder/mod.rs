//! A publisher that keeps what was sent, for tests of what works against `Publisher`.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failing unwrap is a failing test")]

use std::collections::HashSet;

use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::record::{self, Record};
use streamd_engine::consumer::{AckPolicy, Consumer, Delivery, How, Options, Target};
use streamd_engine::publish::{Outgoing, Publisher, Sent};

/// One message as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub to: String,
    pub subject: String,
    pub reply: String,
    pub headers: String,
    pub payload: String,
}

impl Seen {
    /// The numbers of the ack subject: deliveries, stream_seq, consumer_seq, timestamp, pending.
    pub fn numbers(&self) -> (u64, u64, u64, u64, u64) {
        let parts: Vec<u64> = self.reply.split('.').skip(4).map(|part| part.parse().unwrap()).collect();
        (parts[0], parts[1], parts[2], parts[3], parts[4])
    }
}

/// Everybody listens everywhere but on the subjects in `deaf`.
#[derive(Debug, Default)]
pub struct Recorder {
    pub seen: Vec<Seen>,
    pub deaf: HashSet<String>,
    pub congested: u64,
}

impl Recorder {
    pub fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// (to, stream_seq) of the deliveries, (to, status line) of the rest.
    pub fn brief(&mut self) -> Vec<String> {
        let one = |seen: Seen| match seen.headers.strip_prefix("NATS/1.0 ") {
            Some(status) => format!("{} {}", seen.to, status.trim_end().replace("\r\n", "|")),
            None => format!("{} {}", seen.to, seen.numbers().1),
        };
        self.take().into_iter().map(one).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Publisher for Recorder {
    fn publish(&mut self, _account: &str, message: Outgoing<'_>) -> Sent {
        let to = text(message.to);
        if self.deaf.contains(&to) {
            return Sent::default();
        }
        self.seen.push(Seen {
            to,
            subject: text(message.subject),
            reply: text(message.reply),
            headers: text(&message.headers.concat()),
            payload: text(&message.payload.concat()),
        });
        Sent { receivers: 1, congested: self.congested }
    }

    fn interest(&mut self, _account: &str, subject: &[u8], group: &[u8]) -> bool {
        !self.deaf.contains(&text(subject)) && (group.is_empty() || !self.deaf.contains(&text(group)))
    }
}

pub const ACCOUNT: &str = "A";
pub const WAIT: i64 = 1000;

pub fn options() -> Options {
    Options { ack_wait_ns: WAIT, ..Options::default() }
}

pub fn consumer(policy: AckPolicy, options: Options) -> Consumer {
    Consumer::new("S", "C", policy, options, false, 1)
}

pub fn value_of(sequence: u64, subject: &str, payload: &str) -> Vec<u8> {
    let mut value = Vec::new();
    let record = Record {
        sequence,
        timestamp_ns: sequence as i64 * 10,
        subject: subject.as_bytes(),
        headers: b"",
        payload: payload.as_bytes(),
    };
    record::encode_into(&mut value, &record);
    value
}

pub fn values(sequences: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    sequences.into_iter().map(|sequence| value_of(sequence, "a.b", "data")).collect()
}

pub fn how(now_ns: i64) -> How {
    How { now_ns, bytes_max: 1 << 20, upto_ts_ns: 0, redelivery: false }
}

/// Push to the subject `d`.
pub fn push(
    consumer: &mut Consumer,
    hub: &mut Recorder,
    sequences: impl IntoIterator<Item = u64>,
    now: i64,
) -> Delivery {
    consumer.deliver(hub, ACCOUNT, &values(sequences), Target::Subject("d", ""), &how(now)).unwrap()
}

/// Pull: to the waiting requests.
pub fn pull(
    consumer: &mut Consumer,
    hub: &mut Recorder,
    sequences: impl IntoIterator<Item = u64>,
    now: i64,
) -> Delivery {
    consumer.deliver(hub, ACCOUNT, &values(sequences), Target::Requests, &how(now)).unwrap()
}

/// Push what is due again; returns its sequences.
pub fn push_again(consumer: &mut Consumer, hub: &mut Recorder, now: i64) -> Vec<u64> {
    let due = consumer.due(now, 100);
    let how = How { redelivery: true, ..how(now) };
    let done = consumer.deliver(hub, ACCOUNT, &values(due.clone()), Target::Subject("d", ""), &how).unwrap();
    assert_eq!(done.consumed, due.len());
    due
}

/// A batch of acks: (stream_seq, consumer_seq, body); each asks for a confirmation on `r.<stream_seq>`.
pub fn acks(rows: &[(u64, u64, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (stream_seq, consumer_seq, body) in rows {
        let subject = format!("$JS.ACK.S.C.1.{stream_seq}.{consumer_seq}.10.0");
        let reply = format!("r.{stream_seq}");
        let (subject, reply, payload) = (subject.as_bytes(), reply.as_bytes(), body.as_bytes());
        batch.push(Message { subject, reply, headers: b"", payload, conn: 1, ..Message::default() });
    }
    batch
}

/// Consumer and stream sequence of the ack floor.
pub fn floor(consumer: &Consumer) -> (u64, u64) {
    (consumer.ack_floor().consumer_seq, consumer.ack_floor().stream_seq)
}
