//! Messages handed to one receiver inside the server: columns over one arena, so that a batch costs two allocations.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::codec::varint;

/// One message, borrowed from its batch. An empty `reply` or `headers` means there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message<'a> {
    /// Subject as published.
    pub subject: &'a [u8],
    /// Where an answer goes.
    pub reply: &'a [u8],
    /// The whole header block, its blank line included.
    pub headers: &'a [u8],
    /// Body.
    pub payload: &'a [u8],
    /// Publishing connection; 0 is the server itself.
    pub conn: u64,
    /// What a NATS Streaming client calls its publish: the ack names it. Empty: a message of JetStream or core NATS.
    pub guid: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    reply: usize,
    headers: usize,
    payload: usize,
    guid: usize,
    end: usize,
    conn: u64,
}

#[derive(Debug, Default)]
struct Columns {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

/// Bytes that somebody else holds as well, such as those of a Python object.
pub trait Held: AsRef<[u8]> + Debug + Send + Sync {}

impl<T: AsRef<[u8]> + Debug + Send + Sync> Held for T {}

/// Columns that don't grow any more.
#[derive(Debug)]
struct Shared {
    arena: Box<dyn Held>,
    entries: Vec<Entry>,
}

/// A queue of messages in the order of arrival.
#[derive(Debug, Default)]
pub struct Batch {
    own: Columns,
    // Instead, once it was split, or was decoded: what all of its parts share, and which messages are this one's.
    shared: Option<(Arc<Shared>, Range<usize>)>,
    // Room that the first message makes: so many messages and bytes.
    expected: (usize, usize),
}

impl Batch {
    /// Append a copy of a message.
    pub fn push(&mut self, message: Message<'_>) {
        let (headers, payload) = ([message.headers], [message.payload]);
        self.append(message.subject, message.reply, &headers, &payload, message.guid, message.conn);
    }

    /// Append a copy of a message whose headers and payload are in pieces.
    pub fn push_pieces(&mut self, subject: &[u8], reply: &[u8], headers: &[&[u8]], payload: &[&[u8]], conn: u64) {
        self.append(subject, reply, headers, payload, &[], conn);
    }

    #[inline]
    fn append(&mut self, subject: &[u8], reply: &[u8], headers: &[&[u8]], payload: &[&[u8]], guid: &[u8], conn: u64) {
        if self.shared.is_some() {
            self.unshare();
        }
        let Columns { arena, entries } = &mut self.own;
        if entries.capacity() == 0 {
            entries.reserve(self.expected.0);
            arena.reserve(self.expected.1);
        }
        let start = arena.len();
        arena.extend_from_slice(subject);
        let reply_at = arena.len();
        arena.extend_from_slice(reply);
        let headers_at = arena.len();
        headers.iter().for_each(|piece| arena.extend_from_slice(piece));
        let payload_at = arena.len();
        payload.iter().for_each(|piece| arena.extend_from_slice(piece));
        let guid_at = arena.len();
        arena.extend_from_slice(guid);
        let (reply, headers, payload, end) = (reply_at, headers_at, payload_at, arena.len());
        entries.push(Entry { start, reply, headers, payload, guid: guid_at, end, conn });
    }

    /// An empty one that is likely to hold as much as this one does: its first message makes room for that, as growing step by
    /// step copies all of it.
    pub fn likewise(&self) -> Batch {
        Batch { expected: (self.len(), self.span().len()), ..Batch::default() }
    }

    /// Copy what is shared, to add to it.
    fn unshare(&mut self) {
        let mut own = Batch::with_capacity(self.len() + 1, self.size());
        self.iter().for_each(|message| own.push(message));
        *self = own;
    }

    /// Take the first messages, of about so many bytes and at least one. Both parts stay where they are.
    pub fn split(&mut self, limit: usize) -> Batch {
        let own = std::mem::take(&mut self.own);
        let (columns, range) = self.shared.take().unwrap_or_else(|| shared(own.arena, own.entries));
        let entries = columns.entries.get(range.clone()).unwrap_or_default();
        let from = entries.first().map_or(0, |first| first.start);
        let within = entries.partition_point(|entry| entry.end.saturating_sub(from) <= limit);
        let edge = range.start + within.max(1).min(entries.len());
        let front = Batch { shared: Some((Arc::clone(&columns), range.start..edge)), ..Batch::default() };
        self.shared = Some((columns, edge..range.end));
        front
    }

