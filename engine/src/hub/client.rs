//! The life of a client: open, CONNECT, its operations, its end.

use std::borrow::Cow;

use super::connection::{Connection, Options, Phase, TURN_BYTES_MAX};
use super::interest::Change;
use super::route::STRANGER_BYTES_MAX;
use super::subscription::{Owner, Sub};
use super::{Event, Hub};
use crate::subject;
use crate::trie::{Entry, Place};
use crate::wire::{Cursor, Fault, Op, Step};

const SLOW: &str = "Slow Consumer (Pending Bytes)";
const PROTOCOL: &str = "Protocol Violation";

impl Hub {
    /// Take in a client; `greeting` is its first output.
    pub fn open(&mut self, account: &str, greeting: &[u8], auth_required: bool) -> u64 {
        let account = self.account(account);
        let (id, slot) = self.floor.conns.insert(|id| Connection::new(id, account, auth_required));
        self.floor.write(slot, &[greeting]);
        id
    }

    /// Forget a connection.
    pub fn close(&mut self, conn: u64) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        self.forsake(slot);
        let Some(conn) = self.floor.conns.remove(conn) else { return };
        let gone = &mut self.floor.gone;
        gone.in_msgs += conn.traffic.in_msgs;
        gone.in_bytes += conn.traffic.in_bytes;
        gone.out_msgs += conn.traffic.out_msgs;
        gone.out_bytes += conn.traffic.out_bytes;
        if conn.drain_asked {
            self.floor.events.push(Event::Drained(conn.id));
        }
        if let Some(route) = conn.route {
            self.routes.retain(|known| *known != slot);
            if route.ready.is_some() {
                self.relink();
            }
        }
    }

    /// Parse what a connection sent and deliver what may be delivered.
    pub fn feed(&mut self, conn: u64, data: &[u8]) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        let limits = &self.limits;
        let client_max = limits.max_payload.saturating_add(limits.max_control_line).saturating_add(4 << 20);
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        let held_max = if conn.route.is_some() { STRANGER_BYTES_MAX } else { client_max };
        conn.received += data.len() as u64;
        match conn.phase {
            Phase::Open if conn.route.is_some() => self.run_route(slot, data),
            Phase::Open => self.run(slot, data),
            Phase::Closed => {}
            Phase::Waiting if conn.held.len().saturating_add(data.len()) <= held_max => {
                conn.held.extend_from_slice(data);
            }
            // Only a caller that doesn't pause reading gets here.
            Phase::Waiting => self.shut(slot, None, PROTOCOL.into()),
        }
    }

    fn run(&mut self, slot: u32, data: &[u8]) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        let rules = conn.rules(self.limits.max_control_line, self.limits.max_payload);
        let mut parser = std::mem::take(&mut conn.parser);
        let mut cursor = Cursor::new(data);
        loop {
            match parser.next(&mut cursor, &rules) {
                Step::Op(Op::Publish(message)) => self.receive(slot, &message),
                Step::Op(Op::Sub(subject, queue, sid)) => self.subscribe(slot, subject, queue, sid),
                Step::Op(Op::Unsub(sid, max)) => self.unsubscribe(slot, sid, max),
                Step::Op(Op::Ping) => self.pong(slot),
                Step::Op(Op::Pong) => {
                    if let Some(conn) = self.floor.conns.at_mut(slot) {
                        conn.pings = 0;
                    }
                }
                Step::Op(Op::Connect(json)) => {
                    let Some(conn) = self.floor.conns.at_mut(slot) else { return };
                    conn.phase = Phase::Waiting;
                    self.floor.events.push(Event::Connect(conn.id, json.to_vec()));
                    conn.held = cursor.rest().to_vec();
                    return;
                }
                Step::More => break,
                Step::Fault(fault) => return self.fault(slot, fault),
            }
            // A client may be its own slow consumer.
            if self.floor.conns.at(slot).is_none_or(|conn| conn.phase == Phase::Closed) {
                return;
            }
        }
        if let Some(conn) = self.floor.conns.at_mut(slot) {
            conn.parser = parser;
        }
    }

    /// Answer a CONNECT: the options hold from here on, and parsing goes on.
    pub fn connected(&mut self, conn: u64, account: &str, options: Options, after_pong: &[u8]) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        let account = self.account(account);
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        if conn.phase != Phase::Waiting || conn.route.is_some() {
            return;
        }
        if conn.connected || conn.account != account {
            self.drop_subs(slot);
        }
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.phase = Phase::Open;
        conn.connected = true;
        conn.auth_pending = false;
        conn.account = account;
        conn.options = options;
        conn.after_pong = after_pong.to_vec();
        let held = std::mem::take(&mut conn.held);
        if options.verbose {
            self.floor.write(slot, &[b"+OK\r\n"]);
        }
        self.run(slot, &held);
    }

    /// Close a client, with an -ERR unless `text` is None.
    pub fn fail(&mut self, conn: u64, text: Option<&str>, reason: &str) {
        if let Some(slot) = self.floor.conns.slot(conn) {
            self.shut(slot, text, reason.to_owned().into());
        }
    }

    /// Queue protocol bytes for one client.
    pub fn write(&mut self, conn: u64, data: &[u8]) {
        if let Some(slot) = self.floor.conns.slot(conn) {
            self.floor.write(slot, &[data]);
            self.settle();
        }
    }

    /// Queue a later INFO for one client: clients expect nothing but the PONG between their CONNECT and its end.
    pub fn announce(&mut self, conn: u64, line: &[u8]) {
        match self.floor.conns.get_mut(conn) {
            Some(conn) if !conn.after_pong.is_empty() => conn.after_pong = line.to_vec(),
            _ => self.write(conn, line),
        }
    }

    /// Queue a PING. Returns the PINGs unanswered before it and the bytes received so far.
    pub fn ping(&mut self, conn: u64) -> (u32, u64) {
        let before = self.activity(conn);
        if let Some(conn) = self.floor.conns.get_mut(conn) {
            conn.pings = conn.pings.saturating_add(1);
        }
        self.write(conn, b"PING\r\n");
        before
    }

    /// PINGs unanswered and bytes received so far.
    pub fn activity(&self, conn: u64) -> (u32, u64) {
        self.floor.conns.get(conn).map_or((0, 0), |conn| (conn.pings, conn.received))
    }

    /// Keep a client's output until `resume`.
    pub fn pause(&mut self, conn: u64) {
        if let Some(conn) = self.floor.conns.get_mut(conn) {
            conn.paused = true;
            conn.output.shrink();
        }
    }

    /// The client's output may leave again.
    pub fn resume(&mut self, conn: u64) {
        let Some(slot) = self.floor.conns.slot(conn) else { return };
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.paused = false;
        let pending = conn.output.pending();
        conn.backlog = pending > TURN_BYTES_MAX;
        if pending > 0 && !conn.dirty {
            conn.dirty = true;
            self.floor.dirty.push(slot);
        }
    }

    /// Ask for one DRAINED event: below the high-water mark of `Sent::congested`, so that the two don't alternate.
    pub fn notify_drained(&mut self, conn: u64) {
        let high_water = self.limits.high_water();
        match self.floor.conns.get_mut(conn) {
            Some(conn) if conn.phase != Phase::Closed && conn.output.pending() >= high_water => conn.drain_asked = true,
            _ => self.floor.events.push(Event::Drained(conn)),
        }
    }

    pub(super) fn pong(&mut self, slot: u32) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        let after = std::mem::take(&mut conn.after_pong);
        self.floor.write(slot, &[b"PONG\r\n", &after]);
        self.settle();
    }

    fn subscribe(&mut self, slot: u32, pattern: &[u8], queue: &[u8], sid: &[u8]) {
        let tokens_max = self.limits.max_subscription_tokens;
        if tokens_max > 0 && memchr::memchr_iter(b'.', pattern).count() >= tokens_max {
            let text = format!("Permissions Violation for Subscription to {}, too many tokens", quoted(pattern));
            return self.refuse(slot, &text);
        }
        let floor = &mut self.floor;
        let Some(conn) = floor.conns.at_mut(slot) else { return };
        let verbose = conn.options.verbose;
        if self.limits.max_subscriptions > 0 && conn.subs.len() >= self.limits.max_subscriptions {
            return self.refuse(slot, "maximum subscriptions exceeded");
        }
        let hash = floor.sids.hash_one(sid);
        let subs = &mut floor.subs;
        if conn.subs.find(hash, |number| subs.get(*number).is_some_and(|sub| *sub.sid == *sid)).is_none() {
            if !subject::valid(pattern, true) {
                return self.refuse(slot, "Invalid Subject");
            }
            let Some(account) = self.accounts.get_mut(conn.account as usize) else { return };
            let queue = account.hold_queue(queue);
            let number = subs.insert(Sub {
                owner: Owner::Conn(slot),
                account: conn.account,
                place: Place { node: 0, position: 0 },
                queue,
                delivered: 0,
                max: 0,
                sid: sid.into(),
                subject: pattern.into(),
            });
            let place = account.insert(pattern, Entry { sub: number, queue });
            if let Some(sub) = subs.get_mut(number) {
                sub.place = place;
            }
            let sids = &floor.sids;
            let rehash = |number: &u32| subs.get(*number).map_or(0, |sub| sids.hash_one(&*sub.sid));
            conn.subs.insert_unique(hash, number, rehash);
            let change = Change { account: conn.account, node: place.node, queue, pattern, came: true };
            self.notice(change);
            self.spread(change);
        }
        if verbose {
            self.floor.write(slot, &[b"+OK\r\n"]);
        }
    }

    fn unsubscribe(&mut self, slot: u32, sid: &[u8], max: u64) {
        let floor = &mut self.floor;
        let Some(conn) = floor.conns.at_mut(slot) else { return };
        let verbose = conn.options.verbose;
        let subs = &mut floor.subs;
        let hash = floor.sids.hash_one(sid);
        let known = conn.subs.find(hash, |number| subs.get(*number).is_some_and(|sub| *sub.sid == *sid)).copied();
        if let Some(number) = known {
            match subs.get_mut(number) {
                Some(sub) if max > sub.delivered => sub.max = max,
                _ => self.drop_sub(number),
            }
        }
        if verbose {
            self.floor.write(slot, &[b"+OK\r\n"]);
        }
    }

    /// Take one subscription of a connection out of everything.
    pub(super) fn drop_sub(&mut self, number: u32) {
        let floor = &mut self.floor;
        let Some(sub) = floor.subs.get(number) else { return };
        if let Owner::Conn(slot) | Owner::Route(slot) = sub.owner {
            let hash = match sub.owner {
                Owner::Route(_) => sub.hash(&floor.sids),
                _ => floor.sids.hash_one(&*sub.sid),
            };
            if let Some(conn) = floor.conns.at_mut(slot) {
                if let Ok(entry) = conn.subs.find_entry(hash, |known| *known == number) {
                    entry.remove();
                }
            }
        }
        self.forget_sub(number);
    }

    pub(super) fn forget_sub(&mut self, number: u32) {
        let Some(sub) = self.floor.subs.remove(number) else { return };
        let (account, node, queue) = (sub.account, sub.place.node, sub.queue);
        let change = Change { account, node, queue, pattern: &sub.subject, came: false };
        if !matches!(sub.owner, Owner::Tap(_)) {
            self.notice(change);
        }
        if !matches!(sub.owner, Owner::Route(_)) {
            self.spread(change);
        }
        if let Some(account) = self.accounts.get_mut(sub.account as usize) {
            account.remove(&sub, &mut self.floor.subs);
        }
    }

    pub(super) fn drop_subs(&mut self, slot: u32) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        for number in std::mem::take(&mut conn.subs) {
            self.forget_sub(number);
        }
    }

    /// What a delivery or a write left to do.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.floor.spent.is_empty() || !self.floor.slow.is_empty() {
            self.settle_now();
        }
    }

    #[cold]
    fn settle_now(&mut self) {
        // What ends tells other servers, which may make slow consumers of them.
        while !self.floor.spent.is_empty() || !self.floor.slow.is_empty() {
            for number in std::mem::take(&mut self.floor.spent) {
                self.drop_sub(number);
            }
            for slot in std::mem::take(&mut self.floor.slow) {
                self.floor.slow_consumers += 1;
                self.end(slot, SLOW.into());
            }
        }
    }

    pub(super) fn violation(&mut self, slot: u32, what: &[u8], name: &[u8]) {
        let text = format!("Permissions Violation for {}{}", String::from_utf8_lossy(what), quoted(name));
        self.refuse(slot, &text);
    }

    fn refuse(&mut self, slot: u32, text: &str) {
        self.floor.write(slot, &[b"-ERR '", text.as_bytes(), b"'\r\n"]);
    }

    fn fault(&mut self, slot: u32, fault: Fault) {
        let (text, reason) = match fault {
            Fault::UnknownOperation => (Some("Unknown Protocol Operation"), PROTOCOL),
            Fault::ControlLine => (Some("maximum control line exceeded"), "Maximum Control Line Exceeded"),
            Fault::Payload => (Some("Maximum Payload Violation"), "Maximum Message Payload Exceeded"),
            Fault::Authorization => (Some("Authorization Violation"), "Authentication Failure"),
            Fault::Malformed => (None, PROTOCOL),
            Fault::ClientError => (None, "Parse Error"),
        };
        self.shut(slot, text, reason.into());
    }

    /// Close a client whose output still leaves, an -ERR at its end.
    pub(super) fn shut(&mut self, slot: u32, text: Option<&str>, reason: Cow<'static, str>) {
        if self.floor.conns.at(slot).is_none_or(|conn| conn.phase == Phase::Closed) {
            return;
        }
        if let Some(text) = text {
            self.refuse(slot, text);
        }
        self.settle();
        // The -ERR may have made it a slow consumer, which has ended it already.
        if self.floor.conns.at(slot).is_some_and(|conn| conn.phase != Phase::Closed) {
            self.end(slot, reason);
        }
    }

    /// Take nothing more from a connection, and nothing to it.
    fn forsake(&mut self, slot: u32) {
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.phase = Phase::Closed;
        self.drop_subs(slot);
    }

    fn end(&mut self, slot: u32, reason: Cow<'static, str>) {
        self.forsake(slot);
        let Some(conn) = self.floor.conns.at_mut(slot) else { return };
        conn.parser = Default::default();
        conn.held = Vec::new();
        let was_ready = conn.route.as_mut().is_some_and(|route| std::mem::take(&mut **route).ready.is_some());
        self.floor.events.push(Event::Close(conn.id, reason));
        if std::mem::take(&mut conn.drain_asked) {
            self.floor.events.push(Event::Drained(conn.id));
        }
        if conn.output.pending() > 0 && !conn.dirty {
            conn.dirty = true;
            self.floor.dirty.push(slot);
        }
        if was_ready {
            self.relink();
        }
    }
}

/// A name in the double quotes and escapes that -ERR texts use.
fn quoted(name: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                '\u{7}' => text.push_str("\\a"),
                '\u{8}' => text.push_str("\\b"),
                '\u{b}' => text.push_str("\\v"),
                '\u{c}' => text.push_str("\\f"),
                '\0'..='\u{1f}' | '\u{7f}' => text.push_str(&format!("\\x{:02x}", u32::from(character))),
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}
