//! NATS Streaming's group as naively as can be: a list of what is held by whom, looked at as a whole.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::collections::HashSet;

use streamd_engine::stan::Member;

pub const MS: i64 = 1_000_000;

/// A message somebody has to ack.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub seq: u64,
    pub holder: u32,
    pub deliveries: u32,
    /// The moment its period counts from: when it was sent first, later when it was due.
    pub since: i64,
    /// None: it is in the redelivery queue.
    pub expiry: Option<i64>,
    /// Not sent since the restart or the resume.
    pub kept: bool,
}

#[derive(Debug)]
pub struct Model {
    pub queue: bool,
    pub patient: bool,
    /// Members for whom nobody listens.
    pub deaf: HashSet<u32>,
    pub next_seq: u64,
    pub held: Vec<Held>,
    /// The redelivery queue.
    pub again: Vec<u64>,
    /// In the order of choice; their own count of what is pending is not used.
    pub members: Vec<Member>,
}

impl Model {
    pub fn pending(&self, number: u32) -> u64 {
        self.held.iter().filter(|held| held.holder == number).count() as u64
    }

    pub fn stalled(&self, who: &Member) -> bool {
        self.pending(who.number) >= who.max_in_flight
    }

    /// Of those who may get more the one with the fewest pending, the first of equals.
    fn best(&self) -> Option<usize> {
        let able = |who: &Member| !(self.stalled(who) || who.absent || self.queue && who.failing);
        (0..self.members.len())
            .filter(|place| able(&self.members[*place]))
            .min_by_key(|place| (self.pending(self.members[*place].number), *place))
    }

    /// Whoever is chosen from the head of the list goes to its end. Returns the chosen one.
    fn take(&mut self, place: usize) -> Member {
        let chosen = self.members[place].clone();
        if place == 0 {
            let head = self.members.remove(0);
            self.members.push(head);
        }
        chosen
    }

    /// Whether nobody listens for a member: it is asked no more, until it is said to be there.
    fn misses(&mut self, number: u32) -> bool {
        let missing = self.patient && self.deaf.contains(&number);
        if missing {
            self.member(number).absent = true;
        }
        missing
    }

    pub fn member(&mut self, number: u32) -> &mut Member {
        self.members.iter_mut().find(|who| who.number == number).unwrap()
    }

    /// Member gets a new message; None: it has to wait.
    pub fn first(&mut self, seq: u64, now: i64) -> Option<u32> {
        let who = loop {
            // When all clients are silent, one of them gets it all the same.
            let able = |who: &Member| !self.stalled(who) && !who.absent;
            let place = self.best().or_else(|| self.members.iter().position(able))?;
            let who = self.take(place);
            if !self.misses(who.number) {
                break who;
            }
        };
        let expiry = Some(now + who.ack_wait_ns);
        self.held.push(Held { seq, holder: who.number, deliveries: 1, since: now, expiry, kept: false });
        self.next_seq = seq + 1;
        Some(who.number)
    }

    pub fn due(&mut self, now: i64, limit: usize) -> Vec<u64> {
        if self.members.is_empty() {
            return Vec::new();
        }
        if self.expiries().min().is_some_and(|first| first <= now) {
            let mut over: Vec<(i64, u64)> =
                self.held.iter().filter_map(|held| Some((held.expiry?, held.seq))).collect();
            over.retain(|(expiry, _)| *expiry <= now + 15 * MS);
            over.sort_unstable();
            let silent = !self.queue && self.members[0].failing;
            let wait = self.members[0].ack_wait_ns;
            for (expiry, seq) in over {
                let held = self.held.iter_mut().find(|held| held.seq == seq).unwrap();
                if silent {
                    held.expiry = Some(now + wait);
                } else {
                    (held.expiry, held.since) = (None, expiry);
                    self.again.push(seq);
                }
            }
        }
        self.again.iter().copied().take(limit).collect()
    }

    /// Member gets a message that is due, and as which delivery; None: nobody is there.
    pub fn again(&mut self, seq: u64, now: i64) -> Option<(u32, u32)> {
        let held = self.held.iter().find(|held| held.seq == seq).unwrap().clone();
        let who = loop {
            let keeps = |who: &&Member| held.kept && who.number == held.holder && !who.absent;
            let who = match self.members.iter().find(keeps).cloned() {
                Some(who) => who,
                None => {
                    let place = self.best().or_else(|| self.members.iter().position(|who| !who.absent))?;
                    self.take(place)
                }
            };
            if !self.misses(who.number) {
                break who;
            }
        };
        let planned = held.since + who.ack_wait_ns;
        let expiry = Some(if planned > now { planned } else { now + who.ack_wait_ns });
        let deliveries = held.deliveries + 1;
        let now_held = Held { holder: who.number, deliveries, expiry, kept: false, ..held };
        *self.held.iter_mut().find(|held| held.seq == seq).unwrap() = now_held;
        self.again.retain(|other| *other != seq);
        Some((who.number, deliveries))
    }

    pub fn join(&mut self, who: Member) {
        if self.members.is_empty() {
            // All of it is due, in the order of sequences. Only a durable's own client goes on counting.
            for held in &mut self.held {
                (held.holder, held.expiry, held.since, held.kept) = (who.number, None, 0, true);
                if self.queue {
                    held.deliveries = 1;
                }
            }
            self.again = self.held.iter().map(|held| held.seq).collect();
        }
        self.members.push(who);
    }

    pub fn leave(&mut self, number: u32, now: i64) {
        self.members.retain(|who| who.number != number);
        if self.members.is_empty() {
            return;
        }
        let mut heirs = self.members.iter().map(|who| who.number).cycle();
        for held in self.held.iter_mut().filter(|held| held.holder == number) {
            held.holder = heirs.next().unwrap();
            held.expiry = Some(now + 100 * MS);
            self.again.retain(|seq| *seq != held.seq);
        }
    }

    pub fn settle(&mut self, seq: u64) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.seq != seq);
        self.again.retain(|other| *other != seq);
        self.held.len() < before
    }

    pub fn restart(&mut self) {
        self.again.clear();
        self.members.sort_by_key(|who| who.number);
        for held in &mut self.held {
            let wait = self.members.iter().find(|who| who.number == held.holder).map_or(0, |who| who.ack_wait_ns);
            (held.deliveries, held.expiry, held.kept) = (1, Some(held.since + wait), true);
        }
    }

    pub fn expiries(&self) -> impl Iterator<Item = i64> + '_ {
        self.held.iter().filter_map(|held| held.expiry)
    }
}
