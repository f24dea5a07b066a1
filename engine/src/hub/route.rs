//! Connections to other servers of the cluster: their life, what they carry, what they send.
//!
//! Source: the route protocol of nats-server. What comes from a route is for clients and taps here, never for a route.

use super::connection::{Connection, Phase, Traffic};
use super::deliver::{fill_head, Frame};
use super::interest::Link;
use super::remote::shown;
use super::{Event, Hub};
use crate::wire::route::{Cursor, Message, Op, Parser, Step};

/// Bytes that a peer may send ahead of `route_ready`.
pub(super) const STRANGER_BYTES_MAX: usize = 4 << 20;

/// The accounts that a connection carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// This one alone; None: all but `without`.
    pub account: Option<Box<str>>,
    /// Accounts that other connections carry.
    pub without: Vec<Box<str>>,
}

impl Lane {
    fn carries(&self, account: &str) -> bool {
        match &self.account {
            Some(only) => **only == *account,
            None => !self.without.iter().any(|name| **name == *account),
        }
    }
}

/// A peer whose handshake is through.
#[derive(Debug)]
pub(super) struct Ready {
    server: Box<str>,
    lane: Lane,
    /// Grows from one ready connection to the next.
    since: u64,
}

/// What a connection has if another server is at its end.
#[derive(Debug, Default)]
pub(super) struct Route {
    parser: Parser,
    pub(super) ready: Option<Ready>,
    // The account that the last line named, and its number: the next one usually names it too.
    account: (Vec<u8>, u32),
}

/// Figures of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// Its connection.
    pub conn: u64,
    /// Messages and bytes.
    pub traffic: Traffic,
    /// Bytes of pending output.
    pub pending: usize,
    /// Interest of the peer.
    pub subscriptions: usize,
}

impl Hub {
    /// Take in a connection to another server.
    pub fn open_route(&mut self) -> u64 {
        let (id, slot) = self
            .floor
            .conns
            .insert(|id| Connection { route: Some(Box::default()), ..Connection::new(id, u32::MAX, false) });
        self.routes.push(slot);
        id
    }