    /// Empty, with room for so many messages of so many bytes together.
    pub fn with_capacity(messages: usize, bytes: usize) -> Batch {
        let own = Columns { arena: Vec::with_capacity(bytes), entries: Vec::with_capacity(messages) };
        Batch { own, ..Batch::default() }
    }

    fn entries(&self) -> &[Entry] {
        match &self.shared {
            Some((columns, range)) => columns.entries.get(range.clone()).unwrap_or_default(),
            None => &self.own.entries,
        }
    }

    fn arena(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.own.arena, |(columns, _)| (*columns.arena).as_ref())
    }

    /// As bytes, for a log that other servers read: the number of messages, the lengths of each one's parts, then the parts.
    /// Who published is not among them. In two pieces, as the parts lie here in one already.
    pub fn encode(&self) -> (Vec<u8>, &[u8]) {
        let entries = self.entries();
        let mut out = Vec::with_capacity(8 * entries.len() + 8);
        varint::put(&mut out, entries.len() as u64);
        for entry in entries {
            let edges = [entry.start, entry.reply, entry.headers, entry.payload, entry.guid, entry.end];
            edges.windows(2).for_each(|edge| {
                let [from, to] = edge else { return };
                varint::put(&mut out, (to - from) as u64);
            });
        }
        (out, self.arena().get(self.span()).unwrap_or_default())
    }

    /// What `encode` gave; it stays where it is. None: it is something else, or cut short.
    pub fn decode(data: impl Held + 'static) -> Option<Batch> {
        let mut input = data.as_ref();
        let count = varint::take(&mut input)?;
        // Each takes five bytes at least, so a wrong number can't ask for much memory.
        let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(input.len() / 5));
        let mut end = 0usize;
        for _ in 0..count {
            let mut edges = [end; 6];
            for edge in edges.iter_mut().skip(1) {
                end = end.checked_add(usize::try_from(varint::take(&mut input)?).ok()?)?;
                *edge = end;
            }
            let [start, reply, headers, payload, guid, end] = edges;
            entries.push(Entry { start, reply, headers, payload, guid, end, conn: 0 });
        }
        if end != input.len() {
            return None;
        }
        // The parts stay where they are, behind the lengths.
        let head = data.as_ref().len() - end;
        for entry in &mut entries {
            let edges = [
                &mut entry.start,
                &mut entry.reply,
                &mut entry.headers,
                &mut entry.payload,
                &mut entry.guid,
                &mut entry.end,
            ];
            edges.into_iter().for_each(|edge| *edge += head);
        }
        Some(Batch { shared: Some(shared(data, entries)), ..Batch::default() })
    }

    /// The messages that the others don't have, in order: each of theirs stands for one of these. Who published, and in which
    /// order, makes no difference.
    pub fn without<'a>(&self, others: impl IntoIterator<Item = &'a Batch>) -> Batch {
        let mut had: HashMap<Message<'_>, usize> = HashMap::new();
        for message in others.into_iter().flat_map(Batch::iter) {
            *had.entry(Message { conn: 0, ..message }).or_default() += 1;
        }
        let mut left = Batch::default();
        for message in self.iter() {
            match had.get_mut(&Message { conn: 0, ..message }) {
                Some(count) if *count > 0 => *count -= 1,
                _ => left.push(message),
            }
        }
        left
    }

    /// The message at a place, None beyond the end.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        self.entries().get(index).map(|entry| self.view(entry))
    }

    /// All messages in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.entries().iter().map(|entry| self.view(entry))
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.span().len() + self.len() * std::mem::size_of::<Entry>()
    }

    /// Where its messages lie, one behind the other.
    fn span(&self) -> Range<usize> {
        match self.entries() {
            [first, .., last] => first.start..last.end,
            [only] => only.start..only.end,
            [] => 0..0,
        }
    }

    fn view(&self, entry: &Entry) -> Message<'_> {
        let arena = self.arena();
        Message {
            subject: &arena[entry.start..entry.reply],
            reply: &arena[entry.reply..entry.headers],
            headers: &arena[entry.headers..entry.payload],
            payload: &arena[entry.payload..entry.guid],
            conn: entry.conn,
            guid: &arena[entry.guid..entry.end],
        }
    }
}

