//! What clients of NATS Streaming send once a message: any publish is stored or refused, any ack settles at most what is
//! pending, nobody listening makes it wait, and no stored state makes a group panic.
//!
//! The input is cut at 0xff into payloads; the last one is also read as a group's stored state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::record::{self, Record};
use streamd_engine::log::{Identity, Limits, StreamState};
use streamd_engine::publish::{Outgoing, Publisher, Sent};
use streamd_engine::stan::{Group, Member, Publishers, Sorted};

/// Counts what is sent; of so many nobody hears one, of 0 all are heard.
#[derive(Default)]
struct Counter(u64, u64);

impl Publisher for Counter {
    fn publish(&mut self, _account: &str, _message: Outgoing<'_>) -> Sent {
        self.0 += 1;
        Sent { receivers: u32::from(self.1 == 0 || self.0 % self.1 != 0), congested: 0 }
    }

    fn interest(&mut self, _account: &str, _subject: &[u8], _group: &[u8]) -> bool {
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let mut batch = Batch::default();
    for payload in data.split(|byte| *byte == 0xff) {
        batch.push(Message { subject: b"_STAN.pub.c.x", reply: b"r", payload, conn: 1, ..Message::default() });
    }
    let mut publishers = Publishers::new(b"$STAN.c.", vec![(b"n.>".to_vec(), true)]);
    publishers.add(b"me", b"c");
    let mut answers = Counter::default();
    let mut sorted = Sorted::default();
    publishers.sort(&batch, &mut sorted, &mut answers, "A");
    let stored: usize = sorted.groups.iter().map(|(_, group)| group.len()).sum();
    assert_eq!(answers.0, sorted.refusals);
    assert!(stored as u64 + sorted.refusals <= batch.len() as u64);
    let mut acks = Counter::default();
    for (channel, group) in &sorted.groups {
        let identity = Identity { name: "S".to_owned(), channel_len: channel.len(), ..Identity::default() };
        let admission = StreamState::new(identity, Limits::default()).admit(group, 1);
        assert_eq!(admission.stored + admission.refused, group.len() as u64);
        admission.ack(&mut acks);
    }
    assert_eq!(acks.0, stored as u64);

    let deaf = u64::from(data.first().copied().unwrap_or_default() % 4);
    answers.1 = deaf;
    let mut group = Group::new(b"x", true, deaf != 0, 1);
    for number in [1, 2] {
        let inbox = b"i".to_vec();
        group.join(Member { number, inbox, ack_wait_ns: 5, max_in_flight: 3, pending: 0, failing: false, absent: false });
    }
    let records: Vec<Vec<u8>> = (1..=4)
        .map(|sequence| {
            let mut value = Vec::new();
            let headers = data.get(..sequence as usize).unwrap_or_default();
            record::encode_into(
                &mut value,
                &Record { sequence, timestamp_ns: 1, subject: b"s", headers, payload: b"p" },
            );
            value
        })
        .collect();
    let sent = group.deliver(&mut answers, "A", &records, 1, 1 << 20, false).map_or(0, |done| done.delivered);
    let settled = group.ack(&batch).settled;
    assert_eq!(group.num_pending() as u64, sent as u64 - settled);
    if group.decode(data.rsplit(|byte| *byte == 0xff).next().unwrap_or_default()).is_ok() {
        group.leave(1, 7);
        let due = group.due(1 << 60, 16);
        assert!(due.len() <= group.num_pending());
        let kept = group.encode();
        assert!(group.decode(&kept).is_ok());
    }
});
