//! One control line: which operation it is, and where its arguments stand.

use super::{Fault, Rules};

/// Operations that clients may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

impl Word {
    fn text(self) -> &'static [u8] {
        match self {
            Word::Connect => b"CONNECT",
            Word::Pub => b"PUB",
            Word::Hpub => b"HPUB",
            Word::Sub => b"SUB",
            Word::Unsub => b"UNSUB",
            Word::Ping => b"PING",
            Word::Pong => b"PONG",
            Word::Info => b"INFO",
            Word::Ok => b"+OK",
            Word::Err => b"-ERR",
        }
    }

    /// CONNECT and INFO without JSON are invalid as such, and what follows PING is ignored; the others need an argument.
    fn needs_blank(self) -> bool {
        !matches!(self, Word::Connect | Word::Info | Word::Ping | Word::Pong | Word::Ok)
    }
}

/// What the bytes at the start of an operation amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole line; its length includes the LF, `args` is where the arguments may start.
    Line { word: Word, args: usize, length: usize },
    /// Legal so far, but no LF yet.
    Partial,
}

pub(super) fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The operation that `buffer` begins with; None while too little of it is there.
fn word(buffer: &[u8]) -> Result<Option<Word>, Fault> {
    let (Some(first), second) = (buffer.first(), buffer.get(1)) else { return Ok(None) };
    let word = match (first.to_ascii_uppercase(), second.map(u8::to_ascii_uppercase)) {
        (b'P', None) => return Ok(None),
        (b'P', Some(b'U')) => Word::Pub,
        (b'P', Some(b'I')) => Word::Ping,
        (b'P', Some(b'O')) => Word::Pong,
        (b'H', _) => Word::Hpub,
        (b'S', _) => Word::Sub,
        (b'U', _) => Word::Unsub,
        (b'C', _) => Word::Connect,
        (b'I', _) => Word::Info,
        (b'+', _) => Word::Ok,
        (b'-', _) => Word::Err,
        _ => return Err(Fault::UnknownOperation),
    };
    let text = word.text();
    let there = buffer.len().min(text.len());
    if !buffer.iter().zip(text).all(|(given, wanted)| given.eq_ignore_ascii_case(wanted)) {
        return Err(Fault::UnknownOperation);
    }
    if there < text.len() {
        return Ok(None);
    }
    match buffer.get(text.len()) {
        Some(b' ' | b'\t') => Ok(Some(word)),
        Some(_) if word.needs_blank() => Err(Fault::UnknownOperation),
        None if word.needs_blank() => Ok(None),
        _ => Ok(Some(word)),
    }
}

/// Look at the start of an operation. Bytes before `scanned` are known to hold no LF.
pub(super) fn scan(buffer: &[u8], scanned: usize, rules: &Rules) -> Result<Scan, Fault> {
    if rules.auth_pending && buffer.first().is_some_and(|byte| !byte.eq_ignore_ascii_case(&b'C')) {
        return Err(Fault::Authorization);
    }
    let Some(word) = word(buffer)? else { return Ok(Scan::Partial) };
    // No line that is within its limit is longer than this, so a flood without LF isn't searched.
    let window = rules.max_control_line.saturating_add(16).min(buffer.len());
    let fresh = buffer.get(scanned..window).unwrap_or_default();
    let end = memchr::memchr(b'\n', fresh).map(|place| place + scanned);
    let mut args = word.text().len();
    if matches!(buffer.get(args), Some(b' ' | b'\t')) {
        args += 1;
    }
    let content = buffer.get(args..end.unwrap_or(buffer.len())).unwrap_or_default();
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    if content.len() > rules.max_control_line {
        return Err(Fault::ControlLine);
    }
    Ok(match end {
        Some(end) => Scan::Line { word, args, length: end + 1 },
        None => Scan::Partial,
    })
}

/// Where one argument stands, from the start of the line.
pub(super) type Span = (usize, usize);

/// The bytes of a span; empty if it were out of range.
pub(super) fn part(buffer: &[u8], span: Span) -> &[u8] {
    buffer.get(span.0..span.1).unwrap_or_default()
}

/// Arguments of a line: the first five and how many were seen (five stands for more than any operation takes).
pub(super) fn split(line: &[u8], args: usize) -> ([Span; 5], usize) {
    let mut spans = [(0, 0); 5];
    let mut count = 0;
    let mut start = None;
    for (place, byte) in line.iter().enumerate().skip(args) {
        if blank(*byte) || *byte == b'\n' {
            if let (Some(from), Some(span)) = (start.take(), spans.get_mut(count)) {
                *span = (from, place);
                count += 1;
            }
        } else if start.is_none() {
            start = Some(place);
        }
    }
    (spans, count)
}

/// A size of at most nine digits, as nats-server reads them.
pub(super) fn size(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    let mut value = 0usize;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + usize::from(digit);
    }
    Some(value)
}

/// A parsed PUB or HPUB line, as offsets so that it can outlive the read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PubLine {
    pub(super) subject: Span,
    pub(super) reply: Span,
    pub(super) header_text: Span,
    pub(super) size_text: Span,
    pub(super) header_size: usize,
    pub(super) size: usize,
    /// Length of the line with its LF.
    pub(super) length: usize,
    /// Where the bytes start that a receiver's frame can repeat as they are; 0 if the spelling doesn't allow it.
    pub(super) verbatim: usize,
}

impl PubLine {
    /// Bytes of the whole operation, the CR LF behind the payload included.
    pub(super) fn total(&self) -> usize {
        self.length.saturating_add(self.size).saturating_add(2)
    }

    pub(super) fn parse(line: &[u8], args: usize, headers: bool, rules: &Rules) -> Result<Self, Fault> {
        if headers && !rules.headers {
            return Err(Fault::Malformed);
        }
        let (spans, count) = split(line, args);
        let [subject, second, third, fourth, _] = spans;
        let (reply, header_text, size_text) = match (headers, count) {
            (false, 2) => ((0, 0), (0, 0), second),
            (false, 3) => (second, (0, 0), third),
            (true, 3) => ((0, 0), second, third),
            (true, 4) => (second, third, fourth),
            _ => return Err(Fault::Malformed),
        };
        let bytes = size(part(line, size_text)).ok_or(Fault::Malformed)?;
        let header_size = if headers { size(part(line, header_text)).ok_or(Fault::Malformed)? } else { 0 };
        if header_size > bytes {
            return Err(Fault::Malformed);
        }
        if bytes > rules.max_payload {
            return Err(Fault::Payload);
        }
        let plain = line.get(size_text.1..) == Some(b"\r\n")
            && (2..count).all(|next| match (spans.get(next - 1), spans.get(next)) {
                (Some(left), Some(right)) => right.0 == left.1 + 1 && line.get(left.1) == Some(&b' '),
                _ => false,
            })
            && (!headers || header_size > 0);
        let verbatim = if plain { second.0 } else { 0 };
        Ok(PubLine { subject, reply, header_text, size_text, header_size, size: bytes, length: line.len(), verbatim })
    }
}
