//! Small numbers in few bytes, and blocks with a checksum and a version in front: `u32 crc32c of the rest | u8 version`.

use crate::codec::record::Corrupt;

pub use crate::codec::varint::put as push;

/// Start a block.
pub fn block(version: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, version]
}

/// Put the checksum in.
pub fn seal(block: &mut [u8]) {
    let checksum = crc32c::crc32c(&block[4..]);
    block[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Verify checksum and version and go on behind them.
pub fn unseal<'a>(block: &'a [u8], what: &'static str, version: u8) -> Result<Reader<'a>, Corrupt> {
    let Some((stored, rest)) = block.split_first_chunk::<4>() else {
        return Err(Corrupt(format!("{what}: too short")));
    };
    if crc32c::crc32c(rest) != u32::from_le_bytes(*stored) {
        return Err(Corrupt(format!("{what}: checksum mismatch")));
    }
    match rest.split_first() {
        Some((found, rest)) if *found == version => Ok(Reader { rest, what }),
        Some((found, _)) => Err(Corrupt(format!("{what}: unknown version {found}"))),
        None => Err(Corrupt(format!("{what}: too short"))),
    }
}

/// Reads a block from the front. Every read beyond the end is an error.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// An error about this block.
    pub fn corrupt(&self, text: &str) -> Corrupt {
        Corrupt(format!("{}: {text}", self.what))
    }

    /// One number.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(self.corrupt("cut off"))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, Corrupt> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.corrupt("cut off"));
        };
        self.rest = rest;
        Ok(i64::from_le_bytes(*bytes))
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let Some((byte, rest)) = self.rest.split_first() else {
            return Err(self.corrupt("cut off"));
        };
        self.rest = rest;
        Ok(*byte)
    }

    /// A length and that many bytes.
    #[inline]
    pub fn counted(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.varint()?;
        if length > self.rest.len() as u64 {
            return Err(self.corrupt("cut off"));
        }
        let (bytes, rest) = self.rest.split_at(length as usize);
        self.rest = rest;
        Ok(bytes)
    }
}
