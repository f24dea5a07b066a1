//! What other servers get of a message: one RMSG each, with the queue groups that were chosen for it.
//!
//! Source: the route protocol of nats-server: a group's member is chosen where the message enters, one here before any
//! elsewhere.

use super::connection::Phase;
use super::deliver::{Floor, Frame, NOBODY};
use super::matched::{Group, Matched, View};
use crate::publish::Sent;

// Names of queue groups in one frame; those beyond it get nothing, as the line has to stay below what a peer takes.
const NAMES_BYTES_MAX: usize = 512 << 10;

/// Another server that wants the message.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// The connection that carries the account.
    slot: u32,
    /// Whether it wants it without a queue group.
    plain: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    queue: u32,
    /// Place of the peer.
    peer: u32,
    sub: u32,
}

/// The members of one queue group elsewhere, and where its name stands.
#[derive(Clone, Copy, Debug)]
struct Away {
    members: (u32, u32),
    name: (u32, u32),
}

/// Receivers of one literal subject on other servers.
#[derive(Debug, Default)]
pub(super) struct Remote {
    peers: Vec<Peer>,
    // By queue group.
    members: Vec<Member>,
    // One for each group of the `Matched`.
    groups: Vec<Away>,
    // `MSG account subject `, then names of queue groups.
    text: Vec<u8>,
    prefix: usize,
}

impl Remote {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.peers.clear();
        self.members.clear();
        self.groups.clear();
        self.text.clear();
    }

    pub(super) fn weight(&self) -> usize {
        self.peers.capacity() * 8 + self.members.capacity() * 12 + self.groups.capacity() * 16 + self.text.capacity()
    }

    /// Whether the last member added is one of this group.
    pub(super) fn ends_with(&self, queue: u32) -> bool {
        self.members.last().is_some_and(|member| member.queue == queue)
    }

    /// Add a subscription of the peer that `slot` leads to; groups come one after the other.
    pub(super) fn add(&mut self, slot: u32, sub: u32, view: &View<'_>, subject: &[u8]) {
        // The server itself may publish what can't be said in a line.
        if !word(subject) {
            return;
        }
        if self.peers.is_empty() {
            for piece in [b"MSG ", view.account.as_bytes(), b" ", subject, b" "] {
                self.text.extend_from_slice(piece);
            }
            self.prefix = self.text.len();
        }
        let peer = self.peers.iter().position(|peer| peer.slot == slot).unwrap_or_else(|| {
            self.peers.push(Peer { slot, plain: false });
            self.peers.len() - 1
        });
        match (view.subs.get(sub).map_or(0, |sub| sub.queue), self.peers.get_mut(peer)) {
            (0, Some(peer)) => peer.plain = true,
            (queue, _) => self.members.push(Member { queue, peer: peer as u32, sub }),
        }
    }

    /// Say for each group which members it has elsewhere.
    pub(super) fn close_groups(&mut self, groups: &[Group], view: &View<'_>) {
        let mut at = 0;
        for group in groups {
            let rest = self.members.get(at..).unwrap_or_default();
            let count = rest.iter().take_while(|member| member.queue == group.queue).count();
            let name = self.text.len();
            if count > 0 {
                self.text.extend_from_slice(view.queues.name(group.queue).unwrap_or_default());
            }
            let members = (at as u32, (at + count) as u32);
            self.groups.push(Away { members, name: (name as u32, self.text.len() as u32) });
            at += count;
        }
    }

    fn name(&self, group: u32) -> &[u8] {
        let name = self.groups.get(group as usize).map_or((0, 0), |away| away.name);
        self.text.get(name.0 as usize..name.1 as usize).unwrap_or_default()
    }

    fn prefix(&self) -> &[u8] {
        self.text.get(..self.prefix).unwrap_or_default()
    }
}

impl Floor {
    /// The queue groups of a message, and the servers that get it.
    #[inline(never)]
    pub(super) fn deliver_remote(&mut self, matched: &Matched, remote: &Remote, frame: &Frame<'_>, sent: &mut Sent) {
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.clear();
        let sayable = frame.from != NOBODY || (word(frame.subject) && word(frame.reply));
        for (place, (group, away)) in matched.groups.iter().zip(&remote.groups).enumerate() {
            if !self.offer_group(matched, *group, frame, sent) && sayable {
                let members = remote.members.get(away.members.0 as usize..away.members.1 as usize);
                if let Some(peer) = self.choose(remote, members.unwrap_or_default()) {
                    chosen.push((peer, place as u32));
                }
            }
        }
        if sayable {
            for (place, peer) in remote.peers.iter().enumerate() {
                self.offer_peer(remote, (place as u32, *peer), &chosen, frame, sent);
            }
        }
        self.chosen = chosen;
    }

