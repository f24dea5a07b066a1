//! The client protocol as operations over the bytes of a read: incremental, in place, never looking twice at a byte.
//!
//! Only an incomplete operation is copied: a control line or a payload at most. Source: the NATS client protocol.

mod line;
pub mod route;
#[cfg(test)]
mod tests;

use line::{part, scan, split, PubLine, Scan, Word};

/// Limits and states of a connection that decide what is legal.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bytes of arguments in a control line.
    pub max_control_line: usize,
    /// Bytes of a message, headers included.
    pub max_payload: usize,
    /// Whether HPUB is allowed.
    pub headers: bool,
    /// Whether nothing but CONNECT is allowed.
    pub auth_pending: bool,
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Unknown or misspelt operation, or a payload that isn't followed by CR LF.
    UnknownOperation,
    /// A control line above its limit.
    ControlLine,
    /// A message above max_payload.
    Payload,
    /// Anything but CONNECT before authentication.
    Authorization,
    /// Wrong arguments: closes without a word.
    Malformed,
    /// The client sent -ERR.
    ClientError,
}

/// PUB or HPUB with its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub subject: &'a [u8],
    /// Empty for none.
    pub reply: &'a [u8],
    /// Bytes of the header block, 0 for none.
    pub header_size: usize,
    /// That number as sent.
    pub header_text: &'a [u8],
    /// The total size as sent.
    pub size_text: &'a [u8],
    /// Headers and payload.
    pub body: &'a [u8],
    /// `[reply ][#hdr ]#size CR LF body CR LF` exactly as a receiver's frame ends; empty when the line is spelt otherwise.
    pub verbatim: &'a [u8],
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The JSON text.
    Connect(&'a [u8]),
    /// PUB or HPUB.
    Publish(Publish<'a>),
    /// Subject, queue group (empty: none), sid.
    Sub(&'a [u8], &'a [u8], &'a [u8]),
    /// Sid and the number of messages after which it ends; 0 for at once.
    Unsub(&'a [u8], u64),
    /// PING.
    Ping,
    /// PONG.
    Pong,
}

/// What parsing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An operation; its slices are valid until the next step.
    Op(Op<'a>),
    /// The read is used up.
    More,
    /// Close the connection.
    Fault(Fault),
}

/// Where parsing stands in one read.
#[derive(Debug)]
pub struct Cursor<'a> {
    input: &'a [u8],
    place: usize,
    // The last publish line of this read: most publishers send the same line again, and comparing beats parsing.
    last: Option<(usize, PubLine)>,
}

impl<'a> Cursor<'a> {
    /// Start of a read.
    pub fn new(input: &'a [u8]) -> Self {
        Cursor { input, place: 0, last: None }
    }

    /// What is not parsed yet.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.place..).unwrap_or_default()
    }
}

/// Parser of one connection: the incomplete tail of what came so far.
#[derive(Debug, Default)]
pub struct Parser {
    tail: Vec<u8>,
    // Set while the tail holds a publish whose line is complete and whose payload isn't.
    open: Option<PubLine>,
    // The tail was handed out as an operation and is to be dropped.
    spent: bool,
}

impl Parser {
    /// Bytes kept.
    pub fn kept(&self) -> usize {
        self.tail.len()
    }

    /// The next operation.
    pub fn next<'b, 'a: 'b>(&'b mut self, cursor: &mut Cursor<'a>, rules: &Rules) -> Step<'b> {
        if self.spent {
            self.tail = Vec::new();
            self.spent = false;
        }
        if !self.tail.is_empty() {
            return self.resume(cursor, rules);
        }
        loop {
            let rest = cursor.rest();
            if let Some((start, publish)) = cursor.last {
                let known = part(cursor.input, (start, start + publish.length));
                if rest.starts_with(known) {
                    return self.publish(cursor, publish);
                }
            }
            if rest.is_empty() {
                return Step::More;
            }
            match scan(rest, 0, rules) {
                Err(fault) => return Step::Fault(fault),
                Ok(Scan::Partial) => {
                    self.tail.extend_from_slice(rest);
                    cursor.place = cursor.input.len();
                    return Step::More;
                }
                Ok(Scan::Line { word: word @ (Word::Pub | Word::Hpub), args, length }) => {
                    let line = part(rest, (0, length));
                    return match PubLine::parse(line, args, word == Word::Hpub, rules) {
                        Ok(publish) => self.publish(cursor, publish),
                        Err(fault) => Step::Fault(fault),
                    };
                }
                Ok(Scan::Line { word, args, length }) => {
                    cursor.place += length;
                    match simple(word, part(rest, (0, length)), args) {
                        Ok(Some(op)) => return Step::Op(op),
                        Ok(None) => {}
                        Err(fault) => return Step::Fault(fault),
                    }
                }
            }
        }
    }

    /// A publish whose line stands at the cursor: hand it out if its payload is there, else keep what is.
    #[inline]
    fn publish<'b, 'a: 'b>(&'b mut self, cursor: &mut Cursor<'a>, publish: PubLine) -> Step<'b> {
        let rest = cursor.rest();
        let total = publish.total();
        match rest.get(..total) {
            Some(operation) => {
                cursor.last = Some((cursor.place, publish));
                cursor.place += total;
                whole(operation, &publish)
            }
            None => {
                if torn(rest, &publish) {
                    return Step::Fault(Fault::UnknownOperation);
                }
                self.tail.extend_from_slice(rest);
                self.open = Some(publish);
                cursor.place = cursor.input.len();
                Step::More
            }
        }
    }

    /// Go on with the tail.
    fn resume<'b, 'a: 'b>(&'b mut self, cursor: &mut Cursor<'a>, rules: &Rules) -> Step<'b> {
        let publish = match self.open {
            Some(publish) => publish,
            None => {
                let rest = cursor.rest();
                if rest.is_empty() {
                    return Step::More;
                }
                let scanned = self.tail.len();
                let window = rest.get(..rules.max_control_line.saturating_add(16)).unwrap_or(rest);
                let taken = memchr::memchr(b'\n', window).map_or(window.len(), |place| place + 1);
                self.tail.extend_from_slice(part(rest, (0, taken)));
                cursor.place += taken;
                let (word, args) = match scan(&self.tail, scanned, rules) {
                    Err(fault) => return Step::Fault(fault),
                    Ok(Scan::Partial) => return Step::More,
                    Ok(Scan::Line { word, args, .. }) => (word, args),
                };
                if !matches!(word, Word::Pub | Word::Hpub) {
                    self.spent = true;
                    if matches!(word, Word::Info | Word::Ok) {
                        return match simple(word, &self.tail, args) {
                            Err(fault) => Step::Fault(fault),
                            Ok(_) => self.next(cursor, rules),
                        };
                    }
                    return match simple(word, &self.tail, args) {
                        Ok(Some(op)) => Step::Op(op),
                        Ok(None) => Step::More,
                        Err(fault) => Step::Fault(fault),
                    };
                }
                match PubLine::parse(&self.tail, args, word == Word::Hpub, rules) {
                    Ok(publish) => publish,
                    Err(fault) => return Step::Fault(fault),
                }
            }
        };
        let rest = cursor.rest();
        let missing = publish.total().saturating_sub(self.tail.len()).min(rest.len());
        self.tail.extend_from_slice(part(rest, (0, missing)));
        cursor.place += missing;
        if self.tail.len() < publish.total() {
            if torn(&self.tail, &publish) {
                return Step::Fault(Fault::UnknownOperation);
            }
            self.open = Some(publish);
            return Step::More;
        }
        self.open = None;
        self.spent = true;
        whole(&self.tail, &publish)
    }
}

/// Whether the byte behind a payload is there and wrong, although the next one isn't there.
fn torn(bytes: &[u8], publish: &PubLine) -> bool {
    bytes.get(publish.length.saturating_add(publish.size)).is_some_and(|byte| *byte != b'\r')
}

#[inline]
fn whole<'b>(operation: &'b [u8], publish: &PubLine) -> Step<'b> {
    let end = publish.length + publish.size;
    if operation.get(end..) != Some(b"\r\n") {
        return Step::Fault(Fault::UnknownOperation);
    }
    Step::Op(Op::Publish(Publish {
        subject: part(operation, publish.subject),
        reply: part(operation, publish.reply),
        header_size: publish.header_size,
        header_text: part(operation, publish.header_text),
        size_text: part(operation, publish.size_text),
        body: part(operation, (publish.length, end)),
        verbatim: if publish.verbatim > 0 { part(operation, (publish.verbatim, end + 2)) } else { &[] },
    }))
}

