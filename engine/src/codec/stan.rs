//! The messages of NATS Streaming of which there is one a message: publishes, their acks, deliveries, acks.
//!
//! Source: the protobuf messages PubMsg, PubAck, MsgProto and Ack of NATS Streaming's protocol 1 (package pb, proto3).

use super::varint;

/// Bytes that nats-streaming-server's file store counts for a message beside its MsgProto: record header and index entry.
pub const INDEX_ENTRY: usize = 40;

/// Where a stored message keeps the reply subject of its publisher.
const REPLY_HEADER: &[u8] = b"NATS/1.0\r\nNats-Streaming-Reply: ";
const HEADER_END: &[u8] = b"\r\n\r\n";

/// One field of a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a type that no field here has.
    Other,
}

/// The fields of a protobuf message. None: it is broken.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = varint::take(&mut self.0)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint::take(&mut self.0)?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(varint::take(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        let number = tag >> 3;
        (number > 0).then_some((number, field))
    }

    fn skip(&mut self, length: usize) -> Option<Field<'a>> {
        self.0 = self.0.split_at_checked(length)?.1;
        Some(Field::Other)
    }
}

/// A publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PubMsg<'a> {
    /// Who publishes.
    pub client_id: &'a [u8],
    /// What the client calls this publish.
    pub guid: &'a [u8],
    /// The channel.
    pub channel: &'a [u8],
    /// Reply subject for those who receive the message.
    pub reply: &'a [u8],
    /// Body.
    pub data: &'a [u8],
    /// Which incarnation of the client.
    pub conn_id: &'a [u8],
}

/// Read a publish. Unknown fields are ignored, known ones of another type break it. An error is what stands before that.
#[inline]
pub fn pub_msg(payload: &[u8]) -> Result<PubMsg<'_>, PubMsg<'_>> {
    let mut message = PubMsg::default();
    let mut fields = Fields(payload);
    while !fields.0.is_empty() {
        let Some((number, field)) = fields.next() else { return Err(message) };
        let place = match number {
            1 => &mut message.client_id,
            2 => &mut message.guid,
            3 => &mut message.channel,
            4 => &mut message.reply,
            5 => &mut message.data,
            6 => &mut message.conn_id,
            _ => continue,
        };
        let Field::Bytes(bytes) = field else { return Err(message) };
        *place = bytes;
    }
    Ok(message)
}

/// An ack of a delivered message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The channel.
    pub channel: &'a [u8],
    /// The message.
    pub sequence: u64,
}

/// Read an ack. None: it is broken.
#[inline]
pub fn ack(payload: &[u8]) -> Option<Ack<'_>> {
    let mut ack = Ack::default();
    let mut fields = Fields(payload);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Field::Bytes(channel)) => ack.channel = channel,
            (2, Field::Varint(sequence)) => ack.sequence = sequence,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some(ack)
}

/// A PubAck that says a message is stored.
#[derive(Debug)]
pub struct GuidAck<'a> {
    head: [u8; 11],
    head_len: usize,
    guid: &'a [u8],
}

impl<'a> GuidAck<'a> {
    /// For what a client calls its publish.
    #[inline]
    pub fn new(guid: &'a [u8]) -> GuidAck<'a> {
        let mut head = [0; 11];
        head[0] = 1 << 3 | 2;
        let mut rest = guid.len();
        let mut at = 1;
        while rest >= 0x80 {
            head[at] = rest as u8 | 0x80;
            rest >>= 7;
            at += 1;
        }
        head[at] = rest as u8;
        GuidAck { head, head_len: at + 1, guid }
    }

    /// Its pieces.
    #[inline]
    pub fn pieces(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], self.guid]
    }
}

/// A PubAck with an error.
pub fn pub_ack(guid: &[u8], error: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(guid.len() + error.len() + 8);
    put_bytes(&mut out, 1, guid);
    put_bytes(&mut out, 2, error);
    out
}

/// Append a field of bytes; an empty one is left out.
#[inline]
fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(number << 3 | 2);
        varint::put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// The header block in which a message is stored that names a reply subject; control characters, which no subject has, and
/// the escape itself become `%XX`.
pub fn reply_headers(reply: &[u8]) -> Vec<u8> {
    let mut out = REPLY_HEADER.to_vec();
    for byte in reply {
        match byte {
            0..=0x20 | 0x7f | b'%' => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.extend_from_slice(HEADER_END);
    out
}

/// The reply subject of a stored message as it is written, escapes and all.
#[inline]
pub fn reply(headers: &[u8]) -> Option<&[u8]> {
    headers.strip_prefix(REPLY_HEADER)?.strip_suffix(HEADER_END)
}

/// What `reply` found as the publisher wrote it, appended.
pub fn unescape(written: &[u8], out: &mut Vec<u8>) {
    let mut rest = written;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let code = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &behind[2..];
            }
            _ => out.push(*byte),
        }
    }
}

