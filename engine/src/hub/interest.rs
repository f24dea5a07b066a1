//! Interest between servers: ours out to those that carry the account, theirs into the account's trie.
//!
//! Source: the route protocol of nats-server: plain interest is sent once, a group's with the number of members here.

use ahash::RandomState;
use hashbrown::HashMap;

use super::account::Account;
use super::deliver::push_number;
use super::subscription::{hash, Owner, Sub, Subs};
use super::{Event, Hub};
use crate::trie::{Entry, Place};
use crate::wire::route::Interest;

/// A subscription came or went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) account: u32,
    /// Node of the pattern in the trie.
    pub(super) node: u32,
    pub(super) queue: u32,
    pub(super) pattern: &'a [u8],
    pub(super) came: bool,
}

/// How many subscriptions of clients and taps there are by node of the trie and queue group: what peers were told.
pub(super) type Counts = HashMap<(u32, u32), u32, RandomState>;

/// Which connection carries an account to the server at the end of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Slot of any ready connection of that server.
    pub(super) from: u32,
    /// Slot of the one that carries the account; the same one unless there are several.
    pub(super) to: u32,
}

impl Account {
    /// Take on other connections. Returns the slots that didn't carry the account before.
    pub(super) fn link(&mut self, links: Vec<Link>, subs: &Subs) -> Vec<u32> {
        if links == self.links {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.links, links);
        self.cache.changed_all();
        if self.links.is_empty() {
            self.counts = None;
        } else if self.counts.is_none() {
            let mut counts = Counts::with_hasher(self.hasher.clone());
            self.trie.each(|node, entries| {
                let local =
                    |entry: &&Entry| subs.get(entry.sub).is_some_and(|sub| !matches!(sub.owner, Owner::Route(_)));
                for entry in entries.iter().filter(local) {
                    *counts.entry((node, entry.queue)).or_default() += 1;
                }
            });
            self.counts = Some(counts);
        }
        self.carriers().filter(|slot| !before.iter().any(|link| link.to == *slot)).collect()
    }

    /// Slots of the connections that carry the account, one a peer.
    fn carriers(&self) -> impl Iterator<Item = u32> + '_ {
        self.links.iter().filter(|link| link.from == link.to).map(|link| link.to)
    }

    /// All interest there is, as lines.
    fn lines(&self) -> Vec<u8> {
        let (mut out, mut pattern) = (Vec::new(), Vec::new());
        for ((node, queue), count) in self.counts.iter().flatten() {
            pattern.clear();
            self.trie.pattern(*node, &mut pattern);
            self.line(&mut out, &pattern, *queue, *count);
        }
        out
    }

    /// Append an RS+, or an RS- for a count of 0.
    fn line(&self, out: &mut Vec<u8>, pattern: &[u8], queue: u32, count: u32) {
        out.extend_from_slice(if count > 0 { b"RS+ " } else { b"RS- " });
        out.extend_from_slice(self.name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(pattern);
        if let Some(name) = self.queue_name(queue) {
            out.push(b' ');
            out.extend_from_slice(name);
            if count > 0 {
                out.push(b' ');
                push_number(out, count as usize);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Hub {
    /// A subscription of a client or a server came or went: tell watches.
    pub(super) fn notice(&mut self, change: Change<'_>) {
        let Some(account) = self.accounts.get_mut(change.account as usize) else { return };
        if account.watched() {
            let events = &mut self.floor.events;
            let tell = |watch, now| events.push(Event::Interest(watch, now));
            account.notice(change.pattern, change.queue, change.came, tell);
        }
    }

    /// A subscription of a client or a tap came or went: tell other servers. A gone one's node is still there.
    pub(super) fn spread(&mut self, change: Change<'_>) {
        let Some(account) = self.accounts.get_mut(change.account as usize) else { return };
        let Some(counts) = account.counts.as_mut() else { return };
        let key = (change.node, change.queue);
        let before = counts.get(&key).copied().unwrap_or(0);
        let now = if change.came { before.saturating_add(1) } else { before.saturating_sub(1) };
        if now == 0 {
            counts.remove(&key);
        } else {
            counts.insert(key, now);
        }
        if change.queue == 0 && before > 0 && now > 0 {
            return;
        }
        let mut line = Vec::new();
        account.line(&mut line, change.pattern, change.queue, now);
        for slot in account.carriers() {
            self.floor.write(slot, &[&line]);
        }
    }

    /// Tell connections that carry an account from now on what there is.
    pub(super) fn spread_all(&mut self, account: u32, slots: &[u32]) {
        let Some(account) = self.accounts.get(account as usize).filter(|_| !slots.is_empty()) else { return };
        let lines = account.lines();
        for slot in slots {
            self.floor.write(*slot, &[&lines]);
        }
    }

    /// Another server's RS+ or RS-.
    pub(super) fn learn(&mut self, slot: u32, interest: &Interest<'_>) {
        let Some(number) = self.route_account(slot, interest.account, interest.came) else { return };
        let floor = &mut self.floor;
        let (Some(conn), Some(account)) = (floor.conns.at_mut(slot), self.accounts.get_mut(number as usize)) else {
            return;
        };
        let subs = &mut floor.subs;
        let queue = if interest.queue.is_empty() { Some(0) } else { account.queue_number(interest.queue) };
        let known = queue.and_then(|queue| {
            let same = |sub: &Sub| {
                (sub.account, sub.queue) == (number, queue)
                    && *sub.subject == *interest.subject
                    && *sub.sid == *interest.origin
            };
            let hash = hash(&floor.sids, number, queue, interest.subject, interest.origin);
            conn.subs.find(hash, |known| subs.get(*known).is_some_and(same)).copied()
        });
        let weight = u64::from(interest.weight.max(1));
        match (known, interest.came) {
            (Some(known), true) => {
                if let Some(sub) = subs.get_mut(known) {
                    sub.max = weight;
                }
            }
            (Some(known), false) => self.drop_sub(known),
            (None, false) => {}
            (None, true) => {
                let queue = account.hold_queue(interest.queue);
                let sub = subs.insert(Sub {
                    owner: Owner::Route(slot),
                    account: number,
                    place: Place { node: 0, position: 0 },
                    queue,
                    delivered: 0,
                    max: weight,
                    sid: interest.origin.into(),
                    subject: interest.subject.into(),
                });
                let place = account.insert(interest.subject, Entry { sub, queue });
                if let Some(sub) = subs.get_mut(sub) {
                    sub.place = place;
                }
                let sids = &floor.sids;
                let rehash = |known: &u32| subs.get(*known).map_or(0, |sub| sub.hash(sids));
                conn.subs.insert_unique(rehash(&sub), sub, rehash);
                let (account, node, pattern) = (number, place.node, interest.subject);
                self.notice(Change { account, node, queue, pattern, came: true });
            }
        }
    }
}
