//! Records that share one entry of a store: what a commit appends to a log lies in few big entries, which LMDB writes in fewer
//! steps and with less waste than one entry a record.
//!
//! ```text
//!  0  u32 crc32c of the rest of the head | 4 u8 flags (bit 2: a pack) | 5 u64 sequence of the last record
//! 13  u16 count, 2 or more | 15 u16 length of each record (here the head ends) | the records          (little endian)
//! ```
//! A record alone is an entry without a head. The key of either begins with the last sequence, so that the first key from a
//! sequence on is that of the entry which has it; in a pack's the count follows (u16, big endian), so that records are counted
//! without reading them.

use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::record::{self, Corrupt, FIXED as RECORD_MIN, FLAGS_AT, SEQUENCE_AT};

/// Greatest pack, as its lengths are 16 bits.
pub const BYTES_MAX: usize = u16::MAX as usize;

const FLAG_PACK: u8 = 4;
/// Bytes before the lengths.
pub const FIXED: usize = 15;
const KEY: usize = 8;

/// Bytes that a pack of so many records takes beside them.
#[inline]
pub fn overhead(count: usize) -> usize {
    FIXED + 2 * count
}

/// The key of a pack that ends with a sequence.
pub fn key(sequence: u64, count: usize) -> [u8; KEY + 2] {
    let mut key = [0; KEY + 2];
    key[..KEY].copy_from_slice(&record::key(sequence));
    key[KEY..].copy_from_slice(&(count as u16).to_be_bytes());
    key
}

/// Whether an entry that begins so (`FIXED` bytes, if it has so many) belongs under a key.
pub fn belongs(key: &[u8], head: &[u8]) -> bool {
    let held = if is_pack(head) { held(head) } else { 1 };
    count(key) == held && record::sequence(head).is_some_and(|sequence| key.starts_with(&record::key(sequence)))
}

/// How many records lie under a key; 0 if it is none.
#[inline]
pub fn count(key: &[u8]) -> usize {
    match *key {
        [_, _, _, _, _, _, _, _] => 1,
        [_, _, _, _, _, _, _, _, high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    }
}

/// Write a pack that ends with a sequence into `out`, which is as long as the records and `overhead`, at most `BYTES_MAX`.
pub fn write<'a>(out: &mut [u8], sequence: u64, count: usize, records: impl Iterator<Item = &'a [u8]>) {
    let (head, mut rest) = out.split_at_mut(overhead(count));
    for (record, length) in records.zip(head[FIXED..].chunks_exact_mut(2)) {
        length.copy_from_slice(&(record.len() as u16).to_le_bytes());
        let (place, behind) = std::mem::take(&mut rest).split_at_mut(record.len());
        place.copy_from_slice(record);
        rest = behind;
    }
    head[FLAGS_AT] = FLAG_PACK;
    head[SEQUENCE_AT..SEQUENCE_AT + 8].copy_from_slice(&sequence.to_le_bytes());
    head[SEQUENCE_AT + 8..FIXED].copy_from_slice(&(count as u16).to_le_bytes());
    record::write_checksum(head);
}

/// Whether an entry is a pack.
#[inline]
pub fn is_pack(entry: &[u8]) -> bool {
    entry.get(FLAGS_AT).is_some_and(|flags| flags & FLAG_PACK != 0)
}

/// The records of an entry, each with the sequence that it names as its own. They ascend. Their checksums aren't looked at.
pub fn split(entry: &[u8]) -> Result<Vec<(u64, &[u8])>, Corrupt> {
    if !is_pack(entry) {
        let sequence = record::sequence(entry).ok_or_else(|| Corrupt(format!("record of {} bytes", entry.len())))?;
        return Ok(vec![(sequence, entry)]);
    }
    let head = &entry[..entry.len().min(overhead(held(entry)))];
    let mut records: Vec<(u64, &[u8])> = Vec::with_capacity(held(head));
    for bounds in ends(head, entry.len())?.windows(2) {
        let value = &entry[bounds[0]..bounds[1]];
        let sequence = record::sequence(value).unwrap_or_default();
        if records.last().is_some_and(|(last, _)| *last >= sequence) {
            return Err(Corrupt(format!("record {sequence}: it is out of order")));
        }
        records.push((sequence, value));
    }
    Ok(records)
}

