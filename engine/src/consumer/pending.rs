//! Messages that were delivered and not yet settled.
//!
//! First deliveries come in the order of sequences, and so does, nearly, settling. So the table is a queue ordered by
//! stream sequence whose settled entries stay as holes until they reach the front or outnumber the rest. Without gaps
//! the place of a sequence is its distance from the front; otherwise a binary search below that place finds it.

use std::collections::VecDeque;

/// Holes that are tolerated regardless of how few entries are live.
const HOLES_MIN: usize = 64;

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A hole: it was settled.
    Settled,
    /// An ack, until this moment.
    Until(i64),
    /// Another delivery; the ticket names its place in the redelivery queue.
    Queued(u64),
}

/// One pending message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the stream.
    pub stream_seq: u64,
    /// Count of the consumer's deliveries at the first delivery of this message.
    pub consumer_seq: u64,
    /// Last delivery.
    pub delivered_at_ns: i64,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Who of a NATS Streaming queue group has it; 0 elsewhere.
    pub member: u32,
    pub(crate) wait: Wait,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    // Ascending in stream_seq; the first is never a hole.
    ring: VecDeque<Entry>,
    live: usize,
}

impl Pending {
    #[inline]
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The oldest entry.
    #[inline]
    pub fn first(&self) -> Option<&Entry> {
        self.ring.front()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.ring.iter().filter(|entry| entry.wait != Wait::Settled)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.ring.iter_mut().filter(|entry| entry.wait != Wait::Settled)
    }

    pub fn clear(&mut self) {
        self.ring.clear();
        self.live = 0;
    }

    /// Add an entry younger than all others.
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        debug_assert!(self.ring.back().is_none_or(|last| last.stream_seq < entry.stream_seq));
        self.ring.push_back(entry);
        self.live += 1;
    }

    #[inline]
    fn place(&self, stream_seq: u64) -> Option<usize> {
        let distance = stream_seq.checked_sub(self.ring.front()?.stream_seq)?;
        let last = self.ring.len() - 1;
        let guess = usize::try_from(distance).unwrap_or(last).min(last);
        let place = if self.ring[guess].stream_seq == stream_seq {
            guess
        } else {
            // Sequences are distinct, so that none lies further from the front than its distance.
            let place = self.ring.partition_point(|entry| entry.stream_seq < stream_seq);
            (self.ring.get(place)?.stream_seq == stream_seq).then_some(place)?
        };
        (self.ring[place].wait != Wait::Settled).then_some(place)
    }

    #[inline]
    pub fn get(&self, stream_seq: u64) -> Option<&Entry> {
        self.place(stream_seq).map(|place| &self.ring[place])
    }

    #[inline]
    pub fn get_mut(&mut self, stream_seq: u64) -> Option<&mut Entry> {
        self.place(stream_seq).map(|place| &mut self.ring[place])
    }

    /// Take an entry out.
    #[inline]
    pub fn remove(&mut self, stream_seq: u64) -> Option<Entry> {
        let place = self.place(stream_seq)?;
        let entry = self.ring[place];
        self.ring[place].wait = Wait::Settled;
        self.live -= 1;
        while self.ring.front().is_some_and(|entry| entry.wait == Wait::Settled) {
            self.ring.pop_front();
        }
        if self.ring.len() > 2 * self.live + HOLES_MIN {
            self.ring.retain(|entry| entry.wait != Wait::Settled);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(stream_seq: u64) -> Entry {
        Entry { stream_seq, consumer_seq: 1, delivered_at_ns: 0, deliveries: 1, member: 0, wait: Wait::Until(0) }
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in prop::collection::vec((0u8..3, 1u64..40), 1..600)) {
            let mut table = Pending::default();
            let mut model = BTreeMap::new();
            let mut next = 1;
            for (kind, amount) in steps {
                match kind {
                    0 | 1 => {
                        next += if kind == 0 { 1 } else { amount };
                        table.push(entry(next));
                        model.insert(next, ());
                    }
                    _ => {
                        let seq = next.saturating_sub(amount * 2);
                        prop_assert_eq!(table.remove(seq).is_some(), model.remove(&seq).is_some());
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.first().map(|entry| entry.stream_seq), model.keys().next().copied());
                prop_assert!(table.iter().map(|entry| entry.stream_seq).eq(model.keys().copied()));
                prop_assert!(table.ring.len() <= 2 * table.live + HOLES_MIN + 1);
            }
        }
    }
}
