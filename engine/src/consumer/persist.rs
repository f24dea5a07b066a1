//! The stored form of a consumer: what a restart needs to go on.
//!
//! ```text
//! 0  u32 crc32c of all that follows (little endian) | 4 u8 version
//! 5  varints: next_seq, delivered (consumer_seq, stream_seq, at), ack floor (the same),
//!    count and pending entries, count and exhausted entries
//! ```
//! An entry is (stream_seq, consumer_seq, delivered at, deliveries), the first three as differences to the entry before
//! it, so that most of its parts take one byte. Deadlines follow from delivery times, so what was refused for a while or for
//! another try at once is kept as if it had been delivered a wait before that; requests aren't kept.

use super::pending::{Entry, Wait};
use super::{AckPolicy, Consumer, Exhausted, Position, EXHAUSTED_MAX};
use crate::codec::record::Corrupt;
use crate::codec::varint::{put, take, unzigzag, zigzag};

const VERSION: u8 = 1;
const FIXED: usize = 5;

impl Consumer {
    /// Delivered, floors, pending and redelivery counts, with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 6 * (self.pending.len() + self.exhausted.len()));
        out.extend_from_slice(&[0, 0, 0, 0, VERSION]);
        put(&mut out, self.next_seq);
        for position in [self.delivered, self.floor] {
            put(&mut out, position.consumer_seq);
            put(&mut out, position.stream_seq);
            put(&mut out, zigzag(position.at_ns));
        }
        put(&mut out, self.pending.len() as u64);
        let mut last = (0, 0, 0i64);
        for entry in self.pending.iter() {
            put(&mut out, entry.stream_seq - last.0);
            put(&mut out, entry.consumer_seq - last.1);
            let due = match entry.wait {
                Wait::Until(deadline) => deadline,
                Wait::Settled | Wait::Queued(_) => entry.delivered_at_ns,
            };
            let at = due.saturating_sub(self.options.wait_ns(entry.deliveries));
            put(&mut out, zigzag(at.wrapping_sub(last.2)));
            put(&mut out, u64::from(entry.deliveries));
            last = (entry.stream_seq, entry.consumer_seq, at);
        }
        put(&mut out, self.exhausted.len() as u64);
        let mut last = (0, 0);
        for (seq, entry) in &self.exhausted {
            put(&mut out, seq - last.0);
            put(&mut out, entry.consumer_seq - last.1);
            put(&mut out, u64::from(entry.deliveries));
            last = (*seq, entry.consumer_seq);
        }
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Take over what `encode` gave. Pending messages are due when they were before; requests and the flow control window
    /// stay as they are. On an error nothing has changed.
    pub fn decode(&mut self, data: &[u8]) -> Result<(), Corrupt> {
        let stored = read(data).ok_or_else(|| Corrupt("consumer state: damaged".to_owned()))?;
        if self.policy == AckPolicy::None && !stored.pending.is_empty() {
            return Err(Corrupt("consumer state: pending messages without acks".to_owned()));
        }
        self.next_seq = stored.next_seq;
        self.delivered = stored.delivered;
        self.floor = stored.floor;
        self.pending.clear();
        self.waits.clear();
        let exhausted = stored.exhausted.iter().map(|(_, entry)| entry.deliveries);
        let deliveries = stored.pending.iter().map(|entry| entry.deliveries).chain(exhausted);
        self.redelivered = deliveries.filter(|deliveries| *deliveries > 1).count() as u64;
        self.exhausted = stored.exhausted.into_iter().collect();
        for mut entry in stored.pending {
            entry.wait = Wait::Until(entry.delivered_at_ns.saturating_add(self.options.wait_ns(entry.deliveries)));
            self.pending.push(entry);
        }
        self.waits.rebuild(&self.pending);
        Ok(())
    }
}

struct Stored {
    next_seq: u64,
    delivered: Position,
    floor: Position,
    pending: Vec<Entry>,
    exhausted: Vec<(u64, Exhausted)>,
}

/// None: not what `encode` writes. A right checksum over nonsense (another version's bytes) is refused too.
fn read(data: &[u8]) -> Option<Stored> {
    let (checksum, rest) = data.split_first_chunk::<4>()?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) || *rest.first()? != VERSION {
        return None;
    }
    let mut rest = &data[FIXED..];
    let input = &mut rest;
    let next_seq = take(input)?;
    let delivered = position(input)?;
    let floor = position(input)?;
    // Room above the counts, so that going on from them can't overflow.
    let sound = next_seq > delivered.stream_seq
        && delivered.consumer_seq < u64::MAX / 2
        && floor.consumer_seq <= delivered.consumer_seq
        && floor.stream_seq <= delivered.stream_seq;
    if !sound {
        return None;
    }
    // An entry takes at least so many bytes: a count can't make us reserve more than the input justifies.
    let count = usize::try_from(take(input)?).ok().filter(|count| *count <= input.len() / 4)?;
    let mut pending = Vec::with_capacity(count);
    let mut last = (0u64, 0u64, 0i64);
    for _ in 0..count {
        let (stream_seq, consumer_seq) = step(input, (last.0, last.1), delivered)?;
        let delivered_at_ns = last.2.wrapping_add(unzigzag(take(input)?));
        let deliveries = u32::try_from(take(input)?).ok().filter(|deliveries| *deliveries > 0)?;
        last = (stream_seq, consumer_seq, delivered_at_ns);
        pending.push(Entry { stream_seq, consumer_seq, delivered_at_ns, deliveries, member: 0, wait: Wait::Until(0) });
    }
    let count = usize::try_from(take(input)?).ok().filter(|count| *count <= EXHAUSTED_MAX.min(input.len() / 3))?;
    let mut exhausted = Vec::with_capacity(count);
    let mut last = (0, 0);
    for _ in 0..count {
        last = step(input, last, delivered)?;
        let deliveries = u32::try_from(take(input)?).ok().filter(|deliveries| *deliveries > 0)?;
        exhausted.push((last.0, Exhausted { consumer_seq: last.1, deliveries }));
    }
    input.is_empty().then_some(Stored { next_seq, delivered, floor, pending, exhausted })
}

fn position(input: &mut &[u8]) -> Option<Position> {
    Some(Position { consumer_seq: take(input)?, stream_seq: take(input)?, at_ns: unzigzag(take(input)?) })
}

/// The sequences of the next entry: both ascend, neither was reached before it was delivered.
fn step(input: &mut &[u8], last: (u64, u64), delivered: Position) -> Option<(u64, u64)> {
    let stream_seq = last.0.checked_add(take(input)?)?;
    let consumer_seq = last.1.checked_add(take(input)?)?;
    let ascends = stream_seq > last.0 && consumer_seq > last.1;
    let known = stream_seq <= delivered.stream_seq && consumer_seq <= delivered.consumer_seq;
    (ascends && known).then_some((stream_seq, consumer_seq))
}
