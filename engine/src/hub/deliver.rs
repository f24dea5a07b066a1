//! From matched subscriptions to output buffers and taps: the inner loop of everything that is published.

use ahash::RandomState;

use super::connection::{Connection, Phase, Spare, Traffic};
use super::matched::{Group, Matched, Target};
use super::registry::Registry;
use super::subscription::{Owner, Subs};
use super::tap::{Tap, FILLING_BYTES};
use super::{Event, Limits};
use crate::publish::Sent;

/// A message in the pieces that frames are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// As the receivers are shown it.
    pub(super) subject: &'a [u8],
    /// The subject shown is the one that decided who matched, so prepared beginnings hold.
    pub(super) prepared: bool,
    pub(super) reply: &'a [u8],
    /// `[reply ][#hdr ]#size CR LF`; unused if `verbatim` is there.
    pub(super) head: &'a [u8],
    /// All that follows the sid, ready to copy; empty if there is no such thing.
    pub(super) verbatim: &'a [u8],
    pub(super) headers: &'a [&'a [u8]],
    pub(super) header_size: usize,
    pub(super) payload: &'a [&'a [u8]],
    /// Headers and payload.
    pub(super) size: usize,
    /// Slot and id of the publisher; NOBODY and 0 for the server.
    pub(super) from: u32,
    pub(super) from_id: u64,
}

// Pending output that a route may have in any case.
const ROUTE_PENDING_MIN: usize = 256 << 20;

/// Not a slot.
pub(super) const NOBODY: u32 = u32::MAX;

/// All receivers, apart from the accounts that match them.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) conns: Registry<Connection>,
    pub(super) taps: Registry<Tap>,
    pub(super) subs: Subs,
    /// Slots of connections that may have output to hand over.
    pub(super) dirty: Vec<u32>,
    pub(super) stalled: Vec<u32>,
    pub(super) events: Vec<Event>,
    /// Subscriptions that got their last message, and slots of slow consumers: dealt with after the delivery, since what
    /// matched is in use during it.
    pub(super) spent: Vec<u32>,
    /// Reused for what a message's queue groups chose: peer and place of the group.
    pub(super) chosen: Vec<(u32, u32)>,
    pub(super) slow: Vec<u32>,
    pub(super) spare: Spare,
    pub(super) sids: RandomState,
    /// Traffic of connections that are closed.
    pub(super) gone: Traffic,
    pub(super) slow_consumers: u64,
    pub(super) stalled_clients: u64,
    random: u64,
    max_pending: usize,
    pub(super) high_water: usize,
    tap_bytes_max: usize,
}

impl Floor {
    pub(super) fn new(limits: Limits) -> Self {
        Floor {
            conns: Registry::new(),
            taps: Registry::new(),
            subs: Subs::default(),
            dirty: Vec::new(),
            stalled: Vec::new(),
            events: Vec::new(),
            spent: Vec::new(),
            chosen: Vec::new(),
            slow: Vec::new(),
            spare: Spare::default(),
            sids: RandomState::with_seeds(limits.seed, 31, 37, 41),
            gone: Traffic::default(),
            slow_consumers: 0,
            stalled_clients: 0,
            random: limits.seed ^ 0x2545_f491_4f6c_dd1d,
            max_pending: limits.max_pending,
            high_water: limits.high_water(),
            tap_bytes_max: limits.tap_bytes_max,
        }
    }

    /// Give a message to every plain target and to one of each queue group.
    pub(super) fn deliver(&mut self, matched: &Matched, frame: &Frame<'_>) -> Sent {
        let mut sent = Sent::default();
        for target in matched.targets.get(..matched.plain).unwrap_or_default() {
            self.offer(matched, target, frame, &mut sent);
        }
        match matched.remote.as_deref().filter(|remote| !remote.is_empty()) {
            None => {
                for group in &matched.groups {
                    self.offer_group(matched, *group, frame, &mut sent);
                }
            }
            Some(remote) => self.deliver_remote(matched, remote, frame, &mut sent),
        }
        sent
    }

    /// One random member takes it; the next in turn where that one may not (its own message, already closed).
    pub(super) fn offer_group(&mut self, matched: &Matched, group: Group, frame: &Frame<'_>, sent: &mut Sent) -> bool {
        let members = matched.targets.get(group.start as usize..group.end as usize).unwrap_or_default();
        let first = if members.len() > 1 { self.random(members.len()) } else { 0 };
        let (before, after) = members.split_at(first.min(members.len()));
        after.iter().chain(before).any(|target| self.offer(matched, target, frame, sent))
    }

    #[inline]
    pub(super) fn offer(&mut self, matched: &Matched, target: &Target, frame: &Frame<'_>, sent: &mut Sent) -> bool {
        let slot = match target.owner {
            Owner::Conn(slot) => slot,
            Owner::Tap(slot) => return self.offer_tap(slot, frame, sent),
            Owner::Route(_) => return false,
        };
        let (Some(conn), Some(sub)) = (self.conns.at_mut(slot), self.subs.get_mut(target.sub)) else { return false };
        if conn.phase == Phase::Closed || (frame.from == slot && !conn.options.echo) {
            return false;
        }
        sub.delivered += 1;
        if sub.max != 0 {
            if sub.delivered > sub.max {
                return false;
            }
            if sub.delivered == sub.max {
                self.spent.push(target.sub);
            }
        }
        let out = conn.output.buffer(&mut self.spare, conn.paused);
        let prefix = if frame.prepared { matched.prefix(target) } else { &[] };
        write_frame(out, prefix, &sub.sid, frame, conn.options.headers);
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += frame.size as u64;
        sent.receivers += 1;
        if !conn.dirty && !conn.paused {
            conn.dirty = true;
            self.dirty.push(slot);
        }
        let pending = conn.output.pending();
        if pending > self.high_water {
            sent.congested = conn.id;
            self.pressed(slot, pending, frame.from);
        }
        true
    }

