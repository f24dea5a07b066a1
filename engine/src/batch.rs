//! Messages handed to one receiver inside the server: columns over one arena, so that a batch costs two allocations.

/// One message, borrowed from its batch. An empty `reply` or `headers` means there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// A queue of messages in the order of arrival.
#[derive(Debug, Default)]
pub struct Batch {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Append a copy of a message.
    pub fn push(&mut self, message: Message<'_>) {
        let start = self.arena.len();
        self.arena.extend_from_slice(message.subject);
        let reply = self.arena.len();
        self.arena.extend_from_slice(message.reply);
        let headers = self.arena.len();
        self.arena.extend_from_slice(message.headers);
        let payload = self.arena.len();
        self.arena.extend_from_slice(message.payload);
        let guid = self.arena.len();
        self.arena.extend_from_slice(message.guid);
        self.entries.push(Entry { start, reply, headers, payload, guid, end: self.arena.len(), conn: message.conn });
    }

    /// Append a copy of a message whose headers and payload are in pieces.
    pub fn push_pieces(&mut self, subject: &[u8], reply: &[u8], headers: &[&[u8]], payload: &[&[u8]], conn: u64) {
        let start = self.arena.len();
        self.arena.extend_from_slice(subject);
        let reply_at = self.arena.len();
        self.arena.extend_from_slice(reply);
        let headers_at = self.arena.len();
        headers.iter().for_each(|piece| self.arena.extend_from_slice(piece));
        let payload_at = self.arena.len();
        payload.iter().for_each(|piece| self.arena.extend_from_slice(piece));
        let end = self.arena.len();
        let (reply, headers, payload) = (reply_at, headers_at, payload_at);
        self.entries.push(Entry { start, reply, headers, payload, guid: end, end, conn });
    }

    /// The message at a place, None beyond the end.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        self.entries.get(index).map(|entry| self.view(entry))
    }

    /// All messages in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.entries.iter().map(|entry| self.view(entry))
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.arena.len() + self.entries.len() * std::mem::size_of::<Entry>()
    }

    fn view(&self, entry: &Entry) -> Message<'_> {
        Message {
            subject: &self.arena[entry.start..entry.reply],
            reply: &self.arena[entry.reply..entry.headers],
            headers: &self.arena[entry.headers..entry.payload],
            payload: &self.arena[entry.payload..entry.guid],
            conn: entry.conn,
            guid: &self.arena[entry.guid..entry.end],
        }
    }
}
