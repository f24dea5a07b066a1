//! Which message ids were seen within the window, oldest first.
//!
//! What is known depends on nothing but what was stored: so the machine that admitted it, the one that is read back, and
//! those of other replicas give the same answers.
//!
//! Segments are what is stored of it: `u32 crc32c | u8 version | i64 newest timestamp | (varint sequence, i64 timestamp,
//! varint length, id)*`, little endian.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::codec::record::Corrupt;
use crate::log::varint::{self, Reader};

const VERSION: u8 = 1;

#[derive(Debug)]
struct Seen {
    id: Box<[u8]>,
    sequence: u64,
    timestamp_ns: i64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Dedupe {
    // Places are absolute (popped + index), so that the table survives what leaves at the front.
    seen: VecDeque<Seen>,
    popped: u64,
    table: HashTable<u64>,
    hasher: RandomState,
}

impl Dedupe {
    /// How many ids are held.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none are held.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The sequence that an id was stored under, if that is within the window.
    pub fn find(&self, id: &[u8], now_ns: i64, window_ns: i64) -> Option<u64> {
        if self.seen.is_empty() {
            return None;
        }
        let (seen, popped) = (&self.seen, self.popped);
        self.table
            .find(self.hasher.hash_one(id), |place| *seen[(place - popped) as usize].id == *id)
            .map(|place| &seen[(place - popped) as usize])
            .filter(|seen| !expired(seen.timestamp_ns, now_ns, window_ns))
            .map(|seen| seen.sequence)
    }

    /// Remember an id that `find` doesn't know, once what is out of the window is forgotten. Timestamps ascend.
    pub fn insert(&mut self, id: &[u8], sequence: u64, timestamp_ns: i64) {
        let place = self.popped + self.seen.len() as u64;
        self.seen.push_back(Seen { id: id.into(), sequence, timestamp_ns });
        let (seen, popped, hasher) = (&self.seen, self.popped, &self.hasher);
        let rehash = |place: &u64| hasher.hash_one(&*seen[(place - popped) as usize].id);
        self.table.insert_unique(hasher.hash_one(id), place, rehash);
    }

    /// Forget what is as old as the window, or all if there is no window.
    pub fn expire(&mut self, now_ns: i64, window_ns: i64) {
        while self.seen.front().is_some_and(|seen| expired(seen.timestamp_ns, now_ns, window_ns)) {
            let Some(seen) = self.seen.pop_front() else { break };
            let place = self.popped;
            if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&*seen.id), |other| *other == place) {
                entry.remove();
            }
            self.popped += 1;
        }
    }

    /// All of it as one segment, for a replica that lacks it.
    pub fn segment(&self) -> Vec<u8> {
        let mut segment = Segment::default();
        self.seen.iter().for_each(|seen| segment.push(&seen.id, seen.sequence, seen.timestamp_ns));
        segment.finish()
    }

    /// Remember the ids of a segment that are still within the window. Of one that was stored twice the later counts.
    pub fn replay(&mut self, segment: &[u8], now_ns: i64, window_ns: i64) -> Result<(), Corrupt> {
        let (_, mut reader) = open(segment)?;
        while !reader.is_empty() {
            let sequence = reader.varint()?;
            let timestamp_ns = reader.i64()?;
            let id = reader.counted()?;
            if !expired(timestamp_ns, now_ns, window_ns) {
                self.supersede(id);
                self.insert(id, sequence, timestamp_ns);
            }
        }
        Ok(())
    }

    /// Take an id out of the table; its place among those seen leaves with the window.
    fn supersede(&mut self, id: &[u8]) {
        let (seen, popped) = (&self.seen, self.popped);
        let same = |place: &u64| *seen[(place - popped) as usize].id == *id;
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(id), same) {
            entry.remove();
        }
    }
}

fn expired(timestamp_ns: i64, now_ns: i64, window_ns: i64) -> bool {
    now_ns.saturating_sub(timestamp_ns) >= window_ns
}

/// A segment being written.
#[derive(Debug, Default)]
pub struct Segment(Vec<u8>);

impl Segment {
    /// Add an id. Timestamps ascend.
    pub fn push(&mut self, id: &[u8], sequence: u64, timestamp_ns: i64) {
        if self.0.is_empty() {
            self.0.extend_from_slice(&[0, 0, 0, 0, VERSION]);
            self.0.extend_from_slice(&[0; 8]);
        }
        self.0[5..13].copy_from_slice(&timestamp_ns.to_le_bytes());
        varint::push(&mut self.0, sequence);
        self.0.extend_from_slice(&timestamp_ns.to_le_bytes());
        varint::push(&mut self.0, id.len() as u64);
        self.0.extend_from_slice(id);
    }

    /// The bytes to store, empty if nothing was added.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.0.is_empty() {
            varint::seal(&mut self.0);
        }
        self.0
    }
}

/// Whether every id of a segment is out of the window.
pub fn segment_expired(segment: &[u8], now_ns: i64, window_ns: i64) -> Result<bool, Corrupt> {
    open(segment).map(|(newest_ns, _)| expired(newest_ns, now_ns, window_ns))
}

fn open(segment: &[u8]) -> Result<(i64, Reader<'_>), Corrupt> {
    let mut reader = varint::unseal(segment, "message ids", VERSION)?;
    let newest_ns = reader.i64()?;
    Ok((newest_ns, reader))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn ids_leave_with_the_window_and_come_back_from_segments() {
        let (mut table, mut segment) = (Dedupe::default(), Segment::default());
        for number in 0..1000u64 {
            let id = format!("id-{number}");
            table.insert(id.as_bytes(), number + 1, number as i64);
            segment.push(id.as_bytes(), number + 1, number as i64);
        }
        table.expire(1500, 1000);
        assert_eq!(499, table.len());
        assert_eq!(None, table.find(b"id-500", 1500, 1000));
        assert_eq!(Some(502), table.find(b"id-501", 1500, 1000));
        assert_eq!(None, table.find(b"id-501", 1501, 1000), "it is no longer in the window, though still in the table");

        let segment = segment.finish();
        let mut again = Dedupe::default();
        again.replay(&segment, 1500, 1000).unwrap();
        assert_eq!(table.len(), again.len());
        assert_eq!(Some(1000), again.find(b"id-999", 1500, 1000));
        let mut later = Segment::default();
        later.push(b"id-999", 2000, 1600);
        again.replay(&later.finish(), 1600, 1000).unwrap();
        assert_eq!(Some(2000), again.find(b"id-999", 1600, 1000));
        again.expire(2000, 1000);
        assert_eq!(Some(2000), again.find(b"id-999", 2000, 1000), "the earlier one has left");
        assert!(!segment_expired(&segment, 1998, 1000).unwrap());
        assert!(segment_expired(&segment, 1999, 1000).unwrap());
        for end in 0..segment.len() {
            assert!(segment_expired(&segment[..end], 0, 1).is_err());
        }
    }
}