    /// The peer's CONNECT is in order: its input goes on.
    pub fn route_welcome(&mut self, conn: u64) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        if conn.phase != Phase::Waiting || conn.route.is_none() {
            return;
        }
        conn.phase = Phase::Open;
        let held = std::mem::take(&mut conn.held);
        self.run_route(slot, &held);
    }

    /// The peer has shown that it is `server`: exchange interest and messages of the accounts in `lane`. What it sent ahead is
    /// taken in now.
    pub fn route_ready(&mut self, conn: u64, server: &str, lane: Lane) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        let Some(route) = conn.route.as_mut().filter(|route| route.ready.is_none()) else { return };
        if conn.phase == Phase::Closed {
            return;
        }
        self.routes_readied += 1;
        route.ready = Some(Ready { server: server.into(), lane, since: self.routes_readied });
        conn.phase = Phase::Open;
        let held = std::mem::take(&mut conn.held);
        self.relink();
        self.run_route(slot, &held);
    }

    fn ready(&self, slot: u32) -> Option<&Ready> {
        self.floor.conns.at(slot)?.route.as_ref()?.ready.as_ref()
    }

    /// Figures of every route that `close` was not called for.
    pub fn routes(&self) -> Vec<RouteFigures> {
        let figures = |conn: &Connection| RouteFigures {
            conn: conn.id,
            traffic: conn.traffic,
            pending: conn.output.pending(),
            subscriptions: conn.subs.len(),
        };
        self.routes.iter().filter_map(|slot| self.floor.conns.at(*slot)).map(figures).collect()
    }

    /// For each ready connection, the newest one of the same peer that carries an account.
    pub(super) fn links(&self, account: &str) -> Vec<Link> {
        if self.routes.is_empty() || account.is_empty() || account.bytes().any(|byte| byte <= b' ') {
            return Vec::new();
        }
        let routes: Vec<_> = self.routes.iter().filter_map(|slot| Some((*slot, self.ready(*slot)?))).collect();
        let link = |(from, peer): &(u32, &Ready)| {
            let carriers =
                routes.iter().filter(|(_, other)| other.server == peer.server && other.lane.carries(account));
            carriers.max_by_key(|(_, other)| other.since).map(|(to, _)| Link { from: *from, to: *to })
        };
        routes.iter().filter_map(link).collect()
    }

    /// Ready routes came or went: settle anew who carries which account.
    pub(super) fn relink(&mut self) {
        for number in 0..self.accounts.len() {
            let Some(account) = self.accounts.get(number) else { continue };
            let links = self.links(&account.name);
            let Some(account) = self.accounts.get_mut(number) else { continue };
            let fresh = account.link(links, &self.floor.subs);
            self.spread_all(number as u32, &fresh);
        }
    }

    pub(super) fn run_route(&mut self, slot: u32, data: &[u8]) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        let Some(route) = conn.route.as_mut() else { return };
        let known = route.ready.is_some();
        let mut parser = std::mem::take(&mut route.parser);
        let mut cursor = Cursor::new(data);
        loop {
            match parser.next(&mut cursor, known) {
                Step::Op(Op::Message(message)) => self.receive_routed(slot, &message),
                Step::Op(Op::Interest(interest)) => self.learn(slot, &interest),
                Step::Op(Op::Ping) => self.pong(slot),
                Step::Op(Op::Pong) => {
                    if let Some(conn) = self.floor.conns.at_mut(slot) {
                        conn.pings = 0;
                    }
                    self.tell(slot, Event::Pong);
                }
                Step::Op(Op::Connect(json)) => {
                    self.tell(slot, |conn| Event::Connect(conn, json.to_vec()));
                    // Whoever dialed takes the PONG to its PING for a welcome.
                    let Some(conn) = self.floor.conns.at_mut(slot) else { return };
                    conn.phase = Phase::Waiting;
                    conn.held = cursor.rest().to_vec();
                    return;
                }
                Step::Op(Op::Info(json)) => self.tell(slot, |conn| Event::Info(conn, json.to_vec())),
                Step::Op(Op::Err(text)) => {
                    let reason = String::from_utf8_lossy(text).into_owned();
                    return self.shut(slot, None, reason.into());
                }
                Step::Early => {
                    let Some(conn) = self.floor.conns.at_mut(slot) else { return };
                    conn.phase = Phase::Waiting;
                    conn.held = parser.take();
                    conn.held.extend_from_slice(cursor.rest());
                    return;
                }
                Step::More => break,
                Step::Malformed => return self.shut(slot, Some("Parser Error"), "Parse Error".into()),
            }
            // What it brought may have made a slow consumer of it.
            if self.floor.conns.at(slot).is_none_or(|conn| conn.phase == Phase::Closed) {
                return;
            }
        }
        if let Some(route) = self.floor.conns.at_mut(slot).and_then(|conn| conn.route.as_mut()) {
            route.parser = parser;
        }
    }

    fn tell(&mut self, slot: u32, event: impl FnOnce(u64) -> Event) {
        if let Some(conn) = self.floor.conns.at(slot) {
            self.floor.events.push(event(conn.id));
        }
    }

    /// The number of the account that a line names; None if it isn't known and not to be made.
    pub(super) fn route_account(&mut self, slot: u32, name: &[u8], make: bool) -> Option<u32> {
        let route = self.floor.conns.at(slot)?.route.as_ref()?;
        if route.account.0 == name {
            return Some(route.account.1);
        }
        let text = std::str::from_utf8(name).ok()?;
        let number = if make { self.account(text) } else { *self.names.get(text)? };
        let route = self.floor.conns.at_mut(slot)?.route.as_mut()?;
        route.account.0.clear();
        route.account.0.extend_from_slice(name);
        route.account.1 = number;
        Some(number)
    }

    /// Another server's message: for clients and taps here, and of the groups it names for one member each.
    fn receive_routed(&mut self, slot: u32, message: &Message<'_>) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.traffic.in_msgs += 1;
        conn.traffic.in_bytes += message.body.len() as u64;
        let from_id = conn.id;
        let Some(number) = self.route_account(slot, message.account, false) else { return };
        let Some(found) = self.find(number, message.subject) else { return };
        let other = shown(message.reply);
        let (reply, subject) = other.unwrap_or((message.reply, message.subject));
        let verbatim = if other.is_none() { message.verbatim } else { &[] };
        let header_text = if message.header_size > 0 { message.header_text } else { &[] };
        let mut head = std::mem::take(&mut self.head);
        if verbatim.is_empty() {
            fill_head(&mut head, reply, header_text, message.size_text);
        }
        let (headers, payload) = message.body.split_at_checked(message.header_size).unwrap_or((&[], message.body));
        let frame = Frame {
            subject,
            prepared: other.is_none(),
            reply,
            head: &head,
            verbatim,
            headers: &[headers],
            header_size: message.header_size,
            payload: &[payload],
            size: message.body.len(),
            from: slot,
            from_id,
        };
        if let Some(account) = self.accounts.get(number as usize) {
            let groups = message.groups().filter_map(|name| account.queue_number(name));
            self.floor.deliver_routed(account.cache.get(found), groups, &frame);
        }
        self.head = head;
        self.settle();
    }
}
