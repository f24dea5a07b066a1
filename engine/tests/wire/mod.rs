//! A publisher that reads what NATS Streaming's machines send, with a protobuf reader of its own.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failing unwrap is a failing test")]

use std::collections::HashSet;

use streamd_engine::codec::record::{self, Record};
use streamd_engine::publish::{Outgoing, Publisher, Sent};

pub const ACCOUNT: &str = "A";
pub const CHANNEL: &str = "foo";

/// A delivery: to which member, what, and its redelivery count (0: a first delivery).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub member: u32,
    pub sequence: u64,
    pub count: u32,
    pub flagged: bool,
    pub channel: String,
    pub data: Vec<u8>,
    pub timestamp: u64,
}

impl Delivered {
    pub fn first(member: u32, sequence: u64) -> Delivered {
        Delivered::again(member, sequence, 0)
    }

    pub fn again(member: u32, sequence: u64, count: u32) -> Delivered {
        let (channel, data) = (CHANNEL.to_owned(), body(sequence));
        Delivered { member, sequence, count, flagged: count > 0, channel, data, timestamp: sequence * 10 }
    }
}

/// Keeps what was sent. Nobody listens at inboxes in `deaf`.
#[derive(Debug, Default)]
pub struct Wire {
    pub seen: Vec<(String, Vec<u8>)>,
    pub deaf: HashSet<String>,
    pub congested: u64,
}

impl Wire {
    /// The deliveries since the last call.
    pub fn take(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.seen).into_iter().map(|(to, bytes)| read(&to, &bytes)).collect()
    }
}

impl Publisher for Wire {
    fn publish(&mut self, account: &str, message: Outgoing<'_>) -> Sent {
        assert_eq!((account, message.to, message.reply), (ACCOUNT, message.subject, &b""[..]));
        assert!(message.headers.concat().is_empty());
        let to = String::from_utf8(message.to.to_vec()).unwrap();
        if self.deaf.contains(&to) {
            return Sent::default();
        }
        self.seen.push((to, message.payload.concat()));
        Sent { receivers: 1, congested: self.congested }
    }

    fn interest(&mut self, _account: &str, _subject: &[u8], _group: &[u8]) -> bool {
        true
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The fields of a protobuf message: number, and its bytes or its value.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let value = number(&mut bytes);
        match tag & 7 {
            0 => all.push((tag >> 3, Vec::new(), value)),
            2 => {
                let (content, rest) = bytes.split_at(value as usize);
                all.push((tag >> 3, content.to_vec(), 0));
                bytes = rest;
            }
            kind => unreachable!("type {kind} is not sent"),
        }
    }
    all
}

fn read(to: &str, bytes: &[u8]) -> Delivered {
    let member = to.strip_prefix("inbox.").unwrap().parse().unwrap();
    let (channel, data) = (String::new(), Vec::new());
    let mut seen = Delivered { member, sequence: 0, count: 0, flagged: false, channel, data, timestamp: 0 };
    for (field, content, value) in fields(bytes) {
        match field {
            1 => seen.sequence = value,
            2 => seen.channel = String::from_utf8(content).unwrap(),
            4 => seen.data = content,
            5 => seen.timestamp = value,
            6 => seen.flagged = value == 1,
            7 => seen.count = value as u32,
            other => unreachable!("field {other} is not sent"),
        }
    }
    seen
}

/// One field of bytes; also an empty one.
pub fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An Ack.
pub fn ack_of(channel: &str, sequence: u64) -> Vec<u8> {
    let mut out = bytes_field(1, channel.as_bytes());
    out.push(2 << 3);
    varint(&mut out, sequence);
    out
}

fn body(sequence: u64) -> Vec<u8> {
    format!("data {sequence}").into_bytes()
}

/// The stored messages of some sequences.
pub fn values(sequences: &[u64]) -> Vec<Vec<u8>> {
    let one = |sequence: &u64| {
        let mut value = Vec::new();
        let record = Record {
            sequence: *sequence,
            timestamp_ns: (*sequence as i64).wrapping_mul(10),
            subject: b"$STAN.c.foo",
            headers: b"",
            payload: &body(*sequence),
        };
        record::encode_into(&mut value, &record);
        value
    };
    sequences.iter().map(one).collect()
}
