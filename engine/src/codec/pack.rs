//! Records that share one entry of a store: what a commit appends to a log lies in few big entries, which LMDB writes in fewer
//! steps and with less waste than one entry a record.
//!
//! ```text
//!  0  u32 crc32c of the rest of the head | 4 u8 flags (bit 2: a pack) | 5 u64 sequence of the first record
//! 13  u16 count, 2 or more | 15 u16 length of each record (here the head ends) | the records          (little endian)
//! ```
//! A record alone is an entry without a head. The key of either begins with the first sequence; in a pack's the count follows
//! (u16, big endian), so that records are counted without reading them.

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

/// The key of a pack.
pub fn key(sequence: u64, count: usize) -> [u8; KEY + 2] {
    let mut key = [0; KEY + 2];
    key[..KEY].copy_from_slice(&record::key(sequence));
    key[KEY..].copy_from_slice(&(count as u16).to_be_bytes());
    key
}

/// Whether an entry that begins so (`FIXED` bytes, if it has so many) belongs under a key.
pub fn belongs(key: &[u8], head: &[u8]) -> bool {
    let held = match head.get(FIXED - 2..) {
        Some([low, high]) if is_pack(head) => usize::from(u16::from_le_bytes([*low, *high])),
        _ => 1,
    };
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

/// Write a pack into `out`, which is as long as the records and `overhead`, at most `BYTES_MAX`.
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
    let corrupt = |what: &str| Corrupt(format!("pack at {}: {what}", record::sequence(entry).unwrap_or_default()));
    let Some((fixed, _)) = entry.split_first_chunk::<FIXED>() else { return Err(corrupt("it is too short")) };
    let count = usize::from(u16::from_le_bytes([fixed[FIXED - 2], fixed[FIXED - 1]]));
    let Some((head, mut rest)) = entry.split_at_checked(overhead(count)) else {
        return Err(corrupt("it is too short"));
    };
    record::verify(head, 0).map_err(|_| corrupt("checksum mismatch of its head"))?;
    let mut records = Vec::with_capacity(count);
    for length in head[FIXED..].chunks_exact(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let Some((value, behind)) = rest.split_at_checked(length).filter(|_| length >= RECORD_MIN) else {
            return Err(corrupt("its lengths are not those of records"));
        };
        rest = behind;
        records.push((record::sequence(value).unwrap_or_default(), value));
    }
    if !rest.is_empty() || records.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(corrupt("its records are not those of its head"));
    }
    Ok(records)
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
        write(&mut pack, records[0].0, records.len(), records.iter().map(|(_, value)| &value[..]));
        pack
    }

    proptest! {
        #[test]
        fn what_was_packed_is_split(gaps in prop::collection::vec((1u64..4, 0usize..300), 2..40)) {
            let mut last = 0;
            let records: Vec<_> = gaps.iter().map(|(gap, size)| { last += gap; (last, encoded(last, *size)) }).collect();
            let pack = packed(&records);
            let found: Vec<_> = split(&pack).unwrap().into_iter().map(|(sequence, value)| (sequence, value.to_vec())).collect();
            prop_assert_eq!(&found, &records);
            prop_assert_eq!(record::sequence(&pack), Some(records[0].0));
            let key = key(records[0].0, records.len());
            prop_assert_eq!(count(&key), records.len());
            prop_assert!(belongs(&key, &pack[..FIXED]));
            prop_assert!(!belongs(&key[..8], &pack[..FIXED]) && !belongs(&key, &records[0].1[..FIXED]));
            prop_assert!(belongs(&key[..8], &records[0].1[..FIXED]));
        }

        #[test]
        fn garbage_never_panics(mut entry in prop::collection::vec(any::<u8>(), 0..100), pack: bool) {
            if let Some(flags) = entry.get_mut(FLAGS_AT).filter(|_| pack) {
                *flags |= FLAG_PACK;
            }
            let _ = split(&entry);
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
        assert!(split(b"").is_err());
    }
}
