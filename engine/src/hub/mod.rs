//! The hub: clients, routes to other servers, accounts, taps and watches. Bytes in; bytes and events out, collected until `turn`.
//!
//! Deterministic and without I/O: the same calls with the same seed give the same bytes.

mod account;
mod client;
mod connection;
mod deliver;
mod interest;
mod matched;
mod publish;
mod registry;
mod remote;
mod route;
mod subscription;
mod tap;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use ahash::RandomState;
use hashbrown::HashMap;

use account::Account;
pub use connection::{Options, Traffic};
use connection::{Phase, TURN_BYTES_MAX};
use deliver::Floor;
use registry::Registry;
pub use route::{Lane, RouteFigures};

/// Bounds of a hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, headers included.
    pub max_payload: usize,
    /// Bytes of arguments in a control line.
    pub max_control_line: usize,
    /// Bytes of pending output; a client above it is cut.
    pub max_pending: usize,
    /// Subscriptions of a connection, 0 for any number.
    pub max_subscriptions: usize,
    /// Tokens in a subscription's subject, 0 for any number.
    pub max_subscription_tokens: usize,
    /// Bytes that a tap holds before its producers are told to pause. What still comes is taken: the bound is kept by
    /// whoever pauses the producers, and one read of each is the most that comes after.
    pub tap_bytes_max: usize,
    /// Drives the choice in queue groups and the hashes.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_payload: 1 << 20,
            max_control_line: 4096,
            max_pending: 64 << 20,
            max_subscriptions: 0,
            max_subscription_tokens: 0,
            tap_bytes_max: 64 << 20,
            seed: 0,
        }
    }
}

impl Limits {
    /// Pending bytes from which on a receiver counts as congested.
    fn high_water(&self) -> usize {
        (self.max_pending / 4).min(8 << 20)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client sent CONNECT with this JSON; its input waits for `connected` or `fail`.
    Connect(u64, Vec<u8>),
    /// Another server sent INFO with this JSON. Its CONNECT waits for `route_welcome` or `fail`.
    Info(u64, Vec<u8>),
    /// Another server answered a PING.
    Pong(u64),
    /// A connection must be cut, its last output comes in the same turn; the reason as connz words it.
    Close(u64, Cow<'static, str>),
    /// A tap went from empty to not empty.
    Tap(u64),
    /// A tap holds much that nobody has taken.
    Filling(u64),
    /// The answer to a watch changed.
    Interest(u64, bool),
    /// A client sends faster than its consumers read.
    Stall(u64),
    /// A connection that was asked about by `notify_drained` has little pending output, or is gone.
    Drained(u64),
}

/// Figures of the whole hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Clients that `close` was not called for yet.
    pub connections: usize,
    /// Subscriptions of clients and taps.
    pub subscriptions: usize,
    /// Messages and bytes.
    pub traffic: Traffic,
    /// Connections that were cut for pending output.
    pub slow_consumers: u64,
    /// STALL events.
    pub stalled_clients: u64,
    /// Open taps.
    pub taps: usize,
    /// Entries of the match caches.
    pub num_cache: usize,
    /// Pending output of all clients and routes.
    pub pending_bytes: usize,
}

// Where the last publish went: the next one usually goes there too, and comparing beats hashing.
#[derive(Debug, Default)]
struct Memo {
    subject: Vec<u8>,
    account: u32,
    epoch: u64,
    index: usize,
    valid: bool,
}

/// Everything that receives or sends.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    accounts: Vec<Account>,
    names: HashMap<Box<str>, u32, RandomState>,
    floor: Floor,
    // Slots of connections to other servers, and how many have ever been ready.
    routes: Vec<u32>,
    routes_readied: u64,
    watches: Registry<(u32, Box<[u8]>)>,
    memo: Memo,
    // Reused for the sizes of a frame.
    head: Vec<u8>,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: Limits) -> Self {
        Hub {
            limits,
            accounts: Vec::new(),
            names: HashMap::with_hasher(RandomState::with_seeds(limits.seed, 19, 23, 29)),
            floor: Floor::new(limits),
            routes: Vec::new(),
            routes_readied: 0,
            watches: Registry::new(),
            memo: Memo::default(),
            head: Vec::new(),
        }
    }

    /// Hand over pending output of clients that aren't paused; what a resumed one had saved up comes in pieces, one a
    /// turn. A buffer that is handed over comes back by `give_back`.
    pub fn turn(&mut self, mut sink: impl FnMut(u64, Cow<'_, [u8]>)) {
        self.settle();
        let high_water = self.limits.high_water();
        let floor = &mut self.floor;
        for slot in std::mem::take(&mut floor.stalled) {
            if let Some(conn) = floor.conns.at_mut(slot) {
                conn.stalled = false;
            }
        }
        let mut dirty = std::mem::take(&mut floor.dirty);
        dirty.retain(|slot| {
            let Some(conn) = floor.conns.at_mut(*slot) else { return false };
            let closed = conn.phase == Phase::Closed;
            if !conn.dirty || (conn.paused && !closed) {
                conn.dirty = false;
                return false;
            }
            let limit = if conn.backlog && !closed { TURN_BYTES_MAX } else { usize::MAX };
            let id = conn.id;
            conn.dirty = !conn.output.take(limit, &mut floor.spare, |bytes| sink(id, bytes));
            conn.backlog &= conn.dirty;
            if conn.drain_asked && conn.output.pending() < high_water {
                conn.drain_asked = false;
                floor.events.push(Event::Drained(id));
            }
            conn.dirty
        });
        floor.dirty = dirty;
    }

    /// Use again a buffer that a turn handed over.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        self.floor.spare.put(buffer);
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.floor.events)
    }

    /// Figures of the hub.
    pub fn statistics(&self) -> Statistics {
        let mut traffic = self.floor.gone;
        let mut pending_bytes = 0;
        let mut remote = 0;
        for conn in self.floor.conns.iter() {
            remote += conn.route.as_ref().map_or(0, |_| conn.subs.len());
            traffic.in_msgs += conn.traffic.in_msgs;
            traffic.in_bytes += conn.traffic.in_bytes;
            traffic.out_msgs += conn.traffic.out_msgs;
            traffic.out_bytes += conn.traffic.out_bytes;
            pending_bytes += conn.output.pending();
        }
        Statistics {
            connections: self.floor.conns.len() - self.routes.len(),
            subscriptions: self.floor.subs.len() - remote,
            traffic,
            slow_consumers: self.floor.slow_consumers,
            stalled_clients: self.floor.stalled_clients,
            taps: self.floor.taps.len(),
            num_cache: self.accounts.iter().map(|account| account.cache.len()).sum(),
            pending_bytes,
        }
    }

    /// Traffic, pending bytes and number of subscriptions of one client.
    pub fn connection(&self, conn: u64) -> Option<(Traffic, usize, usize)> {
        let conn = self.floor.conns.get(conn)?;
        Some((conn.traffic, conn.output.pending(), conn.subs.len()))
    }

    /// The number of an account, made if it is new.
    fn account(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.accounts.len() as u32;
        let mut account = Account::new(name, self.limits.seed.wrapping_add(u64::from(number)));
        account.link(self.links(name), &self.floor.subs);
        self.accounts.push(account);
        self.names.insert(name.into(), number);
        number
    }
}
