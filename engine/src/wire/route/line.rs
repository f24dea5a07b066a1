//! One line between servers: which operation it is, and what its arguments say.

use crate::wire::line::{blank, part, size, Span};

/// Bytes of a line while the peer isn't known yet, and afterwards: a message may name many queue groups.
pub(super) const STRANGER_LINE_MAX: usize = 64 << 10;
pub(super) const LINE_MAX: usize = 1 << 20;
/// Bytes of a message, headers included: a frame of our own may be larger than what clients may send.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Connect,
    Info,
    Ping,
    Pong,
    Ok,
    Err,
    Interest { leaf: bool, came: bool },
    Account,
    Rmsg,
    Hmsg,
    Lmsg,
}

impl Word {
    fn text(self) -> &'static [u8] {
        match self {
            Word::Connect => b"CONNECT",
            Word::Info => b"INFO",
            Word::Ping => b"PING",
            Word::Pong => b"PONG",
            Word::Ok => b"+OK",
            Word::Err => b"-ERR",
            Word::Interest { leaf: false, came: true } => b"RS+",
            Word::Interest { leaf: false, came: false } => b"RS-",
            Word::Interest { leaf: true, came: true } => b"LS+",
            Word::Interest { leaf: true, came: false } => b"LS-",
            Word::Account => b"A",
            Word::Rmsg => b"RMSG",
            Word::Hmsg => b"HMSG",
            Word::Lmsg => b"LMSG",
        }
    }

    /// Whether it may come before the peer is known.
    pub(super) fn greets(self) -> bool {
        matches!(self, Word::Connect | Word::Info | Word::Ping | Word::Pong | Word::Ok | Word::Err)
    }

    pub(super) fn has_body(self) -> bool {
        matches!(self, Word::Rmsg | Word::Hmsg | Word::Lmsg)
    }
}

/// No such operation, or wrong arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The operation that `buffer` begins with; None while too little of it is there.
fn word(buffer: &[u8]) -> Result<Option<Word>, Malformed> {
    let upper = |place: usize| buffer.get(place).map(u8::to_ascii_uppercase);
    let word = match (upper(0), upper(1)) {
        (None, _) | (Some(b'P' | b'R' | b'L'), None) => return Ok(None),
        (Some(b'P'), Some(b'I')) => Word::Ping,
        (Some(b'P'), Some(b'O')) => Word::Pong,
        (Some(b'R'), Some(b'M')) => Word::Rmsg,
        (Some(b'L'), Some(b'M')) => Word::Lmsg,
        (Some(first @ (b'R' | b'L')), Some(b'S')) => match upper(2) {
            None => return Ok(None),
            Some(sign @ (b'+' | b'-')) => Word::Interest { leaf: first == b'L', came: sign == b'+' },
            Some(_) => return Err(Malformed),
        },
        (Some(b'A'), None) => return Ok(None),
        (Some(b'A'), Some(b'+' | b'-')) => Word::Account,
        (Some(b'H'), _) => Word::Hmsg,
        (Some(b'C'), _) => Word::Connect,
        (Some(b'I'), _) => Word::Info,
        (Some(b'+'), _) => Word::Ok,
        (Some(b'-'), _) => Word::Err,
        _ => return Err(Malformed),
    };
    let text = word.text();
    if !buffer.iter().zip(text).all(|(given, wanted)| given.eq_ignore_ascii_case(wanted)) {
        return Err(Malformed);
    }
    if buffer.len() < text.len() {
        return Ok(None);
    }
    let argued = word.has_body() || matches!(word, Word::Interest { .. } | Word::Err);
    match buffer.get(text.len()) {
        Some(b' ' | b'\t') => Ok(Some(word)),
        Some(_) if argued => Err(Malformed),
        None if argued => Ok(None),
        _ => Ok(Some(word)),
    }
}

/// What the bytes at the start of an operation amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole line; its length includes the LF, `args` is where the arguments may start.
    Line { word: Word, args: usize, length: usize },
    /// Legal so far, but no LF yet.
    Partial,
    /// Legal, but not before the peer is known.
    Early,
}

