//! The members of a group: who they are, who comes and goes, and who is to get the next message.

use super::group::Group;
use crate::consumer::pending::Wait;

/// What a leaving member held goes to the others after so long.
const HAND_OVER_NS: i64 = 100_000_000;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Names it within the group, from 1.
    pub number: u32,
    /// Where its messages go.
    pub inbox: Vec<u8>,
    /// How long a message may stay without an ack.
    pub ack_wait_ns: i64,
    /// Pending messages that stop new ones.
    pub max_in_flight: u64,
    /// Messages it has not acked.
    pub pending: u64,
    /// Its client has not answered the last heartbeat.
    pub failing: bool,
    /// Nobody listened at its inbox when something was to be sent there.
    pub absent: bool,
}

impl Member {
    /// Whether new messages have to wait.
    pub fn stalled(&self) -> bool {
        self.pending >= self.max_in_flight
    }
}

impl Group {
    /// Take a member in. The first one takes over what is pending, all of it at once.
    pub fn join(&mut self, member: Member) {
        let number = member.number;
        self.members.retain(|other| other.number != number);
        if self.members.is_empty() {
            self.members.reserve_exact(1); // few have more
        }
        self.members.push(Member { pending: 0, ..member });
        if self.members.len() == 1 {
            self.kept_below = self.next_seq;
            self.waits.clear();
            let mut all = Vec::with_capacity(self.pending.len());
            for entry in self.pending.iter_mut() {
                // What was sent to somebody else says nothing about how long this one may take.
                (entry.member, entry.delivered_at_ns, entry.wait) = (number, 0, Wait::Until(0));
                if self.queue {
                    // Only a durable's own client goes on counting.
                    entry.deliveries = 1;
                }
                all.push(entry.stream_seq);
            }
            for seq in all {
                self.waits.enqueue(&mut self.pending, seq);
            }
        }
        self.recount();
    }

    /// Let a member go: what it holds is dealt to the others, or stays for the next to join.
    pub fn leave(&mut self, number: u32, now_ns: i64) {
        self.members.retain(|member| member.number != number);
        if !self.members.is_empty() {
            let held: Vec<u64> =
                self.pending.iter().filter(|entry| entry.member == number).map(|entry| entry.stream_seq).collect();
            let heirs: Vec<u32> = self.members.iter().map(|member| member.number).collect();
            for (seq, heir) in held.into_iter().zip(heirs.into_iter().cycle()) {
                if let Some(entry) = self.pending.get_mut(seq) {
                    entry.member = heir;
                }
                self.wait_until(seq, now_ns.saturating_add(HAND_OVER_NS));
            }
        }
        self.recount();
    }

    /// A member's client fails its heartbeats, or answers again.
    pub fn set_failing(&mut self, number: u32, failing: bool) {
        if let Some(member) = self.member_mut(number) {
            member.failing = failing;
        }
    }

    /// Members that get nothing before `set_present`: their clients are on their way to another server, or gone.
    pub fn absent(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().filter(|member| member.absent).map(|member| member.number)
    }

    /// Somebody listens at a member's inbox.
    pub fn set_present(&mut self, number: u32) {
        if let Some(member) = self.member_mut(number) {
            member.absent = false;
        }
    }

    pub(super) fn member_mut(&mut self, number: u32) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.number == number)
    }

    pub(super) fn recount(&mut self) {
        for member in &mut self.members {
            member.pending = 0;
        }
        for entry in self.pending.iter() {
            if let Some(member) = self.members.iter_mut().find(|member| member.number == entry.member) {
                member.pending += 1;
            }
        }
    }

    /// The place of the best member for a message: of those that take new ones the one with the fewest pending.
    #[inline]
    pub(super) fn choose(&self) -> Option<usize> {
        let mut best: Option<(usize, u64)> = None;
        for (place, member) in self.members.iter().enumerate() {
            let unable = member.stalled() || member.absent || (self.queue && member.failing);
            if !unable && best.is_none_or(|(_, fewest)| member.pending < fewest) {
                best = Some((place, member.pending));
            }
        }
        best.map(|(place, _)| place)
    }

    /// The chosen one is at the head: the next in the list comes first next time.
    #[inline]
    pub(super) fn rotate(&mut self, place: usize) -> usize {
        if place == 0 && self.members.len() > 1 {
            self.members.rotate_left(1);
            return self.members.len() - 1;
        }
        place
    }
}
