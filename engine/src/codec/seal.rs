//! The sealed form of a record, for stores that nobody may read without a key.
//!
//! The record keeps its layout and its key in the store; a flag says that the payload is
//!
//! ```text
//! 0 u8 cipher (1: AES-256-GCM, 2: ChaCha20-Poly1305) | 1 nonce (12) | 13 sealed payload | tag (16)
//! ```
//! What stands before the payload (flags, sequence, timestamp, subject, headers) stays readable and is authenticated with
//! it: a payload opens in no other record. The checksum is that of the sealed form, so damage is told from a wrong key.
//!
//! A nonce is 4 random bytes and a counter of 8, big endian. The caller starts the counter at the time in nanoseconds: as no
//! server writes a billion messages a second, a later run starts above whatever an earlier one has used, even where the
//! random bytes are the same. Those keep runs apart whose clock went back, and copies of a store that run side by side.

use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::{AeadInOut, Error, KeyInit};
use aes_gcm::Aes256Gcm;
use chacha20poly1305::ChaCha20Poly1305;

use crate::codec::record::{self, Corrupt, FLAGS_AT, FLAG_SEALED};

/// Bytes of a key.
pub const KEY: usize = 32;
/// Bytes of a nonce.
pub const NONCE: usize = 12;
const TAG: usize = 16;
const HEAD: usize = 1 + NONCE;
/// Bytes that sealing adds to a record.
pub const OVERHEAD: usize = HEAD + TAG;

/// How a payload is sealed; the number is what stands in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// AES-256-GCM.
    Aes = 1,
    /// ChaCha20-Poly1305.
    ChaCha = 2,
}

impl Code {
    /// The faster one here: AES needs instructions of the processor for it.
    pub fn preferred() -> Code {
        #[cfg(target_arch = "x86_64")]
        let hardware = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let hardware = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let hardware = false;
        if hardware {
            Code::Aes
        } else {
            Code::ChaCha
        }
    }

    fn read(code: u8) -> Option<Code> {
        match code {
            1 => Some(Code::Aes),
            2 => Some(Code::ChaCha),
            _ => None,
        }
    }
}

/// One key: seals by one cipher, opens by whichever a record names.
pub struct Cipher {
    code: Code,
    aes: Aes256Gcm,
    chacha: ChaCha20Poly1305,
    random: [u8; 4],
    counter: AtomicU64,
}

impl Cipher {
    /// `nonce` is the first one that is used.
    pub fn new(key: &[u8; KEY], code: Code, nonce: &[u8; NONCE]) -> Cipher {
        let (mut random, mut counter) = ([0; 4], [0; 8]);
        random.copy_from_slice(&nonce[..4]);
        counter.copy_from_slice(&nonce[4..]);
        Cipher {
            code,
            aes: Aes256Gcm::new(key.into()),
            chacha: ChaCha20Poly1305::new(key.into()),
            random,
            counter: AtomicU64::new(u64::from_be_bytes(counter)),
        }
    }

    /// What it seals by.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Append the sealed form of an encoded record.
    pub fn seal_into(&self, out: &mut Vec<u8>, value: &[u8]) -> Result<(), Corrupt> {
        let record = record::decode_unverified(value)?;
        let (sequence, payload_at) = (record.sequence, value.len() - record.payload.len());
        let nonce = self.next_nonce();
        let start = out.len();
        out.reserve(value.len() + OVERHEAD);
        out.extend_from_slice(&value[..payload_at]);
        out[start + FLAGS_AT] |= FLAG_SEALED;
        out.push(self.code as u8);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(record.payload);
        let (head, payload) = out[start..].split_at_mut(payload_at + HEAD);
        let covered = &head[FLAGS_AT..payload_at];
        let tag = match self.code {
            Code::Aes => self.aes.encrypt_inout_detached(&nonce.into(), covered, payload.into()),
            Code::ChaCha => self.chacha.encrypt_inout_detached(&nonce.into(), covered, payload.into()),
        };
        match tag {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(Error) => {
                out.truncate(start);
                return Err(Corrupt(format!("record {sequence}: its payload is too long to be encrypted")));
            }
        }
        record::write_checksum(&mut out[start..]);
        Ok(())
    }

