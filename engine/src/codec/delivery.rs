//! What a delivered message carries beyond the stored one: the ack subject, and the size header of headers_only.
//!
//! Source: ADR-15 (ack subject, v1 form).

use crate::publish::{Outgoing, Publisher, Sent};

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Append a number in decimal digits. Two digits a step: it runs five times a message.
#[inline]
pub fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        at -= 2;
        digits[at] = PAIRS[pair];
        digits[at + 1] = PAIRS[pair + 1];
    }
    if value >= 10 {
        let pair = value as usize * 2;
        at -= 2;
        digits[at] = PAIRS[pair];
        digits[at + 1] = PAIRS[pair + 1];
    } else {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// The numbers of an ack subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// How often the message was delivered, this time included.
    pub deliveries: u32,
    /// Place in the stream.
    pub stream_seq: u64,
    /// Count of the consumer's deliveries.
    pub consumer_seq: u64,
    /// When the message was stored.
    pub timestamp_ns: i64,
    /// Messages left for the consumer after this one.
    pub pending: u64,
}

/// Renders the ack subjects of one consumer into one buffer.
#[derive(Debug)]
pub struct AckSubject {
    text: Vec<u8>,
    prefix: usize,
    // Records of one batch share their timestamp, whose 19 digits are the longest part.
    timestamp: (i64, Vec<u8>),
}

impl AckSubject {
    /// For a consumer of a stream.
    pub fn new(stream: &str, consumer: &str) -> Self {
        let text = format!("$JS.ACK.{stream}.{consumer}.").into_bytes();
        let prefix = text.len();
        Self { text, prefix, timestamp: (0, b"0".to_vec()) }
    }

    /// `$JS.ACK.<stream>.<consumer>.`
    pub fn prefix(&self) -> &[u8] {
        &self.text[..self.prefix]
    }

    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp ns>.<pending>`, kept until the
    /// next call.
    #[inline]
    pub fn render(&mut self, numbers: &Numbers) {
        if self.timestamp.0 != numbers.timestamp_ns {
            self.timestamp.0 = numbers.timestamp_ns;
            self.timestamp.1.clear();
            if numbers.timestamp_ns < 0 {
                self.timestamp.1.push(b'-');
            }
            decimal(&mut self.timestamp.1, numbers.timestamp_ns.unsigned_abs());
        }
        let text = &mut self.text;
        text.truncate(self.prefix);
        decimal(text, u64::from(numbers.deliveries));
        text.push(b'.');
        decimal(text, numbers.stream_seq);
        text.push(b'.');
        decimal(text, numbers.consumer_seq);
        text.push(b'.');
        text.extend_from_slice(&self.timestamp.1);
        text.push(b'.');
        decimal(text, numbers.pending);
    }

    /// What was rendered last.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// One message on its way to a consumer: what was stored, with its ack subject.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Subject as stored, which receivers are shown.
    pub subject: &'a [u8],
    /// Ack subject.
    pub reply: &'a [u8],
    /// Header block without its blank line's CRLF and what replaces that; both empty for none.
    pub headers: [&'a [u8]; 2],
    /// Body.
    pub payload: &'a [u8],
}

impl<'a> Parcel<'a> {
    /// The stored message; with `sizes` (a buffer to render into) its body gives way to a Nats-Msg-Size header.
    #[inline]
    pub fn new(
        subject: &'a [u8],
        reply: &'a [u8],
        headers: &'a [u8],
        payload: &'a [u8],
        sizes: Option<&'a mut Vec<u8>>,
    ) -> Self {
        let Some(sizes) = sizes else {
            return Self { subject, reply, headers: [headers, b""], payload };
        };
        sizes.clear();
        sizes.extend_from_slice(b"Nats-Msg-Size: ");
        decimal(sizes, payload.len() as u64);
        sizes.extend_from_slice(b"\r\n\r\n");
        let block = if headers.is_empty() { b"NATS/1.0\r\n" } else { headers.strip_suffix(b"\r\n").unwrap_or(headers) };
        Self { subject, reply, headers: [block, sizes], payload: b"" }
    }

    /// Bytes that count against max_bytes and the flow control window.
    #[inline]
    pub fn size(&self) -> u64 {
        (self.subject.len() + self.reply.len() + self.headers[0].len() + self.headers[1].len() + self.payload.len())
            as u64
    }

    /// Send it to where a receiver listens.
    #[inline]
    pub fn send(&self, hub: &mut dyn Publisher, account: &str, to: &[u8]) -> Sent {
        hub.publish(
            account,
            Outgoing { to, subject: self.subject, reply: self.reply, headers: &self.headers, payload: &[self.payload] },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 12_345, 99_999, 1 << 40, u64::MAX - 1, u64::MAX] {
            let mut out = b"x".to_vec();
            decimal(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), format!("x{value}"));
        }
    }

    #[test]
    fn the_ack_subject_has_nine_tokens() {
        let mut subject = AckSubject::new("S", "C");
        for timestamp_ns in [1_700_000_000_000_000_001, 1_700_000_000_000_000_001, -5, 0] {
            let numbers = Numbers { deliveries: 2, stream_seq: 10, consumer_seq: 7, timestamp_ns, pending: 3 };
            subject.render(&numbers);
            assert_eq!(subject.text(), format!("$JS.ACK.S.C.2.10.7.{timestamp_ns}.3").as_bytes());
        }
        assert_eq!(subject.prefix(), b"$JS.ACK.S.C.");
    }

    #[test]
    fn headers_only_tells_the_size() {
        let mut sizes = Vec::new();
        let bare = Parcel::new(b"a", b"r", b"", b"12345", Some(&mut sizes));
        assert_eq!(bare.headers.concat(), b"NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
        assert!(bare.payload.is_empty());
        let mut sizes = Vec::new();
        let with = Parcel::new(b"a", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", b"", Some(&mut sizes));
        assert_eq!(with.headers.concat(), b"NATS/1.0\r\nA: b\r\nNats-Msg-Size: 0\r\n\r\n");
        assert_eq!(with.size(), 2 + 16 + 20);
    }
}