/// Where one record lies in the entry that was found for its sequence, None if it isn't there. The entry has `size` bytes, of which
/// `copy` hands out those from a place on. That it ends with that sequence or a later one is looked at, checksums of records aren't.
pub fn pick(size: usize, copy: impl Fn(usize, &mut [u8]), wanted: u64) -> Result<Option<Range<usize>>, Corrupt> {
    let mut fixed = [0; FIXED];
    let fixed = &mut fixed[..size.min(FIXED)];
    copy(0, fixed);
    let last = record::sequence(fixed).unwrap_or_default();
    if last < wanted {
        return Err(Corrupt(format!("the entry of {last} lies where that of {wanted} should")));
    }
    if !is_pack(fixed) {
        return Ok((last == wanted).then_some(0..size));
    }
    let mut head = vec![0; size.min(overhead(held(fixed)))];
    copy(0, &mut head);
    let ends = ends(&head, size)?;
    let record = |place: usize| ends[place - 1]..ends[place];
    let sequence = |place: usize| {
        let mut sequence = [0; 8];
        copy(ends[place - 1] + SEQUENCE_AT, &mut sequence);
        u64::from_le_bytes(sequence)
    };
    // Where it lies if nothing is missing behind it: one look instead of several.
    let near = (last - wanted).try_into().ok().and_then(|behind: usize| (ends.len() - 1).checked_sub(behind));
    if let Some(place) = near.filter(|place| *place > 0 && sequence(*place) == wanted) {
        return Ok(Some(record(place)));
    }
    let (mut low, mut high) = (1, ends.len());
    while low < high {
        let middle = (low + high) / 2;
        match sequence(middle).cmp(&wanted) {
            Ordering::Equal => return Ok(Some(record(middle))),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

/// How many records a pack has that begins so.
fn held(fixed: &[u8]) -> usize {
    fixed.get(FIXED - 2..FIXED).map_or(0, |count| usize::from(u16::from_le_bytes([count[0], count[1]])))
}

/// Where the head of a pack of `size` bytes ends, and then each of its records.
fn ends(head: &[u8], size: usize) -> Result<Vec<usize>, Corrupt> {
    let corrupt = |what: &str| Corrupt(format!("entry of {}: {what}", record::sequence(head).unwrap_or_default()));
    if head.len() < FIXED || head.len() != overhead(held(head)) {
        return Err(corrupt("it is too short"));
    }
    record::verify(head, 0).map_err(|_| corrupt("checksum mismatch of its head"))?;
    let mut ends = Vec::with_capacity(1 + held(head));
    ends.push(head.len());
    let mut end = head.len();
    for length in head[FIXED..].chunks_exact(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        if length < RECORD_MIN {
            return Err(corrupt("its lengths are not those of records"));
        }
        end += length;
        ends.push(end);
    }
    if end != size {
        return Err(corrupt("its lengths are not those of its records"));
    }
    Ok(ends)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;
    use crate::codec::record::Record;
    use proptest::prelude::*;

    fn encoded(sequence: u64, size: usize) -> Vec<u8> {
        let mut value = Vec::new();
        let payload = vec![sequence as u8; size];
        record::encode_into(
            &mut value,
            &Record { sequence, timestamp_ns: 1, subject: b"a.b", headers: b"", payload: &payload },
        );
        value
    }

    fn packed(records: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let bytes: usize = records.iter().map(|(_, value)| value.len()).sum();
        let mut pack = vec![0; bytes + overhead(records.len())];
        write(&mut pack, records[records.len() - 1].0, records.len(), records.iter().map(|(_, value)| &value[..]));
        pack
    }

    fn picked(entry: &[u8], wanted: u64) -> Result<Option<&[u8]>, Corrupt> {
        let found = pick(entry.len(), |at, into| into.copy_from_slice(&entry[at..at + into.len()]), wanted)?;
        Ok(found.map(|place| &entry[place]))
    }

    proptest! {
        #[test]
        fn what_was_packed_is_split(gaps in prop::collection::vec((1u64..4, 0usize..300), 2..40)) {
            let mut last = 0;
            let records: Vec<_> = gaps.iter().map(|(gap, size)| { last += gap; (last, encoded(last, *size)) }).collect();
            let pack = packed(&records);
            let found: Vec<_> = split(&pack).unwrap().into_iter().map(|(sequence, value)| (sequence, value.to_vec())).collect();
            prop_assert_eq!(&found, &records);
            prop_assert_eq!(record::sequence(&pack), Some(last));
            for sequence in 0..=last {
                let value = records.iter().find(|(own, _)| *own == sequence).map(|(_, value)| &value[..]);
                prop_assert_eq!(picked(&pack, sequence), Ok(value));
            }
            prop_assert!(picked(&pack, last + 1).is_err());
            let key = key(last, records.len());
            prop_assert_eq!(count(&key), records.len());
            prop_assert!(belongs(&key, &pack[..FIXED]));
            let alone = &records[records.len() - 1].1[..FIXED];
            prop_assert!(belongs(&key[..8], alone) && !belongs(&key[..8], &pack[..FIXED]) && !belongs(&key, alone));
        }

        #[test]
        fn garbage_never_panics(mut entry in prop::collection::vec(any::<u8>(), 0..100), pack: bool) {
            if let Some(flags) = entry.get_mut(FLAGS_AT).filter(|_| pack) {
                *flags |= FLAG_PACK;
            }
            let _ = split(&entry);
            let _ = picked(&entry, 7);
        }

        #[test]
        fn a_flip_hands_no_other_record_out(at in 0usize..219, bit in 0u8..8) {
            let records: Vec<_> = (7..10).map(|sequence| (sequence, encoded(sequence, 36))).collect();
            let mut pack = packed(&records);
            prop_assert_eq!(pack.len(), 219);
            pack[at] ^= 1 << bit;
            for (sequence, value) in split(&pack).unwrap_or_default() {
                if record::decode(value).is_ok() {
                    prop_assert!(records.iter().any(|(own, same)| *own == sequence && same == value));
                }
            }
        }
    }

    #[test]
    fn a_record_alone_is_an_entry() {
        let value = encoded(5, 10);
        assert_eq!(split(&value), Ok(vec![(5, &value[..])]));
        assert_eq!((count(&record::key(5)), count(b""), count(b"123456789")), (1, 0, 0));
        assert_eq!((picked(&value, 5), picked(&value, 4)), (Ok(Some(&value[..])), Ok(None)));
        assert!(split(b"").is_err() && picked(&value, 6).is_err());
    }
}