/// Length of a MsgProto that was delivered once. A timestamp of our time takes nine bytes.
#[inline]
pub fn message_len(sequence: u64, channel: usize, reply: usize, data: usize) -> usize {
    let bytes = |length: usize| if length > 0 { 1 + varint::len(length as u64) + length } else { 0 };
    1 + varint::len(sequence) + bytes(channel) + bytes(reply) + bytes(data) + 10
}

/// Renders what stands around the body of deliveries, into one buffer.
#[derive(Debug, Default)]
pub struct MsgProto {
    text: Vec<u8>,
    split: usize,
}

impl MsgProto {
    /// Render for one message; `redeliveries`: how often it was delivered before.
    #[inline]
    pub fn render(
        &mut self,
        sequence: u64,
        channel: &[u8],
        headers: &[u8],
        data: usize,
        timestamp_ns: i64,
        redeliveries: u32,
    ) {
        let text = &mut self.text;
        text.clear();
        text.push(1 << 3);
        varint::put(text, sequence);
        put_bytes(text, 2, channel);
        if let Some(written) = reply(headers) {
            let mut plain = Vec::with_capacity(written.len());
            unescape(written, &mut plain);
            put_bytes(text, 3, &plain);
        }
        if data > 0 {
            text.push(4 << 3 | 2);
            varint::put(text, data as u64);
        }
        self.split = text.len();
        if timestamp_ns != 0 {
            text.push(5 << 3);
            varint::put(text, timestamp_ns as u64);
        }
        if redeliveries > 0 {
            text.extend_from_slice(&[6 << 3, 1, 7 << 3]);
            varint::put(text, u64::from(redeliveries));
        }
    }

    /// Bytes of the whole.
    #[inline]
    pub fn len(&self, data: &[u8]) -> usize {
        self.text.len() + data.len()
    }

    /// The pieces, with the body between them.
    #[inline]
    pub fn pieces<'a>(&'a self, data: &'a [u8]) -> [&'a [u8]; 3] {
        let (before, behind) = self.text.split_at(self.split);
        [before, data, behind]
    }
}

/// Whether this is what servers of a cluster once told each other under the same subjects (CtrlMsg), and no client's.
pub fn is_control(payload: &[u8]) -> bool {
    let mut fields = Fields(payload);
    while !fields.0.is_empty() {
        match fields.next() {
            None | Some((1, Field::Bytes(_) | Field::Other) | (2..=4, Field::Varint(_) | Field::Other)) => {
                return false
            }
            Some(_) => {}
        }
    }
    true
}

/// Whether a channel may have this name: literal, no empty token, no `/`. It need not be UTF-8.
pub fn channel_valid(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.iter().any(|byte| matches!(byte, b'/' | b'*' | b'>'))
        && name.split(|byte| *byte == b'.').all(|token| !token.is_empty())
}