    /// A message of another server: only for those here, and of the groups that were chosen for this server.
    pub(super) fn deliver_routed(&mut self, matched: &Matched, queues: impl Iterator<Item = u32>, frame: &Frame<'_>) {
        let mut sent = Sent::default();
        for target in matched.targets.get(..matched.plain).unwrap_or_default() {
            self.offer(matched, target, frame, &mut sent);
        }
        for queue in queues {
            if let Some(group) = matched.group(queue) {
                self.offer_group(matched, group, frame, &mut sent);
            }
        }
    }

    fn offer_tap(&mut self, slot: u32, frame: &Frame<'_>, sent: &mut Sent) -> bool {
        let Some(tap) = self.taps.at_mut(slot) else { return false };
        sent.receivers += 1;
        if tap.discard {
            return true;
        }
        tap.batch.push_pieces(frame.subject, frame.reply, frame.headers, frame.payload, frame.from_id);
        if !tap.announced {
            tap.announced = true;
            self.events.push(Event::Tap(tap.id));
        }
        let size = tap.size();
        if size > FILLING_BYTES && !tap.filling {
            tap.filling = true;
            self.events.push(Event::Filling(tap.id));
        }
        if size > self.tap_bytes_max {
            self.stall(frame.from);
        }
        true
    }

    /// A receiver has much pending: hold its producer back, or cut it.
    #[cold]
    pub(super) fn pressed(&mut self, slot: u32, pending: usize, from: u32) {
        let Some(conn) = self.conns.at_mut(slot) else { return };
        // A route serves many: it gets more time before it is cut, but its producers are held back just as early.
        let route = conn.route.is_some();
        let limit = if route { self.max_pending.max(ROUTE_PENDING_MIN) } else { self.max_pending };
        if pending > limit {
            conn.phase = Phase::Closed;
            conn.output.clear();
            self.slow.push(slot);
        } else if pending > self.max_pending / 4 * 3 && self.conns.at(from).is_some_and(|conn| conn.route.is_none()) {
            // Not a route: all that others send would wait for one slow client.
            self.stall(from);
        }
    }

    fn stall(&mut self, from: u32) {
        let Some(conn) = self.conns.at_mut(from) else { return };
        if !conn.stalled {
            conn.stalled = true;
            self.stalled.push(from);
            self.stalled_clients += 1;
            self.events.push(Event::Stall(conn.id));
        }
    }

    /// Append protocol bytes for one client.
    pub(super) fn write(&mut self, slot: u32, pieces: &[&[u8]]) {
        let Some(conn) = self.conns.at_mut(slot) else { return };
        if conn.phase == Phase::Closed {
            return;
        }
        let out = conn.output.buffer(&mut self.spare, conn.paused);
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        if !conn.dirty && !conn.paused {
            conn.dirty = true;
            self.dirty.push(slot);
        }
        let pending = conn.output.pending();
        if pending > self.max_pending {
            self.pressed(slot, pending, NOBODY);
        }
    }

    /// xorshift64*: cheap, and the same for the same seed.
    pub(super) fn random(&mut self, below: usize) -> usize {
        let mut state = self.random.max(1);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random = state;
        let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * below as u64) >> 32) as usize
    }
}

/// Append one MSG or HMSG. `prefix` is the prepared beginning, empty if there is none.
#[inline]
fn write_frame(out: &mut Vec<u8>, prefix: &[u8], sid: &[u8], frame: &Frame<'_>, headers: bool) {
    let skip = usize::from(frame.header_size == 0 || !headers);
    let ready = prefix.get(skip..).unwrap_or_default();
    if !ready.is_empty() {
        if !frame.verbatim.is_empty() && (skip == 0 || frame.header_size == 0) {
            out.reserve(ready.len() + frame.verbatim.len());
            out.extend_from_slice(ready);
            out.extend_from_slice(frame.verbatim);
            return;
        }
        out.reserve(ready.len() + frame.reply.len() + frame.size + 32);
        out.extend_from_slice(ready);
    } else {
        out.reserve(frame.subject.len() + sid.len() + frame.reply.len() + frame.size + 40);
        out.extend_from_slice(b"HMSG ".get(skip..).unwrap_or_default());
        out.extend_from_slice(frame.subject);
        out.push(b' ');
        out.extend_from_slice(sid);
        out.push(b' ');
    }
    if frame.header_size > 0 && !headers {
        if !frame.reply.is_empty() {
            out.extend_from_slice(frame.reply);
            out.push(b' ');
        }
        push_number(out, frame.size.saturating_sub(frame.header_size));
        out.extend_from_slice(b"\r\n");
    } else if !frame.verbatim.is_empty() {
        out.extend_from_slice(frame.verbatim);
        return;
    } else {
        out.extend_from_slice(frame.head);
        frame.headers.iter().for_each(|piece| out.extend_from_slice(piece));
    }
    frame.payload.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(b"\r\n");
}

/// Make `[reply ][#hdr ]#size CR LF` of its parts.
pub(super) fn fill_head(head: &mut Vec<u8>, reply: &[u8], header_text: &[u8], size_text: &[u8]) {
    head.clear();
    for piece in [reply, header_text].into_iter().filter(|piece| !piece.is_empty()) {
        head.extend_from_slice(piece);
        head.push(b' ');
    }
    head.extend_from_slice(size_text);
    head.extend_from_slice(b"\r\n");
}

/// Append a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0u8; 20];
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}