fn shared(arena: impl Held + 'static, entries: Vec<Entry>) -> (Arc<Shared>, Range<usize>) {
    let end = entries.len();
    (Arc::new(Shared { arena: Box::new(arena), entries }), 0..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_of_a_big_batch_grows_once() {
        let message = Message { subject: b"s", payload: &[7; 1000], ..Message::default() };
        let mut batch = Batch::default();
        (0..100).for_each(|_| batch.push(message));
        let mut next = batch.likewise();
        assert!(next.is_empty());
        assert_eq!(next.own.arena.capacity(), 0, "one that gets nothing costs nothing");
        next.push(message);
        let room = next.own.arena.capacity();
        assert!(room >= 100 * 1001);
        (1..100).for_each(|_| next.push(message));
        assert_eq!(next.own.arena.capacity(), room);
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(parts in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 5), 0..20)) {
            let mut batch = Batch::default();
            for part in &parts {
                let [subject, reply, headers, payload, guid] = part.as_slice() else { unreachable!() };
                batch.push(Message { subject, reply, headers, payload, conn: 7, guid });
            }
            let (head, arena) = batch.encode();
            let encoded = [head.as_slice(), arena].concat();
            let decoded = Batch::decode(encoded.clone()).unwrap_or_default();
            let (head, arena) = decoded.encode();
            prop_assert_eq!([head.as_slice(), arena].concat(), encoded.clone());
            let messages: Vec<_> = decoded.iter().collect();
            let wanted: Vec<_> = batch.iter().map(|message| Message { conn: 0, ..message }).collect();
            prop_assert_eq!(messages, wanted);
            prop_assert!(encoded.len() < 2 || Batch::decode(encoded[..encoded.len() - 1].to_vec()).is_none());
        }

        #[test]
        fn parts_are_what_was_split(sizes in prop::collection::vec(0usize..50, 0..30), limits in prop::collection::vec(0usize..200, 0..8)) {
            let mut batch = Batch::default();
            for (number, size) in sizes.iter().enumerate() {
                batch.push(Message { subject: number.to_string().as_bytes(), payload: &vec![7; *size], conn: 3, ..Message::default() });
            }
            let whole = batch.encode();
            let (whole, count, mut found) = ([whole.0.as_slice(), whole.1].concat(), batch.len(), Batch::default());
            for limit in limits {
                let front = batch.split(limit);
                prop_assert_eq!(front.is_empty(), found.len() == count);
                let bytes = front.size() - front.len() * std::mem::size_of::<Entry>();
                prop_assert!(front.len() <= 1 || bytes <= limit);
                let (head, arena) = front.encode();
                let again = Batch::decode([head.as_slice(), arena].concat()).unwrap_or_default();
                prop_assert_eq!(again.len(), front.len());
                front.iter().for_each(|message| found.push(message));
            }
            prop_assert_eq!(found.len() + batch.len(), count);
            let rest: Vec<_> = (0..batch.len()).filter_map(|index| batch.get(index)).collect();
            rest.into_iter().for_each(|message| found.push(message));
            let again = found.encode();
            prop_assert_eq!([again.0.as_slice(), again.1].concat(), whole);
            batch.push(Message { subject: b"more", ..Message::default() });
            prop_assert_eq!(batch.iter().last().map(|message| message.subject), Some(&b"more"[..]));
        }

        #[test]
        fn without_is_a_difference_of_multisets(mine in prop::collection::vec(0u8..6, 0..30), theirs in prop::collection::vec(0u8..6, 0..30)) {
            let batch = |numbers: &[u8], conn| {
                let mut batch = Batch::default();
                numbers.iter().for_each(|number| batch.push(Message { subject: b"a", payload: &[*number], conn, ..Message::default() }));
                batch
            };
            let half = theirs.len() / 2;
            let (one, other) = (batch(&theirs[..half], 1), batch(&theirs[half..], 2));
            let left: Vec<u8> = batch(&mine, 3).without([&one, &other]).iter().map(|message| message.payload[0]).collect();
            let mut wanted = mine;
            theirs.iter().for_each(|number| {
                if let Some(at) = wanted.iter().position(|each| each == number) {
                    wanted.remove(at);
                }
            });
            prop_assert_eq!(left, wanted);
        }

        #[test]
        fn takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Batch::decode(data).map(|batch| batch.iter().count());
        }
    }
}
