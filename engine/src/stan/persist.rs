//! The stored form of a group: what a restart needs to go on.
//!
//! ```text
//! 0  u32 crc32c of all that follows (little endian) | 4 u8 version
//! 5  varints: next_seq, count, entries (stream_seq, delivered at, member), the first two as differences to the one before
//! ```
//! How often a message was delivered isn't kept: NATS Streaming counts anew after a restart. Members are the owner's.

use super::group::Group;
use crate::codec::record::Corrupt;
use crate::codec::varint::{put, take, unzigzag, zigzag};
use crate::consumer::pending::{Entry, Wait};

const VERSION: u8 = 1;

impl Group {
    /// Position and pending messages, with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 6 * self.num_pending());
        out.extend_from_slice(&[0, 0, 0, 0, VERSION]);
        put(&mut out, self.next_seq);
        put(&mut out, self.num_pending() as u64);
        let mut last = (0, 0i64);
        for entry in self.pending() {
            put(&mut out, entry.stream_seq - last.0);
            put(&mut out, zigzag(entry.delivered_at_ns.wrapping_sub(last.1)));
            put(&mut out, u64::from(entry.member));
            last = (entry.stream_seq, entry.delivered_at_ns);
        }
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Take over what `encode` gave; the members have joined before. On an error nothing has changed.
    pub fn decode(&mut self, data: &[u8]) -> Result<(), Corrupt> {
        let (next_seq, entries) =
            read(data).ok_or_else(|| Corrupt("state of a NATS Streaming subscription: damaged".to_owned()))?;
        self.restore(next_seq, &entries);
        Ok(())
    }

    /// Begin at a position with pending messages (stream_seq ascending, delivered at, member). What was sent to somebody
    /// who is not a member any more belongs to the first one.
    pub fn restore(&mut self, next_seq: u64, entries: &[(u64, i64, u32)]) {
        self.next_seq = next_seq.max(1);
        self.pending.clear();
        self.waits.clear();
        for (stream_seq, delivered_at_ns, member) in entries.iter().copied() {
            let holder = self.members().iter().find(|other| other.number == member).or(self.members().first());
            let (member, ack_wait_ns) = holder.map_or((member, 0), |holder| (holder.number, holder.ack_wait_ns));
            self.pending.push(Entry {
                stream_seq,
                consumer_seq: 0,
                delivered_at_ns,
                deliveries: 1,
                member,
                wait: Wait::Until(delivered_at_ns.saturating_add(ack_wait_ns)),
            });
        }
        self.waits.rebuild(&self.pending);
        self.kept_below = self.next_seq;
        self.recount();
    }
}

/// next_seq, and entries as `restore` takes them.
type Stored = (u64, Vec<(u64, i64, u32)>);

/// None: not what `encode` writes.
fn read(data: &[u8]) -> Option<Stored> {
    let (checksum, rest) = data.split_first_chunk::<4>()?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (version, mut rest) = rest.split_first()?;
    let input = &mut rest;
    if *version != VERSION {
        return None;
    }
    let next_seq = take(input)?;
    // An entry takes at least so many bytes: a count can't make us reserve more than the input justifies.
    let count = usize::try_from(take(input)?).ok().filter(|count| *count <= input.len() / 3)?;
    let mut entries = Vec::with_capacity(count);
    let mut last = (0u64, 0i64);
    for _ in 0..count {
        let step = take(input)?;
        let stream_seq = last.0.checked_add(step).filter(|seq| step > 0 && *seq < next_seq)?;
        let delivered_at_ns = last.1.wrapping_add(unzigzag(take(input)?));
        entries.push((stream_seq, delivered_at_ns, u32::try_from(take(input)?).ok()?));
        last = (stream_seq, delivered_at_ns);
    }
    input.is_empty().then_some((next_seq, entries))
}
