//! Hubs wired to each other against one list of all subscriptions.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::subject;

const HUBS: usize = 3;
const ACCOUNTS: [&str; 2] = ["A", "B"];

#[derive(Clone, Debug)]
enum Act {
    /// Hub, account, pattern, group, number of messages after which it ends.
    Sub(usize, usize, &'static str, &'static str, usize),
    Tap(usize, usize, &'static str, &'static str),
    /// One of those there are.
    Unsub(prop::sample::Index),
    /// Hub, account, subject, by a client, headers, reply.
    Publish(usize, usize, &'static str, bool, bool, bool),
    /// The link between two hubs breaks and is made anew.
    Rewire(usize, usize),
    /// A client goes with all it has.
    Leave(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let pattern = || prop::sample::select(vec!["a", "b", "a.b", "a.*", "*.b", ">", "a.>"]);
    let group = || prop::sample::select(vec!["", "", "q", "r"]);
    let hub = || 0..HUBS;
    let account = || 0..ACCOUNTS.len();
    let literal = prop::sample::select(vec!["a", "b", "a.b", "a.c", "c.b", "c.d.e"]);
    prop_oneof![
        6 => (hub(), account(), pattern(), group(), prop::sample::select(vec![0usize, 0, 0, 1, 3]))
            .prop_map(|(hub, account, pattern, group, max)| Act::Sub(hub, account, pattern, group, max)),
        1 => (hub(), account(), pattern(), group())
            .prop_map(|(hub, account, pattern, group)| Act::Tap(hub, account, pattern, group)),
        4 => any::<prop::sample::Index>().prop_map(Act::Unsub),
        10 => (hub(), account(), literal, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(hub, account, to, client, headers, reply)| Act::Publish(hub, account, to, client, headers, reply)),
        1 => (hub(), hub()).prop_map(|(first, second)| Act::Rewire(first, second)),
        1 => (hub(), account()).prop_map(|(hub, account)| Act::Leave(hub, account)),
    ]
}

#[derive(Clone, Debug)]
struct Known {
    hub: usize,
    account: usize,
    pattern: &'static str,
    group: &'static str,
    tap: Option<u64>,
    max: usize,
    got: usize,
}

struct Cluster {
    hubs: Vec<Hub>,
    clients: Vec<Vec<u64>>,
    /// Hub and route: hub and route at the other end.
    wires: HashMap<(usize, u64), (usize, u64)>,
    lanes: bool,
    cut: usize,
    /// By sid, or the like of a tap.
    known: BTreeMap<usize, Known>,
    next: usize,
    /// Who got the message that is under way.
    got: Vec<usize>,
}

impl Cluster {
    fn new(lanes: bool, cut: usize) -> Self {
        let hubs: Vec<Hub> =
            (0..HUBS).map(|seed| Hub::new(Limits { seed: seed as u64, ..Limits::default() })).collect();
        let mut cluster = Cluster {
            hubs,
            clients: Vec::new(),
            wires: HashMap::new(),
            lanes,
            cut,
            known: BTreeMap::new(),
            next: 1,
            got: Vec::new(),
        };
        for hub in 0..HUBS {
            let clients = ACCOUNTS.map(|account| cluster.client(hub, account)).to_vec();
            cluster.clients.push(clients);
        }
        for first in 0..HUBS {
            for second in first + 1..HUBS {
                cluster.wire(first, second);
            }
        }
        cluster.pump();
        cluster
    }

    fn client(&mut self, hub: usize, account: &str) -> u64 {
        let hub = &mut self.hubs[hub];
        let conn = hub.open(account, b"", false);
        hub.feed(conn, b"CONNECT {}\r\n");
        hub.connected(conn, account, QUIET, b"");
        conn
    }

    fn wire(&mut self, first: usize, second: usize) {
        let only = |name: &str| Lane { account: Some(name.into()), without: vec![] };
        let but = |name: &str| Lane { account: None, without: vec![name.into()] };
        let lanes = if self.lanes { vec![only("A"), but("A")] } else { vec![Lane::default()] };
        for lane in lanes {
            let ends = [first, second].map(|hub| self.hubs[hub].open_route());
            self.wires.insert((first, ends[0]), (second, ends[1]));
            self.wires.insert((second, ends[1]), (first, ends[0]));
            self.hubs[first].route_ready(ends[0], &format!("S{second}"), lane.clone());
            // What comes in between waits.
            self.carry();
            self.hubs[second].route_ready(ends[1], &format!("S{first}"), lane);
        }
    }

    fn rewire(&mut self, first: usize, second: usize) {
        let broken: Vec<_> =
            self.wires.iter().filter(|(from, to)| from.0 == first && to.0 == second).map(|(a, b)| (*a, *b)).collect();
        for (from, to) in broken {
            for end in [from, to] {
                self.wires.remove(&end);
                self.hubs[end.0].close(end.1);
            }
        }
        self.pump();
        self.wire(first, second);
    }

    /// Move output once; whether there was any.
    fn carry(&mut self) -> bool {
        let mut moved = false;
        for place in 0..HUBS {
            let mut out = Vec::new();
            self.hubs[place].turn(|conn, bytes| out.push((conn, bytes.into_owned())));
            for (conn, bytes) in out {
                moved = true;
                match self.wires.get(&(place, conn)) {
                    Some((hub, route)) => bytes.chunks(self.cut).for_each(|piece| self.hubs[*hub].feed(*route, piece)),
                    None => self.read(&bytes),
                }
            }
            for (number, known) in self.known.iter().filter(|(_, known)| known.hub == place) {
                let batch = known.tap.and_then(|tap| self.hubs[place].take(tap, 0));
                self.got.extend(batch.iter().flat_map(|batch| batch.iter()).map(|_| *number));
            }
            for event in self.hubs[place].events() {
                assert!(matches!(event, Event::Tap(_) | Event::Connect(..)), "{event:?}");
            }
        }
        moved
    }

    fn pump(&mut self) {
        while self.carry() {}
    }

    /// A client's frames, one after the other.
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let parts: Vec<&str> = line.split_ascii_whitespace().collect();
            assert!(parts[0] == "MSG" || parts[0] == "HMSG", "{line}");
            let size: usize = parts.last().unwrap().parse().unwrap();
            let body = &bytes[end + 1..end + 1 + size];
            assert_eq!(body.starts_with(b"NATS/1.0"), parts[0] == "HMSG");
            assert!(body.ends_with(b"body"));
            bytes = &bytes[end + 1 + size + 2..];
            let sid: usize = parts[2].parse().unwrap();
            let sub = self.known.get_mut(&sid).unwrap();
            assert!(subject::matches(sub.pattern.as_bytes(), parts[1].as_bytes()));
            sub.got += 1;
            self.got.push(sid);
            if sub.got == sub.max {
                self.known.remove(&sid);
            }
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Sub(hub, account, pattern, group, max) => {
                let sid = self.next;
                self.next += 1;
                let known = Known { hub, account, pattern, group, tap: None, max, got: 0 };
                self.known.insert(sid, known);
                let mut line = format!("SUB {pattern} {group} {sid}\r\n");
                if max > 0 {
                    line += &format!("UNSUB {sid} {max}\r\n");
                }
                let conn = self.clients[hub][account];
                self.hubs[hub].feed(conn, line.as_bytes());
            }
            Act::Tap(hub, account, pattern, group) => {
                let tap = self.hubs[hub].tap(ACCOUNTS[account], false);
                assert!(self.hubs[hub].tap_add(tap, pattern.as_bytes(), group.as_bytes()));
                let known = Known { hub, account, pattern, group, tap: Some(tap), max: 0, got: 0 };
                self.known.insert(self.next, known);
                self.next += 1;
            }
            Act::Unsub(index) => {
                let Some(place) = (!self.known.is_empty()).then(|| index.index(self.known.len())) else { return };
                let (sid, known) = self.known.iter().nth(place).map(|(sid, known)| (*sid, known.clone())).unwrap();
                self.known.remove(&sid);
                match known.tap {
                    Some(tap) => self.hubs[known.hub].untap(tap),
                    None => {
                        let conn = self.clients[known.hub][known.account];
                        self.hubs[known.hub].feed(conn, format!("UNSUB {sid}\r\n").as_bytes());
                    }
                }
            }
            Act::Publish(hub, account, to, client, headers, reply) => {
                self.publish(hub, account, to, client, headers, reply)
            }
            Act::Rewire(first, second) if first != second => self.rewire(first, second),
            Act::Rewire(..) => {}
            Act::Leave(hub, account) => {
                self.hubs[hub].close(self.clients[hub][account]);
                self.known.retain(|_, known| known.tap.is_some() || (known.hub, known.account) != (hub, account));
                self.clients[hub][account] = self.client(hub, ACCOUNTS[account]);
            }
        }
        self.pump();
    }

