//! Publish acks: `{"stream":"S","seq":N}`, `{"stream":"S","seq":N,"duplicate": true}` and
//! `{"error":{"code":400,"err_code":10071,"description":"..."},"stream":"S","seq":0}`.
//!
//! Source: nats-server 2.15.2, whose field order and spaces these are.

use std::borrow::Cow;

/// Why a message was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP-like class.
    pub code: u16,
    /// The number that clients look at.
    pub err_code: u32,
    /// The text.
    pub description: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a fixed text.
    pub const fn fixed(code: u16, err_code: u32, description: &'static str) -> Refusal {
        Refusal { code, err_code, description: Cow::Borrowed(description) }
    }
}

/// The acks of one stream; what is the same in all of them is rendered once.
#[derive(Clone, Debug)]
pub struct PubAck {
    prefix: Vec<u8>,
    error_end: Vec<u8>,
}

impl PubAck {
    /// Acks for a stream.
    pub fn new(stream: &str) -> PubAck {
        let mut prefix = b"{\"stream\":".to_vec();
        push_json(&mut prefix, stream);
        prefix.extend_from_slice(b",\"seq\":");
        let mut error_end = b"},\"stream\":".to_vec();
        push_json(&mut error_end, stream);
        error_end.extend_from_slice(b",\"seq\":0}");
        PubAck { prefix, error_end }
    }

    /// The pieces of a success.
    #[inline]
    pub fn stored<'a>(&'a self, digits: &'a Digits, duplicate: bool) -> [&'a [u8]; 3] {
        let end: &[u8] = if duplicate { b",\"duplicate\": true}" } else { b"}" };
        [&self.prefix, digits.bytes(), end]
    }

    /// A refusal as a whole.
    pub fn refused(&self, refusal: &Refusal) -> Vec<u8> {
        let mut out = b"{\"error\":{\"code\":".to_vec();
        out.extend_from_slice(Digits::new(u64::from(refusal.code)).bytes());
        out.extend_from_slice(b",\"err_code\":");
        out.extend_from_slice(Digits::new(u64::from(refusal.err_code)).bytes());
        out.extend_from_slice(b",\"description\":");
        push_json(&mut out, &refusal.description);
        out.extend_from_slice(&self.error_end);
        out
    }
}

/// A number in decimal, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    buffer: [u8; 20],
    start: u8,
}

impl Digits {
    /// Render a number.
    #[inline]
    pub fn new(mut number: u64) -> Digits {
        let mut buffer = [b'0'; 20];
        let mut start = 20;
        loop {
            start -= 1;
            buffer[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Digits { buffer, start: start as u8 };
            }
        }
    }

    /// The digits.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[usize::from(self.start)..]
    }
}

/// Append a JSON string, quoted and escaped as Go's encoding/json does (HTML characters too).
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_shapes() {
        let acks = PubAck::new("S\"<");
        assert_eq!(
            b"{\"stream\":\"S\\\"\\u003c\",\"seq\":120}".to_vec(),
            acks.stored(&Digits::new(120), false).concat()
        );
        let acks = PubAck::new("S");
        assert_eq!(
            b"{\"stream\":\"S\",\"seq\":1,\"duplicate\": true}".to_vec(),
            acks.stored(&Digits::new(1), true).concat()
        );
        let refusal = Refusal::fixed(400, 10071, "wrong last sequence: 5");
        let wanted =
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}"#;
        assert_eq!(wanted.as_bytes(), acks.refused(&refusal));
    }

    #[test]
    fn digits_of_every_length() {
        for number in [0, 9, 10, 99, 12345, u64::MAX] {
            assert_eq!(number.to_string().as_bytes(), Digits::new(number).bytes());
        }
    }
}