/// The subject under which a channel's messages are stored: the prefix and the name, in which bytes that no subject can
/// hold, those beyond ASCII if they aren't UTF-8, and what would read as such an escape, become `=XX`.
pub fn channel_subject(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + name.len());
    out.extend_from_slice(prefix);
    let text = std::str::from_utf8(name).is_ok();
    for (at, byte) in name.iter().enumerate() {
        let escape = match byte {
            b'\0' | b'\t' | b'\n' | 0x0c | b'\r' | b' ' => true,
            b'=' => match name.get(at + 1..at + 3) {
                Some([b'8'..=b'9' | b'A'..=b'F', b'0'..=b'9' | b'A'..=b'F']) => true,
                Some(digits) => matches!(digits, b"00" | b"09" | b"0A" | b"0C" | b"0D" | b"20" | b"3D"),
                None => false,
            },
            0x80.. => !text,
            _ => false,
        };
        match escape {
            true => out.extend_from_slice(format!("={byte:02X}").as_bytes()),
            false => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(message: &PubMsg<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = [message.client_id, message.guid, message.channel, message.reply, message.data, message.conn_id];
        for (at, bytes) in fields.into_iter().enumerate() {
            put_bytes(&mut out, at as u8 + 1, bytes);
        }
        out
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(parts in prop::array::uniform6(prop::collection::vec(any::<u8>(), 0..200))) {
            let [client_id, guid, channel, reply, data, conn_id] = &parts;
            let message = PubMsg { client_id, guid, channel, reply, data, conn_id };
            let mut bytes = encoded(&message);
            prop_assert_eq!(pub_msg(&bytes), Ok(message));
            // Fields that aren't known are ignored, of any type.
            bytes.extend_from_slice(&[10 << 3 | 2, 2, 7, 7, 11 << 3, 1, 12 << 3 | 5, 1, 2, 3, 4]);
            bytes.extend_from_slice(&[13 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]);
            prop_assert_eq!(pub_msg(&bytes), Ok(message));
            prop_assert_eq!(pub_msg(&bytes[..bytes.len() - 1]), Err(message));
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let _ = pub_msg(&bytes);
            let _ = ack(&bytes);
            let _ = channel_valid(&bytes);
        }

        #[test]
        fn a_reply_comes_back(reply in prop::collection::vec(any::<u8>(), 1..40), data: Vec<u8>, count in 0u32..300) {
            let headers = reply_headers(&reply);
            prop_assert!(!headers[REPLY_HEADER.len()..headers.len() - 4].contains(&b'\n'));
            let mut frame = MsgProto::default();
            frame.render(300, b"foo", &headers, data.len(), 1_700_000_000_000_000_000, count);
            let bytes = frame.pieces(&data).concat();
            let mut fields = Fields(&bytes);
            prop_assert_eq!(fields.next(), Some((1, Field::Varint(300))));
            prop_assert_eq!(fields.next(), Some((2, Field::Bytes(b"foo"))));
            prop_assert_eq!(fields.next(), Some((3, Field::Bytes(&reply))));
            if !data.is_empty() {
                prop_assert_eq!(fields.next(), Some((4, Field::Bytes(&data))));
            }
            prop_assert_eq!(fields.next(), Some((5, Field::Varint(1_700_000_000_000_000_000))));
            if count > 0 {
                prop_assert_eq!(fields.next(), Some((6, Field::Varint(1))));
                prop_assert_eq!(fields.next(), Some((7, Field::Varint(u64::from(count)))));
            } else if !reply.iter().any(|byte| matches!(byte, 0..=0x20 | 0x7f | b'%')) {
                prop_assert_eq!(bytes.len(), message_len(300, 3, reply.len(), data.len()));
            }
            prop_assert!(fields.0.is_empty());
        }

        #[test]
        fn subjects_of_channels_are_valid_and_distinct(names in prop::collection::vec("[a =\t2030D.]{1,8}", 2)) {
            let subjects: Vec<_> = names.iter().map(|name| channel_subject(b"$STAN.c.", name.as_bytes())).collect();
            prop_assert_eq!(names[0] == names[1], subjects[0] == subjects[1]);
            for (name, subject) in names.iter().zip(&subjects) {
                if channel_valid(name.as_bytes()) {
                    prop_assert!(crate::subject::valid(subject, false), "{:?}", name);
                }
            }
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_breaks_a_message() {
        assert!(pub_msg(&[1 << 3, 1]).is_err());
        let guid = PubMsg { guid: b"g", ..PubMsg::default() };
        assert_eq!(pub_msg(&[2 << 3 | 2, 1, b'g', 5 << 3, 1]), Err(guid));
        assert_eq!(ack(&[2 << 3 | 2, 0]), None);
        assert_eq!(ack(&[1 << 3, 0]), None);
        assert!(pub_msg(&[2, 0]).is_err(), "field number 0");
        assert!(pub_msg(&[1 << 3 | 3]).is_err(), "groups");
        assert_eq!(pub_msg(b""), Ok(PubMsg::default()));
    }

    #[test]
    fn acks() {
        assert_eq!(ack(b"\x0a\x03foo\x10\xac\x02"), Some(Ack { channel: b"foo", sequence: 300 }));
        assert_eq!(GuidAck::new(b"abc").pieces().concat(), b"\x0a\x03abc");
        let long = [b'g'; 300];
        assert_eq!(GuidAck::new(&long).pieces().concat(), [b"\x0a\xac\x02", &long[..]].concat());
        assert_eq!(pub_ack(b"abc", b"no"), b"\x0a\x03abc\x12\x02no");
        assert_eq!(pub_ack(b"", b"no"), b"\x12\x02no");
    }

    #[test]
    fn names_of_channels() {
        for good in ["foo", "foo.bar", "with space", "ünïcode", "a=b"] {
            assert!(channel_valid(good.as_bytes()), "{good}");
        }
        for bad in ["", ".foo", "foo.", "foo..bar", "foo/bar", "foo.*", "foo.>", "f*o", ">"] {
            assert!(!channel_valid(bad.as_bytes()), "{bad}");
        }
        assert!(channel_valid(&[0xff]));
        assert_eq!(channel_subject(b"$S.", &[b'a', 0xff]), b"$S.a=FF");
        assert_eq!(channel_subject(b"$S.", b"a=FF"), b"$S.a=3DFF");
        assert_eq!(channel_subject(b"$S.", "ü".as_bytes()), "$S.ü".as_bytes());
    }
}