    /// Write the plain form of a record to `out`, in place of what is there. False if it isn't sealed: nothing is done then.
    pub fn open_to(&self, out: &mut Vec<u8>, value: &[u8]) -> Result<bool, Corrupt> {
        if value.get(FLAGS_AT).is_none_or(|flags| flags & FLAG_SEALED == 0) {
            return Ok(false);
        }
        let record = record::decode_sealed(value)?;
        let sequence = record.sequence;
        record::verify(value, sequence)?;
        let payload_at = value.len() - record.payload.len();
        let Some((head, rest)) = record.payload.split_first_chunk::<HEAD>() else {
            return Err(Corrupt(format!("record {sequence}: its payload is too short for an encrypted one")));
        };
        let Some((sealed, tag)) = rest.split_last_chunk::<TAG>() else {
            return Err(Corrupt(format!("record {sequence}: its payload is too short for an encrypted one")));
        };
        let Some(code) = Code::read(head[0]) else {
            return Err(Corrupt(format!("record {sequence}: it is encrypted by unknown cipher {}", head[0])));
        };
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&head[1..]);
        let covered = &value[FLAGS_AT..payload_at];
        out.clear();
        out.extend_from_slice(&value[..payload_at]);
        out.extend_from_slice(sealed);
        let payload = &mut out[payload_at..];
        let opened = match code {
            Code::Aes => self.aes.decrypt_inout_detached(&nonce.into(), covered, payload.into(), tag.into()),
            Code::ChaCha => self.chacha.decrypt_inout_detached(&nonce.into(), covered, payload.into(), tag.into()),
        };
        if opened.is_err() {
            out.clear();
            return Err(Corrupt(format!("record {sequence}: its payload does not open with this encryption key")));
        }
        out[FLAGS_AT] &= !FLAG_SEALED;
        record::write_checksum(out);
        Ok(true)
    }

    fn next_nonce(&self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..4].copy_from_slice(&self.random);
        nonce[4..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        nonce
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;
    use crate::codec::record::{Record, FIXED};
    use proptest::prelude::*;

    const CODES: [Code; 2] = [Code::Aes, Code::ChaCha];

    fn cipher(code: Code) -> Cipher {
        Cipher::new(&[7; KEY], code, &[9; NONCE])
    }

    fn encoded(sequence: u64, subject: &[u8], headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        record::encode_into(&mut value, &Record { sequence, timestamp_ns: 5, subject, headers, payload });
        value
    }

    fn sealed(cipher: &Cipher, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        cipher.seal_into(&mut out, value).unwrap();
        out
    }

    fn opened(cipher: &Cipher, value: &[u8]) -> Result<Vec<u8>, Corrupt> {
        let mut out = vec![1, 2, 3];
        assert!(cipher.open_to(&mut out, value)?);
        Ok(out)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_by_either(
            sequence: u64,
            subject in prop::collection::vec(any::<u8>(), 0..40),
            headers in prop::collection::vec(any::<u8>(), 0..40),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            aes: bool,
        ) {
            let writer = cipher(if aes { Code::Aes } else { Code::ChaCha });
            let value = encoded(sequence, &subject, &headers, &payload);
            let stored = sealed(&writer, &value);
            prop_assert_eq!(stored.len(), value.len() + OVERHEAD);
            prop_assert!(record::decode(&stored).is_err());
            prop_assert_eq!(&stored[5..13], &value[5..13]);
            for code in CODES {
                prop_assert_eq!(&opened(&cipher(code), &stored).unwrap(), &value);
            }
            prop_assert!(!writer.open_to(&mut Vec::new(), &value).unwrap());
        }

        #[test]
        fn one_flipped_bit_is_found(at in 0usize..96, bit in 0u8..8, aes: bool, mended: bool) {
            let cipher = cipher(if aes { Code::Aes } else { Code::ChaCha });
            let mut stored = sealed(&cipher, &encoded(7, b"a.b", b"NATS/1.0\r\n\r\n", &[5; 25]));
            prop_assert_eq!(stored.len(), 96);
            stored[at] ^= 1 << bit;
            if mended && at >= 4 {
                // Somebody who can count a checksum.
                record::write_checksum(&mut stored);
            }
            let mut out = Vec::new();
            match cipher.open_to(&mut out, &stored) {
                Err(_) => {}
                Ok(true) => prop_assert!(false, "it opened"),
                // It doesn't say any more that it is sealed: then it is read as it stands.
                Ok(false) => {
                    prop_assert_eq!((at, bit), (FLAGS_AT, 1));
                    prop_assert!(mended || record::decode(&stored).is_err());
                }
            }
        }

        #[test]
        fn garbage_never_panics(mut value in prop::collection::vec(any::<u8>(), 0..120), mended: bool) {
            let cipher = cipher(Code::Aes);
            let _ = cipher.seal_into(&mut Vec::new(), &value);
            if mended && value.len() >= FIXED {
                value[FLAGS_AT] = FLAG_SEALED;
                value[21..27].fill(0);
                record::write_checksum(&mut value);
            }
            let _ = cipher.open_to(&mut Vec::new(), &value);
        }
    }

    #[test]
    fn a_payload_opens_in_no_other_record_and_with_no_other_key() {
        for code in CODES {
            let cipher = cipher(code);
            let one = sealed(&cipher, &encoded(1, b"a", b"", b"payload"));
            let mut other = sealed(&cipher, &encoded(2, b"a", b"", b"payload"));
            let at = FIXED + 1;
            other[at..].copy_from_slice(&one[at..]);
            record::write_checksum(&mut other);
            let text = "record 2: its payload does not open with this encryption key";
            assert_eq!(opened(&cipher, &other), Err(Corrupt(text.into())));
            let stranger = Cipher::new(&[8; KEY], code, &[9; NONCE]);
            assert!(opened(&stranger, &one).unwrap_err().0.contains("record 1: its payload does not open"));
        }
    }

    #[test]
    fn nonces_count_up_from_the_first() {
        let cipher = Cipher::new(&[7; KEY], Code::Aes, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 255]);
        let value = encoded(1, b"", b"", b"x");
        let nonces: Vec<_> = (0..2).map(|_| sealed(&cipher, &value)[FIXED + 1..][..NONCE].to_vec()).collect();
        assert_eq!(nonces[0], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(nonces[1], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 1, 0]);
    }

    /// The cases of the documents that define the ciphers, through the record form: key and nonce of RFC 8439, 2.8.2, and of
    /// test case 14 of the GCM specification, whose first keystream byte a payload of one zero byte shows.
    #[test]
    fn the_ciphers_are_what_their_names_say() {
        let value = encoded(1, b"", b"", &[0]);
        let mut key = [0; KEY];
        for (byte, number) in key.iter_mut().zip(0x80..) {
            *byte = number;
        }
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let chacha = sealed(&Cipher::new(&key, Code::ChaCha, &nonce), &value);
        assert_eq!(chacha[FIXED + HEAD], 0xd3 ^ b'L');
        let aes = sealed(&Cipher::new(&[0; KEY], Code::Aes, &[0; NONCE]), &value);
        assert_eq!(aes[FIXED + HEAD], 0xce);
    }
}
