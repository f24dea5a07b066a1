//! Frames of Raft, as they come from other nodes. Their form is told in `streamd/raft/envelope.py`, which makes them.

/// The only form there is.
const VERSION: u8 = 1;
/// Terms and indexes are not beyond this: a store takes 63 bits.
const NUMBER_MAX: u64 = (1 << 62) - 1;
/// Messages are numbered from 1 to this.
const KIND_MAX: u8 = 11;
/// An entry that holds a configuration; who knows their form has to look at it.
const CONFIG: u8 = 4;
/// First byte of an entry.
const ENTRY_KINDS: [u8; 3] = [0, 1, CONFIG];

/// All that one node says to another at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Who says it.
    pub sender: &'a str,
    /// To whom.
    pub receiver: &'a str,
    /// What.
    pub messages: Vec<Message<'a>>,
}

/// One message of a group.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Which, from 1 on.
    pub kind: u8,
    /// Of which group.
    pub group: &'a str,
    /// term, at, at_term, commit, round.
    pub numbers: [u64; 5],
    /// Terms and commands.
    pub entries: Vec<(u64, &'a [u8])>,
    /// Whether one of them holds a configuration.
    pub configs: bool,
}

/// A frame, None if it isn't one.
pub fn decode(data: &[u8]) -> Option<Frame<'_>> {
    let mut left = Left(data);
    if left.byte()? != VERSION {
        return None;
    }
    let (sender, receiver) = (left.text()?, left.text()?);
    let mut messages = Vec::new();
    while !left.0.is_empty() {
        messages.push(message(&mut left)?);
    }
    Some(Frame { sender, receiver, messages })
}

fn message<'a>(left: &mut Left<'a>) -> Option<Message<'a>> {
    let kind = left.byte().filter(|kind| (1..=KIND_MAX).contains(kind))?;
    let length = left.short()?;
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = left.long()?;
    }
    if numbers.iter().take(4).any(|number| *number > NUMBER_MAX) {
        return None;
    }
    let count = left.word()?;
    let group = std::str::from_utf8(left.cut(usize::from(length))?).ok()?;
    let (mut entries, mut configs) = (Vec::new(), false);
    // Each entry takes some bytes: a count that lies ends at the end of the frame.
    for _ in 0..count {
        let term = left.long().filter(|term| *term <= NUMBER_MAX)?;
        let length = usize::try_from(left.word()?).ok()?;
        let command = left.cut(length)?;
        let kind = command.first().filter(|kind| ENTRY_KINDS.contains(kind))?;
        configs |= *kind == CONFIG;
        entries.push((term, command));
    }
    Some(Message { kind, group, numbers, entries, configs })
}

/// What is still to be read, big endian.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn cut(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        self.cut(BYTES)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.number().map(u8::from_be_bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.number().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.number().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.number().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.short()?;
        std::str::from_utf8(self.cut(usize::from(length))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of one message with one entry.
    fn frame(kind: u8, number: u64, count: u32, entry: &[u8]) -> Vec<u8> {
        let mut out = vec![VERSION, 0, 1, b'a', 0, 1, b'b', kind, 0, 1];
        for _ in 0..5 {
            out.extend(number.to_be_bytes());
        }
        out.extend(count.to_be_bytes());
        out.push(b'g');
        out.extend(7u64.to_be_bytes());
        out.extend(u32::try_from(entry.len()).unwrap_or_default().to_be_bytes());
        out.extend(entry);
        out
    }

    #[test]
    fn what_is_sent_is_read() {
        for (entry, configs) in [(&b"\0command"[..], false), (b"\x04", true)] {
            let message = Message { kind: 1, group: "g", numbers: [3; 5], entries: vec![(7, entry)], configs };
            let wanted = Frame { sender: "a", receiver: "b", messages: vec![message] };
            assert_eq!(decode(&frame(1, 3, 1, entry)), Some(wanted));
        }
    }

    #[test]
    fn what_nobody_sends_is_refused() {
        for data in [
            frame(0, 3, 1, b"\0"),
            frame(KIND_MAX + 1, 3, 1, b"\0"),
            frame(1, NUMBER_MAX + 1, 1, b"\0"),
            frame(1, 3, u32::MAX, b"\0"),
            frame(1, 3, 1, b""),
            frame(1, 3, 1, b"\x02"),
            vec![],
            vec![2, 0, 0, 0, 0],
        ] {
            assert_eq!(decode(&data), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut data: Vec<u8>, cut: prop::sample::Index, whole: bool) {
            let _ = decode(&data);
            if whole {
                data = frame(1, 3, 1, &data);
                data.truncate(cut.index(data.len()));
                let _ = decode(&data);
            }
        }
    }
}