    /// A peer at random, in proportion to the members that it has.
    fn choose(&mut self, remote: &Remote, members: &[Member]) -> Option<u32> {
        let mut weights = members.iter().map(|member| {
            let open = remote.peers.get(member.peer as usize).and_then(|peer| self.conns.at(peer.slot));
            let open = open.is_some_and(|conn| conn.phase != Phase::Closed);
            let weight = self.subs.get(member.sub).filter(|_| open).map_or(0, |sub| sub.max);
            (member.peer, weight as usize)
        });
        if members.len() == 1 {
            return weights.next().filter(|(_, weight)| *weight > 0).map(|(peer, _)| peer);
        }
        let weights: Vec<(u32, usize)> = weights.collect();
        let mut left = self.random(weights.iter().map(|(_, weight)| weight).sum());
        weights.into_iter().find_map(|(peer, weight)| {
            let hit = left < weight;
            left = left.saturating_sub(weight);
            hit.then_some(peer)
        })
    }

    fn offer_peer(
        &mut self,
        remote: &Remote,
        (place, peer): (u32, Peer),
        chosen: &[(u32, u32)],
        frame: &Frame<'_>,
        sent: &mut Sent,
    ) {
        let names = chosen.iter().filter(|choice| choice.0 == place).map(|choice| remote.name(choice.1));
        let groups = names.clone().count() as u32;
        if !peer.plain && groups == 0 {
            return;
        }
        let Some(conn) = self.conns.at_mut(peer.slot).filter(|conn| conn.phase != Phase::Closed) else { return };
        let out = conn.output.buffer(&mut self.spare, conn.paused);
        write_frame(out, remote.prefix(), groups > 0, names, frame);
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += frame.size as u64;
        sent.receivers += groups + u32::from(peer.plain);
        if !conn.dirty && !conn.paused {
            conn.dirty = true;
            self.dirty.push(peer.slot);
        }
        let pending = conn.output.pending();
        if pending > self.high_water {
            sent.congested = conn.id;
            self.pressed(peer.slot, pending, frame.from);
        }
    }
}

/// Append one RMSG or HMSG.
#[inline]
fn write_frame<'a>(
    out: &mut Vec<u8>,
    prefix: &[u8],
    grouped: bool,
    names: impl Iterator<Item = &'a [u8]>,
    frame: &Frame<'_>,
) {
    let mut ending = if frame.verbatim.is_empty() { frame.head } else { frame.verbatim };
    out.reserve(prefix.len() + frame.reply.len() + frame.size + 40);
    out.push(if frame.header_size > 0 { b'H' } else { b'R' });
    out.extend_from_slice(prefix);
    if grouped || !frame.prepared {
        if !frame.reply.is_empty() {
            ending = ending.get(frame.reply.len() + 1..).unwrap_or_default();
        }
        match (grouped, frame.reply.is_empty()) {
            (true, true) => out.extend_from_slice(b"| "),
            (true, false) => out.extend_from_slice(b"+ "),
            (false, _) => {}
        }
        if !frame.reply.is_empty() {
            out.extend_from_slice(frame.reply);
            if !frame.prepared && frame.reply.starts_with(ACK) {
                out.push(b'@');
                out.extend_from_slice(frame.subject);
            }
            out.push(b' ');
        }
        let mut bytes = 0;
        for name in names {
            bytes += name.len() + 1;
            if bytes > NAMES_BYTES_MAX {
                break;
            }
            out.extend_from_slice(name);
            out.push(b' ');
        }
    }
    out.extend_from_slice(ending);
    if frame.verbatim.is_empty() {
        frame.headers.iter().chain(frame.payload).for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(b"\r\n");
    }
}

const ACK: &[u8] = b"$JS.ACK.";

/// The ack subject and the stored subject of a delivery that came from another server: `$JS.ACK...@subject`. The sign
/// counts from the numbers on, since names may hold it.
pub(super) fn shown(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    if !reply.starts_with(ACK) {
        return None;
    }
    let mut dots = 0;
    let sign = reply.iter().position(|byte| {
        dots += usize::from(*byte == b'.');
        *byte == b'@' && dots >= 8
    })?;
    let subject = reply.get(sign + 1..).filter(|subject| !subject.is_empty())?;
    Some((reply.get(..sign)?, subject))
}

/// Whether it can stand in a line as one argument.
fn word(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}