/// Look at the start of an operation. Bytes before `scanned` are known to hold no LF.
pub(super) fn scan(buffer: &[u8], scanned: usize, known: bool) -> Result<Scan, Malformed> {
    let Some(word) = word(buffer)? else { return Ok(Scan::Partial) };
    if !known && !word.greets() {
        return Ok(Scan::Early);
    }
    let limit = line_max(known);
    let fresh = buffer.get(scanned..(limit + 1).min(buffer.len())).unwrap_or_default();
    match memchr::memchr(b'\n', fresh) {
        Some(place) => Ok(Scan::Line { word, args: word.text().len(), length: scanned + place + 1 }),
        None if buffer.len() > limit => Err(Malformed),
        None => Ok(Scan::Partial),
    }
}

pub(super) fn line_max(known: bool) -> usize {
    if known {
        LINE_MAX
    } else {
        STRANGER_LINE_MAX
    }
}

/// Places of the arguments of a line.
pub(super) fn arguments(line: &[u8], args: usize) -> impl Iterator<Item = Span> + '_ {
    let mut at = args;
    let gap = |byte: &u8| blank(*byte) || *byte == b'\n';
    std::iter::from_fn(move || {
        let start = at + line.get(at..)?.iter().position(|byte| !gap(byte))?;
        let rest = line.get(start..)?;
        at = start + rest.iter().position(gap).unwrap_or(rest.len());
        Some((start, at))
    })
}

/// A parsed RMSG, HMSG or LMSG line, as offsets so that it can outlive the read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MessageLine {
    pub(super) account: Span,
    pub(super) subject: Span,
    pub(super) reply: Span,
    pub(super) queues: Span,
    pub(super) header_text: Span,
    pub(super) size_text: Span,
    pub(super) header_size: usize,
    pub(super) size: usize,
    /// Length of the line with its LF.
    pub(super) length: usize,
    /// Where the bytes start that a receiver's frame can repeat as they are; 0 if the spelling doesn't allow it.
    pub(super) verbatim: usize,
}

impl MessageLine {
    /// Bytes of the whole operation, the CR LF behind the payload included.
    pub(super) fn total(&self) -> usize {
        self.length.saturating_add(self.size).saturating_add(2)
    }

    pub(super) fn parse(line: &[u8], args: usize, word: Word) -> Result<Self, Malformed> {
        let mut spans = arguments(line, args);
        if word == Word::Lmsg {
            spans.next().ok_or(Malformed)?;
        }
        let (account, subject) = (spans.next().ok_or(Malformed)?, spans.next().ok_or(Malformed)?);
        // What lies between the subject and the sizes: nothing, a reply, `+ reply queues` or `| queues`.
        let (mut head, mut count) = ([(0, 0); 4], 0);
        let mut last = [(0, 0); 3];
        for span in spans {
            if let Some(place) = head.get_mut(count) {
                *place = span;
            }
            last = [last[1], last[2], span];
            count += 1;
        }
        let sizes = if word == Word::Rmsg { 1 } else { 2 };
        let middle = count.checked_sub(sizes).ok_or(Malformed)?;
        let [before, header_text, size_text] = last;
        // The last argument before the sizes.
        let (header_text, before) = if sizes == 1 { ((0, 0), header_text) } else { (header_text, before) };
        let [first, second, third, _] = head;
        let (reply, queues) = match (middle, part(line, first)) {
            (0, _) => ((0, 0), (0, 0)),
            (1, _) => (first, (0, 0)),
            (2, b"+") => (second, (0, 0)),
            (_, b"+") => (second, (third.0, before.1)),
            (_, b"|") => ((0, 0), (second.0, before.1)),
            _ => return Err(Malformed),
        };
        let bytes = size(part(line, size_text)).ok_or(Malformed)?;
        let header_size = if sizes == 2 { size(part(line, header_text)).ok_or(Malformed)? } else { 0 };
        if header_size > bytes || bytes > PAYLOAD_MAX {
            return Err(Malformed);
        }
        let single = |left: Span, right: Span| right.0 == left.1 + 1 && line.get(left.1) == Some(&b' ');
        let start = if sizes == 2 { header_text } else { size_text };
        let plain = middle < 2
            && line.get(size_text.1..) == Some(b"\r\n")
            && (sizes == 1 || (header_size > 0 && single(header_text, size_text)))
            && (middle == 0 || single(reply, start));
        let verbatim = match (plain, middle) {
            (false, _) => 0,
            (true, 0) => start.0,
            (true, _) => reply.0,
        };
        let length = line.len();
        Ok(Self { account, subject, reply, queues, header_text, size_text, header_size, size: bytes, length, verbatim })
    }
}
