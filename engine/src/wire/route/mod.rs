//! The protocol between servers as operations over the bytes of a read: incremental, in place, as for clients.
//!
//! Only an incomplete operation is copied. Until the peer is known nothing but greetings is parsed.
//! Source: the route protocol of nats-server 2.15.

mod line;
#[cfg(test)]
mod tests;

use line::{arguments, line_max, scan, Malformed, MessageLine, Scan, Word};

use super::line::{blank, part, size};

/// RMSG, HMSG or LMSG with its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whose it is.
    pub account: &'a [u8],
    /// Where to.
    pub subject: &'a [u8],
    /// Empty for none.
    pub reply: &'a [u8],
    /// Names of the queue groups one member of each of which gets it, with blanks between; may be empty.
    pub queues: &'a [u8],
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

impl<'a> Message<'a> {
    /// The queue groups one by one.
    pub fn groups(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.queues.split(|byte| blank(*byte)).filter(|name| !name.is_empty())
    }
}

/// RS+, RS-, LS+ or LS-.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest<'a> {
    /// Whether it came or went.
    pub came: bool,
    /// Cluster of leaf nodes that it comes from; empty for the server's own.
    pub origin: &'a [u8],
    /// Whose it is.
    pub account: &'a [u8],
    /// May have wildcards.
    pub subject: &'a [u8],
    /// Queue group; empty for plain interest.
    pub queue: &'a [u8],
    /// Members of the group there.
    pub weight: u32,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The JSON text.
    Connect(&'a [u8]),
    /// The JSON text.
    Info(&'a [u8]),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// The peer closes: its text without quotes.
    Err(&'a [u8]),
    /// Somebody there wants a subject, or no longer.
    Interest(Interest<'a>),
    /// A message for us.
    Message(Message<'a>),
}

/// What parsing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An operation; its slices are valid until the next step.
    Op(Op<'a>),
    /// The read is used up.
    More,
    /// What comes now is for when the peer is known: it is in `take` and the rest of the cursor.
    Early,
    /// Close the connection.
    Malformed,
}

/// Where parsing stands in one read.
#[derive(Debug)]
pub struct Cursor<'a> {
    input: &'a [u8],
    place: usize,
    // The last message line of this read: comparing beats parsing.
    last: Option<(usize, MessageLine)>,
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
    // Set while the tail holds a message whose line is complete and whose payload isn't.
    open: Option<MessageLine>,
    // The tail was handed out as an operation and is to be dropped.
    spent: bool,
}

impl Parser {
    /// Bytes kept.
    pub fn kept(&self) -> usize {
        self.tail.len()
    }

    /// What is kept, which the parser then forgets.
    pub fn take(&mut self) -> Vec<u8> {
        let tail = if self.spent { Vec::new() } else { std::mem::take(&mut self.tail) };
        *self = Parser::default();
        tail
    }

    /// The next operation; `known`: the peer has shown who it is.
    pub fn next<'b, 'a: 'b>(&'b mut self, cursor: &mut Cursor<'a>, known: bool) -> Step<'b> {
        loop {
            if self.spent {
                self.tail = Vec::new();
                self.spent = false;
            }
            if !self.tail.is_empty() {
                match self.resume(cursor, known) {
                    Resumed::Again => continue,
                    Resumed::Stop(step) => return step,
                    Resumed::Line(word, args) => match simple(word, &self.tail, args) {
                        Ok(Some(op)) => return Step::Op(op),
                        _ => return Step::Malformed,
                    },
                    Resumed::Message(message) => return whole(&self.tail, &message),
                }
            }
            let rest = cursor.rest();
            if let Some((start, message)) = cursor.last {
                if rest.starts_with(part(cursor.input, (start, start + message.length))) {
                    return self.message(cursor, message);
                }
            }
            if rest.is_empty() {
                return Step::More;
            }
            match scan(rest, 0, known) {
                Err(Malformed) => return Step::Malformed,
                Ok(Scan::Early) => return Step::Early,
                Ok(Scan::Partial) => {
                    self.tail.extend_from_slice(rest);
                    cursor.place = cursor.input.len();
                    return Step::More;
                }
                Ok(Scan::Line { word, args, length }) if word.has_body() => {
                    return match MessageLine::parse(part(rest, (0, length)), args, word) {
                        Ok(message) => self.message(cursor, message),
                        Err(Malformed) => Step::Malformed,
                    };
                }
                Ok(Scan::Line { word, args, length }) => {
                    cursor.place += length;
                    match simple(word, part(rest, (0, length)), args) {
                        Ok(Some(op)) => return Step::Op(op),
                        Ok(None) => {}
                        Err(Malformed) => return Step::Malformed,
                    }
                }
            }
        }
    }

    /// A message whose line stands at the cursor: hand it out if its payload is there, else keep what is.
    #[inline]
    fn message<'b, 'a: 'b>(&'b mut self, cursor: &mut Cursor<'a>, message: MessageLine) -> Step<'b> {
        let rest = cursor.rest();
        let total = message.total();
        if let Some(operation) = rest.get(..total) {
            cursor.last = Some((cursor.place, message));
            cursor.place += total;
            return whole(operation, &message);
        }
        if torn(rest, &message) {
            return Step::Malformed;
        }
        // Room for all of it, as growing step by step copies what is there each time.
        self.tail.reserve_exact(total);
        self.tail.extend_from_slice(rest);
        self.open = Some(message);
        cursor.place = cursor.input.len();
        Step::More
    }

    /// Go on with the tail.
    fn resume(&mut self, cursor: &mut Cursor<'_>, known: bool) -> Resumed {
        let message = match self.open {
            Some(message) => message,
            None => {
                let rest = cursor.rest();
                if rest.is_empty() {
                    return Resumed::Stop(Step::More);
                }
                let scanned = self.tail.len();
                let window = rest.get(..line_max(known)).unwrap_or(rest);
                let taken = memchr::memchr(b'\n', window).map_or(window.len(), |place| place + 1);
                self.tail.extend_from_slice(part(rest, (0, taken)));
                cursor.place += taken;
                let (word, args) = match scan(&self.tail, scanned, known) {
                    Err(Malformed) => return Resumed::Stop(Step::Malformed),
                    Ok(Scan::Early) => return Resumed::Stop(Step::Early),
                    Ok(Scan::Partial) => return Resumed::Stop(Step::More),
                    Ok(Scan::Line { word, args, .. }) => (word, args),
                };
                if !word.has_body() {
                    self.spent = true;
                    return match simple(word, &self.tail, args) {
                        Ok(None) => Resumed::Again,
                        _ => Resumed::Line(word, args),
                    };
                }
                match MessageLine::parse(&self.tail, args, word) {
                    Ok(message) => message,
                    Err(Malformed) => return Resumed::Stop(Step::Malformed),
                }
            }
        };
        let rest = cursor.rest();
        let missing = message.total().saturating_sub(self.tail.len());
        self.tail.reserve_exact(missing);
        let missing = missing.min(rest.len());
        self.tail.extend_from_slice(part(rest, (0, missing)));
        cursor.place += missing;
        if self.tail.len() < message.total() {
            if torn(&self.tail, &message) {
                return Resumed::Stop(Step::Malformed);
            }
            self.open = Some(message);
            return Resumed::Stop(Step::More);
        }
        self.open = None;
        self.spent = true;
        Resumed::Message(message)
    }
}

/// What the tail came to, with what was read of it.
enum Resumed {
    /// A line that says nothing.
    Again,
    Stop(Step<'static>),
    Line(Word, usize),
    Message(MessageLine),
}

/// Whether the byte behind a payload is there and wrong, although the next one isn't there.
fn torn(bytes: &[u8], message: &MessageLine) -> bool {
    bytes.get(message.length.saturating_add(message.size)).is_some_and(|byte| *byte != b'\r')
}

#[inline]
fn whole<'b>(operation: &'b [u8], message: &MessageLine) -> Step<'b> {
    let end = message.length + message.size;
    if operation.get(end..) != Some(b"\r\n") {
        return Step::Malformed;
    }
    Step::Op(Op::Message(Message {
        account: part(operation, message.account),
        subject: part(operation, message.subject),
        reply: part(operation, message.reply),
        queues: part(operation, message.queues),
        header_size: message.header_size,
        header_text: part(operation, message.header_text),
        size_text: part(operation, message.size_text),
        body: part(operation, (message.length, end)),
        verbatim: if message.verbatim > 0 { part(operation, (message.verbatim, end + 2)) } else { &[] },
    }))
}

/// Operations of one line. None: nothing is to be done.
fn simple(word: Word, line: &[u8], args: usize) -> Result<Option<Op<'_>>, Malformed> {
    let text = part(line, (args, line.len())).trim_ascii();
    Ok(Some(match word {
        Word::Connect | Word::Info if !text.starts_with(b"{") => return Err(Malformed),
        Word::Connect => Op::Connect(text),
        Word::Info => Op::Info(text),
        Word::Ping => Op::Ping,
        Word::Pong => Op::Pong,
        Word::Err => {
            let open = text.strip_prefix(b"'").unwrap_or(text);
            Op::Err(open.strip_suffix(b"'").unwrap_or(open))
        }
        Word::Interest { leaf, came } => Op::Interest(interest(line, args, leaf, came)?),
        Word::Ok | Word::Account | Word::Rmsg | Word::Hmsg | Word::Lmsg => return Ok(None),
    }))
}

fn interest(line: &[u8], args: usize, leaf: bool, came: bool) -> Result<Interest<'_>, Malformed> {
    let mut words = arguments(line, args).map(|span| part(line, span));
    let origin = if leaf { words.next().ok_or(Malformed)? } else { &[] };
    let (account, subject) = (words.next().ok_or(Malformed)?, words.next().ok_or(Malformed)?);
    let queue = words.next().unwrap_or_default();
    let weight = match (words.next(), came && !queue.is_empty()) {
        (None, false) => 0,
        (Some(weight), true) => size(weight).and_then(|weight| u32::try_from(weight).ok()).ok_or(Malformed)?,
        _ => return Err(Malformed),
    };
    if words.next().is_some() || !crate::subject::valid(subject, true) {
        return Err(Malformed);
    }
    Ok(Interest { came, origin, account, subject, queue, weight })
}