/// Operations of one line. None: nothing is to be done.
fn simple(word: Word, line: &[u8], args: usize) -> Result<Option<Op<'_>>, Fault> {
    Ok(Some(match word {
        Word::Connect => Op::Connect(part(line, (args, line.len())).trim_ascii()),
        Word::Ping => Op::Ping,
        Word::Pong => Op::Pong,
        Word::Err => return Err(Fault::ClientError),
        Word::Sub => {
            let (spans, count) = split(line, args);
            let [first, second, third, ..] = spans;
            match count {
                2 => Op::Sub(part(line, first), &[], part(line, second)),
                3 => Op::Sub(part(line, first), part(line, second), part(line, third)),
                _ => return Err(Fault::Malformed),
            }
        }
        Word::Unsub => {
            let (spans, count) = split(line, args);
            let [sid, max, ..] = spans;
            match count {
                1 => Op::Unsub(part(line, sid), 0),
                2 => Op::Unsub(part(line, sid), line::size(part(line, max)).map_or(0, |max| max as u64)),
                _ => return Err(Fault::Malformed),
            }
        }
        Word::Info if !part(line, (args, line.len())).trim_ascii().starts_with(b"{") => return Err(Fault::Malformed),
        Word::Pub | Word::Hpub | Word::Info | Word::Ok => return Ok(None),
    }))
}