    fn publish(&mut self, hub: usize, account: usize, to: &str, client: bool, headers: bool, reply: bool) {
        let before = self.known.clone();
        let wanted =
            |known: &&Known| known.account == account && subject::matches(known.pattern.as_bytes(), to.as_bytes());
        let reply = if reply { "re" } else { "" };
        if client {
            let line = match headers {
                false => format!("PUB {to} {reply} 4\r\nbody\r\n"),
                true => format!("HPUB {to} {reply} 12 16\r\nNATS/1.0\r\n\r\nbody\r\n"),
            };
            let conn = self.clients[hub][account];
            self.hubs[hub].feed(conn, line.as_bytes());
        } else {
            let headers: &[&[u8]] = if headers { &[b"NATS/1.0\r\n\r\n"] } else { &[] };
            let (to, reply) = (to.as_bytes(), reply.as_bytes());
            let message = Outgoing { to, subject: to, reply, headers, payload: &[b"bo", b"dy"] };
            let interest = before.values().any(|known| wanted(&known));
            assert_eq!(self.hubs[hub].interest(ACCOUNTS[account], to, b""), interest);
            assert_eq!(self.hubs[hub].publish(ACCOUNTS[account], message).receivers > 0, interest);
        }
        self.pump();
        let mut got = std::mem::take(&mut self.got);
        got.sort_unstable();
        let plain = |sid: &usize| before[sid].group.is_empty();
        let (alone, shared): (Vec<usize>, Vec<usize>) = got.into_iter().partition(plain);
        let all: Vec<usize> =
            before.iter().filter(|(sid, known)| plain(sid) && wanted(known)).map(|(sid, _)| *sid).collect();
        assert_eq!(alone, all);
        for group in ["q", "r"] {
            let members = before.values().filter(|known| known.group == group).filter(wanted);
            let takers: Vec<&Known> =
                shared.iter().map(|sid| &before[sid]).filter(|known| known.group == group).collect();
            assert_eq!(takers.len(), usize::from(members.clone().count() > 0));
            // One at home comes first.
            if members.clone().any(|known| known.hub == hub) {
                assert_eq!(takers[0].hub, hub);
            }
        }
    }

    fn leave(mut self) {
        for hub in 0..HUBS {
            self.clients[hub].iter().for_each(|conn| self.hubs[hub].close(*conn));
        }
        for known in std::mem::take(&mut self.known).values() {
            known.tap.iter().for_each(|tap| self.hubs[known.hub].untap(*tap));
        }
        self.pump();
        for hub in &self.hubs {
            assert_eq!(hub.statistics().subscriptions, 0);
            assert!(hub.routes().iter().all(|route| route.subscriptions == 0));
            for account in &hub.accounts {
                assert_eq!((account.nodes(), account.counts.as_ref().map_or(0, |counts| counts.len())), (1, 0));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_cluster_does_what_one_server_would(
        acts in prop::collection::vec(act(), 1..60),
        lanes in any::<bool>(),
        cut in prop::sample::select(vec![1usize, 7, 100_000]),
    ) {
        let mut cluster = Cluster::new(lanes, cut);
        for act in acts {
            cluster.act(act);
        }
        cluster.leave();
    }
}
