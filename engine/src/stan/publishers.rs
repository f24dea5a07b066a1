//! Who may publish, and a batch of publishes taken apart by channel.

use ahash::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::batch::{Batch, Message};
use crate::codec::stan::{self, PubMsg};
use crate::publish::{Outgoing, Publisher};
use crate::subject;

const INVALID: &[u8] = b"stan: invalid publish request";
/// Refusals that are told one by one; more are counted only.
const TOLD_MAX: usize = 16;

/// Why a publish was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// In words.
    pub reason: &'static str,
    /// Who published, as it says.
    pub client_id: Vec<u8>,
    /// Into which channel.
    pub channel: Vec<u8>,
}

/// Batches taken apart.
#[derive(Debug)]
pub struct Sorted {
    /// Channels with what goes into their streams, in the order of their first message.
    pub groups: Vec<(Vec<u8>, Batch)>,
    /// Publishes that could be read, refused ones too.
    pub messages: u64,
    /// Their bytes, as encoded.
    pub bytes: u64,
    /// How many were refused; their publishers have been told.
    pub refusals: u64,
    /// The first of them.
    pub refused: Vec<Refused>,
    // The place in `groups` by channel, and the subject that is stored there.
    places: HashMap<Vec<u8>, usize, RandomState>,
    subjects: Vec<Vec<u8>>,
}

impl Default for Sorted {
    fn default() -> Sorted {
        Sorted {
            groups: Vec::new(),
            messages: 0,
            bytes: 0,
            refusals: 0,
            refused: Vec::new(),
            places: HashMap::with_hasher(RandomState::with_seeds(97, 101, 103, 107)),
            subjects: Vec::new(),
        }
    }
}

/// The clients of a cluster id, as publishing needs to know them.
#[derive(Debug)]
pub struct Publishers {
    prefix: Vec<u8>,
    // The first pattern that matches tells whether a channel is stored under its own name.
    native: Vec<(Vec<u8>, bool)>,
    conn_ids: HashSet<Vec<u8>, RandomState>,
    client_ids: HashSet<Vec<u8>, RandomState>,
}

impl Publishers {
    /// `prefix`: of the subjects under which channels are stored, unless the first pattern of `native` that matches says
    /// that it is their own name.
    pub fn new(prefix: &[u8], native: Vec<(Vec<u8>, bool)>) -> Publishers {
        Publishers {
            prefix: prefix.to_vec(),
            native,
            conn_ids: HashSet::with_hasher(RandomState::with_seeds(59, 61, 67, 71)),
            client_ids: HashSet::with_hasher(RandomState::with_seeds(73, 79, 83, 89)),
        }
    }

    /// A client has connected.
    pub fn add(&mut self, client_id: &[u8], conn_id: &[u8]) {
        self.client_ids.insert(client_id.to_vec());
        if !conn_id.is_empty() {
            self.conn_ids.insert(conn_id.to_vec());
        }
    }

    /// It has gone, or was replaced.
    pub fn remove(&mut self, client_id: &[u8], conn_id: &[u8]) {
        self.client_ids.remove(client_id);
        self.conn_ids.remove(conn_id);
    }

    /// The subject of a channel.
    pub fn subject(&self, channel: &[u8]) -> Vec<u8> {
        let rule = self.native.iter().find(|(pattern, _)| subject::matches(pattern, channel));
        match rule {
            Some((_, true)) if subject::valid(channel, false) => channel.to_vec(),
            _ => stan::channel_subject(&self.prefix, channel),
        }
    }

    /// Take publishes apart by channel, behind what was taken apart before; those that are no good are answered.
    pub fn sort(&self, batch: &Batch, sorted: &mut Sorted, publisher: &mut dyn Publisher, account: &str) {
        // Runs of one channel are the rule.
        let mut last: Option<(&[u8], usize)> = None;
        for message in batch.iter() {
            let publish = match stan::pub_msg(message.payload) {
                Ok(publish) => publish,
                Err(_) if stan::is_control(message.payload) => continue,
                Err(start) => {
                    sorted.refuse(publisher, account, message.reply, &start, "it can't be read");
                    continue;
                }
            };
            sorted.messages += 1;
            sorted.bytes += message.payload.len() as u64;
            let before = last.filter(|(channel, _)| *channel == publish.channel).map(|(_, place)| place);
            if let Some(reason) = self.refusal(&publish, before.is_some()) {
                sorted.refuse(publisher, account, message.reply, &publish, reason);
                continue;
            }
            let place = before.unwrap_or_else(|| sorted.place(publish.channel, || self.subject(publish.channel)));
            last = Some((publish.channel, place));
            let headers = match publish.reply {
                b"" => Vec::new(),
                reply => stan::reply_headers(reply),
            };
            if let (Some((_, group)), Some(subject)) = (sorted.groups.get_mut(place), sorted.subjects.get(place)) {
                group.push(Message {
                    subject,
                    reply: message.reply,
                    headers: &headers,
                    payload: publish.data,
                    conn: message.conn,
                    guid: publish.guid,
                });
            }
        }
    }

    #[inline]
    fn refusal(&self, publish: &PubMsg<'_>, valid: bool) -> Option<&'static str> {
        if publish.guid.is_empty() {
            return Some("it has no guid");
        }
        if !valid && !stan::channel_valid(publish.channel) {
            return Some("no channel can have this name");
        }
        // Who names an incarnation is known by that alone.
        let known = match publish.conn_id {
            b"" => self.client_ids.contains(publish.client_id),
            conn_id => self.conn_ids.contains(conn_id),
        };
        (!known).then_some("the client is not connected, or was replaced")
    }
}

impl Sorted {
    /// The place of a channel's group, begun if need be.
    fn place(&mut self, channel: &[u8], subject: impl FnOnce() -> Vec<u8>) -> usize {
        if let Some(place) = self.places.get(channel) {
            return *place;
        }
        let place = self.groups.len();
        self.groups.push((channel.to_vec(), Batch::default()));
        self.subjects.push(subject());
        self.places.insert(channel.to_vec(), place);
        place
    }

    /// Bytes that wait in the groups.
    pub fn size(&self) -> usize {
        self.groups.iter().map(|(_, group)| group.size()).sum()
    }

    fn refuse(
        &mut self,
        publisher: &mut dyn Publisher,
        account: &str,
        reply: &[u8],
        publish: &PubMsg<'_>,
        reason: &'static str,
    ) {
        self.refusals += 1;
        if self.refused.len() < TOLD_MAX {
            let (client_id, channel) = (publish.client_id.to_vec(), publish.channel.to_vec());
            self.refused.push(Refused { reason, client_id, channel });
        }
        if !reply.is_empty() {
            let payload: &[&[u8]] = &[&stan::pub_ack(publish.guid, INVALID)];
            publisher.publish(account, Outgoing { to: reply, subject: reply, reply: b"", headers: &[], payload });
        }
    }
}
