//! The stored form of one message.
//!
//! ```text
//!  0  u32 crc32c of all that follows | 4 u8 flags (bit 0: headers, bit 1: sealed) | 5 u64 sequence | 13 i64 timestamp ns
//! 21  u16 subject length | 23 u32 header length | 27 subject, headers, payload          (little endian)
//! ```
//! What a sealed payload looks like is `codec::seal`'s business; here such a record is refused, so that nobody is served it.
//! The key in a store is the sequence as 8 bytes, big endian, so that keys sort as sequences do. Records that share an entry are
//! `codec::pack`'s business: it takes bit 2 of the flags.

use std::fmt;

/// Bytes before the subject.
pub const FIXED: usize = 27;
/// Longest subject that a record can hold.
pub const SUBJECT_MAX: usize = u16::MAX as usize;

const FLAG_HEADERS: u8 = 1;
/// In the flags: the payload is sealed.
pub const FLAG_SEALED: u8 = 2;
/// Where the flags stand.
pub const FLAGS_AT: usize = 4;
/// Where the sequence stands.
pub const SEQUENCE_AT: usize = 5;

/// One stored message, borrowed. Empty `headers` means there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Place in the stream, from 1.
    pub sequence: u64,
    /// When it was admitted, nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// Subject as stored.
    pub subject: &'a [u8],
    /// The whole header block, its blank line included.
    pub headers: &'a [u8],
    /// Body.
    pub payload: &'a [u8],
}

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt(pub String);

impl fmt::Display for Corrupt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Corrupt {}

/// The key of a sequence in a store.
#[inline]
pub fn key(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// The sequence of a key; None if it isn't 8 bytes.
#[inline]
pub fn key_sequence(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The sequence that a record names as its own; None if it is too short for one.
#[inline]
pub fn sequence(value: &[u8]) -> Option<u64> {
    value.get(SEQUENCE_AT..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Bytes that a record takes.
#[inline]
pub fn size(record: &Record<'_>) -> usize {
    FIXED + record.subject.len() + record.headers.len() + record.payload.len()
}

/// Append a record. The caller has seen to it that the subject fits `SUBJECT_MAX` and the headers fit 32 bits.
#[inline]
pub fn encode_into(out: &mut Vec<u8>, record: &Record<'_>) {
    let start = out.len();
    let flags = if record.headers.is_empty() { 0 } else { FLAG_HEADERS };
    let mut fixed = [0; FIXED];
    fixed[FLAGS_AT] = flags;
    fixed[SEQUENCE_AT..13].copy_from_slice(&record.sequence.to_le_bytes());
    fixed[13..21].copy_from_slice(&record.timestamp_ns.to_le_bytes());
    fixed[21..23].copy_from_slice(&(record.subject.len() as u16).to_le_bytes());
    fixed[23..27].copy_from_slice(&(record.headers.len() as u32).to_le_bytes());
    out.reserve(size(record));
    out.extend_from_slice(&fixed);
    out.extend_from_slice(record.subject);
    out.extend_from_slice(record.headers);
    out.extend_from_slice(record.payload);
    write_checksum(&mut out[start..]);
}

/// Write the checksum of an encoded record into it.
#[inline]
pub fn write_checksum(value: &mut [u8]) {
    let checksum = crc32c::crc32c(&value[4..]);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Read a record and verify its checksum.
#[inline]
pub fn decode(value: &[u8]) -> Result<Record<'_>, Corrupt> {
    let record = decode_unverified(value)?;
    verify(value, record.sequence)?;
    Ok(record)
}

/// Verify the checksum of a record that could be read.
#[inline]
pub fn verify(value: &[u8], sequence: u64) -> Result<(), Corrupt> {
    let stored = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
    if crc32c::crc32c(&value[4..]) != stored {
        return Err(Corrupt(format!("record {sequence}: checksum mismatch")));
    }
    Ok(())
}

/// Read a record whose checksum was verified before; only the lengths are looked at.
#[inline]
pub fn decode_unverified(value: &[u8]) -> Result<Record<'_>, Corrupt> {
    split(value, FLAG_HEADERS)
}

/// Read a record that may be sealed: then its payload is as `codec::seal` has left it. The checksum isn't looked at.
pub fn decode_sealed(value: &[u8]) -> Result<Record<'_>, Corrupt> {
    split(value, FLAG_HEADERS | FLAG_SEALED)
}

#[inline]
fn split(value: &[u8], known: u8) -> Result<Record<'_>, Corrupt> {
    let Some((fixed, rest)) = value.split_first_chunk::<FIXED>() else {
        return Err(Corrupt(format!("record of {} bytes is too short", value.len())));
    };
    let sequence = u64::from_le_bytes(part(fixed, SEQUENCE_AT));
    let timestamp_ns = i64::from_le_bytes(part(fixed, 13));
    let subject_len = usize::from(u16::from_le_bytes(part(fixed, 21)));
    let headers_len = u32::from_le_bytes(part(fixed, 23)) as usize;
    let flags = fixed[FLAGS_AT];
    if flags & !known == FLAG_SEALED {
        return Err(Corrupt(format!("record {sequence}: its payload is encrypted")));
    }
    if flags & !known != 0 || (flags & FLAG_HEADERS != 0) != (headers_len > 0) {
        return Err(Corrupt(format!("record {sequence}: unknown flags {flags:#04x}")));
    }
    if rest.len() < subject_len || rest.len() - subject_len < headers_len {
        return Err(Corrupt(format!("record {sequence}: lengths exceed its {} bytes", value.len())));
    }
    let (subject, rest) = rest.split_at(subject_len);
    let (headers, payload) = rest.split_at(headers_len);
    Ok(Record { sequence, timestamp_ns, subject, headers, payload })
}

#[inline]
fn part<const N: usize>(fixed: &[u8; FIXED], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&fixed[at..at + N]);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            sequence: u64,
            timestamp_ns: i64,
            subject in prop::collection::vec(any::<u8>(), 0..80),
            headers in prop::collection::vec(any::<u8>(), 0..80),
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let record = Record { sequence, timestamp_ns, subject: &subject, headers: &headers, payload: &payload };
            let mut value = vec![1, 2, 3];
            encode_into(&mut value, &record);
            prop_assert_eq!(value.len() - 3, size(&record));
            prop_assert_eq!(decode(&value[3..]), Ok(record));
        }

        #[test]
        fn one_flipped_bit_is_found(at in 0usize..60, bit in 0u8..8) {
            let record =
                Record { sequence: 7, timestamp_ns: 9, subject: b"a.b", headers: b"NATS/1.0\r\n\r\n", payload: &[5; 18] };
            let mut value = Vec::new();
            encode_into(&mut value, &record);
            prop_assert_eq!(value.len(), 60);
            value[at] ^= 1 << bit;
            prop_assert!(decode(&value).is_err());
        }

        #[test]
        fn garbage_never_panics(value in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&value);
            let _ = decode_unverified(&value);
        }
    }

    #[test]
    fn keys_sort_as_sequences() {
        assert!(key(255) < key(256));
        assert_eq!(Some(256), key_sequence(&key(256)));
        assert_eq!(None, key_sequence(b"abc"));
    }
}
