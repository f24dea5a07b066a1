//! Questions to the state: what is live, what matches, how far.

use super::*;
use crate::log::index::Filters;

impl StreamState {
    /// Verify checksums and that no live sequence from `from_seq` to the last value (or `to_seq`) is missing. Returns the
    /// last sequence covered.
    pub fn check(&self, from_seq: u64, values: &[&[u8]], to_seq: u64) -> Result<u64, Corrupt> {
        let mut expected = self.next_live(from_seq);
        let mut covered = from_seq.saturating_sub(1);
        for value in values {
            let record = record::decode(value)?;
            if record.sequence > expected {
                return Err(Corrupt(format!("sequence {expected} is missing")));
            }
            if record.sequence < expected || record.sequence > self.last_seq {
                return Err(Corrupt(format!("sequence {} has a record but is not live", record.sequence)));
            }
            covered = record.sequence;
            expected = self.next_live(covered + 1);
        }
        if to_seq > covered {
            if expected <= to_seq.min(self.last_seq) {
                return Err(Corrupt(format!("sequence {expected} is missing")));
            }
            covered = to_seq;
        }
        Ok(covered)
    }

    /// The first live sequence from `sequence` on; beyond last_seq if there is none.
    fn next_live(&self, sequence: u64) -> u64 {
        self.deleted.next_absent(sequence.max(self.first_seq))
    }

    /// How many sequences in low..=high are live.
    pub fn live_between(&self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(self.first_seq), high.min(self.last_seq));
        if low > high {
            return 0;
        }
        high - low + 1 - self.deleted.count(low, high)
    }

    /// How many sequences between the first and the last are deleted.
    pub fn num_deleted(&self) -> u64 {
        self.deleted.len()
    }

    /// The first of them.
    pub fn deleted(&self, limit: usize) -> Vec<u64> {
        self.deleted.iter().take(limit).collect()
    }

    /// What it holds beyond what nats-server reports.
    pub fn statistics(&self) -> [(&'static str, u64); 3] {
        [
            ("message_ids", self.dedupe.len() as u64),
            ("inexact_subjects", self.index.inexact()),
            ("names_bytes", self.index.names_len() as u64),
        ]
    }

    /// How many subjects have messages.
    pub fn num_subjects(&self) -> usize {
        self.index.len()
    }

    /// (subject, messages) of those that match, sorted by subject, a page of them.
    pub fn subjects(&self, pattern: &[u8], offset: usize, limit: usize) -> Vec<(&[u8], u64)> {
        let slots = self.index.matching(&Filters::new(&[pattern]));
        let mut found: Vec<_> =
            slots.into_iter().map(|slot| (self.index.name(slot), self.index.entry(slot).count)).collect();
        found.sort_unstable();
        found.into_iter().skip(offset).take(limit).collect()
    }

    /// (lower bound of the first, upper bound of the last sequence, exact count) of matching messages; zeros if none.
    pub fn bounds(&self, filters: &[&[u8]]) -> (u64, u64, u64) {
        let filters = Filters::new(filters);
        if self.messages == 0 {
            return (0, 0, 0);
        }
        if filters.all() {
            return (self.first_seq, self.last_seq, self.messages);
        }
        let slots = self.index.matching(&filters);
        let entries = slots.into_iter().map(|slot| self.index.entry(slot));
        let join = |(first, last, count): (u64, u64, u64), entry: &index::Entry| {
            (first.min(entry.first), last.max(entry.last), count + entry.count)
        };
        match entries.fold((u64::MAX, 0, 0), join) {
            (_, _, 0) => (0, 0, 0),
            (first, last, count) => (first.max(self.first_seq), last, count),
        }
    }

    /// How many matching messages have at least this sequence, and whether the index can tell; if not the caller scans.
    pub fn pending(&self, filters: &[&[u8]], from_seq: u64) -> (u64, bool) {
        let filters = Filters::new(filters);
        if filters.all() {
            return (self.live_between(from_seq, self.last_seq), true);
        }
        let mut count = 0;
        for slot in self.index.matching(&filters) {
            let entry = self.index.entry(slot);
            count += match self.index.queue(slot) {
                _ if from_seq <= entry.first.max(self.first_seq) => entry.count,
                _ if from_seq > entry.last => 0,
                Some(queue) => (queue.len() - queue.partition_point(|(sequence, _)| *sequence < from_seq)) as u64 + 1,
                None if entry.count == 1 && entry.exact => 1,
                None => return (0, false),
            };
        }
        (count, true)
    }

    /// (last sequence of a subject or 0, whether that is exact).
    pub fn last_of(&self, subject: &[u8]) -> (u64, bool) {
        let entry = self.index.find(subject).map(|slot| self.index.entry(slot));
        entry.map_or((0, true), |entry| (entry.last, entry.exact))
    }

    /// Last sequences of every matching subject, ascending; those that have only a bound come as such.
    pub fn last_per_subject(&self, filters: &[&[u8]]) -> Vec<u64> {
        let slots = self.index.matching(&Filters::new(filters));
        let mut lasts: Vec<u64> = slots.into_iter().map(|slot| self.index.entry(slot).last).collect();
        lasts.sort_unstable();
        lasts
    }

    /// Sequences that exceed the limit per subject, the oldest of each, at most about `limit` of them, ascending.
    pub fn excess(&self, limit: usize) -> Vec<u64> {
        let mut found = Vec::new();
        if self.limits.max_msgs_per_subject <= 0 || !self.index.queued() {
            return found;
        }
        let most = self.limits.max_msgs_per_subject as u64;
        for slot in self.index.slots() {
            let count = self.index.entry(slot).count.saturating_sub(most) as usize;
            if let Some(queue) = self.index.queue(slot).filter(|_| count > 0) {
                found.extend(queue.iter().take(count).map(|(sequence, _)| *sequence));
            }
            if found.len() >= limit {
                break;
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    /// Subjects that match and have only a bound for their last message; `note_last` settles them.
    pub fn inexact(&self, filters: &[&[u8]]) -> Vec<&[u8]> {
        if self.index.inexact() == 0 {
            return Vec::new();
        }
        let slots = self.index.matching(&Filters::new(filters));
        let inexact = slots.into_iter().filter(|slot| !self.index.entry(*slot).exact);
        inexact.map(|slot| self.index.name(slot)).collect()
    }
}

/// Sequences of the records that match any of the filters (none: all), in the order given.
pub fn select(values: &[&[u8]], filters: &[&[u8]]) -> Result<Vec<u64>, Corrupt> {
    let filters = Filters::new(filters);
    let mut found = Vec::new();
    let (mut last, mut last_matches) = (&[][..], filters.all());
    for value in values {
        let record = record::decode(value)?;
        if !filters.all() && record.subject != last {
            (last, last_matches) = (record.subject, filters.matches(record.subject));
        }
        if last_matches {
            found.push(record.sequence);
        }
    }
    Ok(found)
}
