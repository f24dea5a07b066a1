//! What was removed since the last delta, relative to what the last checkpoint knows.
//!
//! Messages behind the checkpoint are replayed from their records, so a removed one simply isn't there; only those at or
//! below `base` must be subtracted from what the checkpoint says.

use crate::log::index::Index;
use crate::log::varint;

/// The open removals.
#[derive(Debug, Default)]
pub struct Journal {
    /// Last sequence that the checkpoint knows.
    pub base: u64,
    /// The checkpoint knows subjects without their sequences, so removals count them by subject. The index may know more.
    pub by_subject: bool,
    /// A purge of all: the checkpoint counts for nothing, the log goes on here.
    pub reset: Option<u64>,
    /// Interior deletes, in the order they came.
    pub deleted: Vec<u64>,
    /// Messages at or below `base` that were removed.
    pub messages: u64,
    /// And their bytes.
    pub bytes: u64,
    /// Subjects that were released: (varint length, name, varint count)*.
    pub released: Vec<u8>,
    /// How many of them.
    pub released_len: u64,
    /// Slots whose `removed` counts; a slot may be named twice.
    pub dirty: Vec<u32>,
    /// The first sequence that the last delta told.
    pub told_first: u64,
}

impl Journal {
    /// Nothing was removed; the log starts at `first_seq`.
    pub fn new(first_seq: u64) -> Journal {
        // What is restored from nothing starts at 1, so the first delta tells of any other start.
        Journal { base: first_seq - 1, told_first: 1, ..Journal::default() }
    }

    /// A live message leaves; the index still has it.
    #[inline]
    pub fn message_removed(&mut self, index: &mut Index, slot: u32, sequence: u64, size: u64) {
        if sequence > self.base {
            return;
        }
        self.messages += 1;
        self.bytes += size;
        // Where the checkpoint has queues, the sequences alone tell which messages are gone.
        if self.by_subject {
            let entry = index.entry_mut(slot);
            if entry.removed == 0 {
                self.dirty.push(slot);
            }
            entry.removed += 1;
        }
    }

    /// A subject without messages is about to be released.
    pub fn subject_released(&mut self, index: &Index, slot: u32) {
        let removed = index.entry(slot).removed;
        if removed > 0 {
            push_subject(&mut self.released, index.name(slot), removed);
            self.released_len += 1;
        }
    }

    /// Write down what the slots of an index count, before it is given up.
    pub fn flush(&mut self, index: &mut Index) {
        for slot in std::mem::take(&mut self.dirty) {
            let removed = std::mem::take(&mut index.entry_mut(slot).removed);
            if removed > 0 {
                push_subject(&mut self.released, index.name(slot), removed);
                self.released_len += 1;
            }
        }
    }

    /// An interior delete.
    pub fn deleted(&mut self, sequence: u64) {
        self.deleted.push(sequence);
    }

    /// All is purged.
    pub fn reset(&mut self, next_seq: u64) {
        // told_first differs from every sequence, so that the next delta speaks.
        *self = Journal { base: next_seq - 1, reset: Some(next_seq), told_first: 0, ..Journal::default() };
    }

    /// A checkpoint knows all up to `last_seq`.
    pub fn checkpoint(&mut self, index: &mut Index, first_seq: u64, last_seq: u64) {
        for slot in std::mem::take(&mut self.dirty) {
            index.entry_mut(slot).removed = 0;
        }
        let by_subject = !index.queued();
        *self = Journal { base: last_seq, by_subject, told_first: first_seq, ..Journal::default() };
    }
}

fn push_subject(out: &mut Vec<u8>, name: &[u8], removed: u64) {
    varint::push(out, name.len() as u64);
    out.extend_from_slice(name);
    varint::push(out, removed);
}
