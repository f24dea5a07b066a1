//! Subscriptions of one account by subject pattern: who gets a message on a literal subject.
//!
//! One table of edges (parent node, token) instead of a map per node, so that a million inboxes stay small and every
//! level costs one probe. Insertion, removal and the memory of what is left are linear in tokens.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use hashbrown::HashTable;

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// One subscription at its node. `queue` is 0 for a plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Number of the subscription, chosen by the caller.
    pub sub: u32,
    /// Number of the queue group, chosen by the caller.
    pub queue: u32,
}

/// Where an entry lives; `position` changes when another entry of the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Node of the pattern.
    pub node: u32,
    /// Index among the entries of the node.
    pub position: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Literal,
    Star,
    Rest,
}

#[derive(Debug)]
struct Node {
    token: Box<[u8]>,
    entries: Vec<Entry>,
    parent: u32,
    star: u32,
    rest: u32,
    literals: u32,
    kind: Kind,
}

impl Node {
    fn new(parent: u32, kind: Kind, token: &[u8]) -> Self {
        let token = if kind == Kind::Literal { token.into() } else { Box::default() };
        Node { token, entries: Vec::new(), parent, star: NONE, rest: NONE, literals: 0, kind }
    }
}

/// The trie.
#[derive(Debug)]
pub struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    hasher: RandomState,
    entries: usize,
}

/// Places still to visit in a match, kept by the caller so that matching doesn't allocate.
pub type Stack = Vec<(u32, usize)>;

impl Trie {
    /// An empty trie; the seed keeps clients from guessing hash collisions.
    pub fn new(seed: u64) -> Self {
        Trie {
            nodes: vec![Node::new(NONE, Kind::Literal, b"")],
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: RandomState::with_seeds(seed, seed.rotate_left(17), !seed, 0x9e37_79b9_7f4a_7c15),
            entries: 0,
        }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many nodes are in use, the root included.
    pub fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Add an entry under a valid pattern.
    pub fn insert(&mut self, pattern: &[u8], entry: Entry) -> Place {
        let mut at = ROOT;
        let mut start = 0;
        while start <= pattern.len() {
            let rest = pattern.get(start..).unwrap_or_default();
            let end = memchr::memchr(b'.', rest).unwrap_or(rest.len());
            let token = rest.get(..end).unwrap_or_default();
            start += end + 1;
            let (known, kind) = match token {
                b"*" => (self.node(at).map_or(NONE, |node| node.star), Kind::Star),
                b">" if start > pattern.len() => (self.node(at).map_or(NONE, |node| node.rest), Kind::Rest),
                _ => (self.child(at, token), Kind::Literal),
            };
            at = if known == NONE { self.grow(at, kind, token) } else { known };
        }
        self.entries += 1;
        match self.nodes.get_mut(at as usize) {
            Some(node) => {
                if node.entries.is_empty() {
                    // Most patterns have one subscriber.
                    node.entries.reserve_exact(1);
                }
                node.entries.push(entry);
                Place { node: at, position: (node.entries.len() - 1) as u32 }
            }
            None => Place { node: at, position: 0 },
        }
    }

    /// Remove the entry at a place. Returns the subscription that moved there, if one did.
    pub fn remove(&mut self, place: Place) -> Option<u32> {
        let node = self.nodes.get_mut(place.node as usize)?;
        let position = place.position as usize;
        if position >= node.entries.len() {
            return None;
        }
        node.entries.swap_remove(position);
        self.entries -= 1;
        let moved = node.entries.get(position).map(|entry| entry.sub);
        if node.entries.is_empty() {
            node.entries = Vec::new();
            self.prune(place.node);
            if self.entries == 0 {
                // Give back what a crowd needed.
                self.nodes.truncate(1);
                self.nodes.shrink_to_fit();
                self.free = Vec::new();
                self.edges = HashTable::new();
            }
        } else if node.entries.capacity() > 64 && node.entries.len() * 4 < node.entries.capacity() {
            node.entries.shrink_to(node.entries.len() * 2);
        }
        moved
    }

    /// Every entry whose pattern matches a literal subject. A malformed subject (an empty token) matches none.
    pub fn matches(&self, subject: &[u8], stack: &mut Stack, mut each: impl FnMut(Entry)) {
        if self.entries == 0 || malformed(subject) {
            return;
        }
        stack.clear();
        stack.push((ROOT, 0));
        while let Some((mut at, mut start)) = stack.pop() {
            while let Some(node) = self.node(at) {
                if start > subject.len() {
                    node.entries.iter().copied().for_each(&mut each);
                    break;
                }
                if let Some(rest) = self.node(node.rest) {
                    rest.entries.iter().copied().for_each(&mut each);
                }
                if node.literals == 0 && node.star == NONE {
                    break;
                }
                let tokens = subject.get(start..).unwrap_or_default();
                let end = tokens.iter().position(|byte| *byte == b'.').unwrap_or(tokens.len());
                start += end + 1;
                let next = match tokens.get(..end) {
                    Some(token) if node.literals > 0 => self.child(at, token),
                    _ => NONE,
                };
                if next == NONE {
                    at = node.star;
                } else {
                    if node.star != NONE {
                        stack.push((node.star, start));
                    }
                    at = next;
                }
            }
        }
    }

    /// Every node that has entries.
    pub fn each(&self, mut each: impl FnMut(u32, &[Entry])) {
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.entries.is_empty()) {
            each(at as u32, &node.entries);
        }
    }

    /// Append the pattern of a node.
    pub fn pattern(&self, node: u32, out: &mut Vec<u8>) {
        let mut chain = Vec::new();
        let mut at = node;
        while let Some(node) = self.node(at).filter(|_| at != ROOT) {
            chain.push(node);
            at = node.parent;
        }
        for (place, node) in chain.into_iter().rev().enumerate() {
            if place > 0 {
                out.push(b'.');
            }
            out.extend_from_slice(match node.kind {
                Kind::Literal => &node.token,
                Kind::Star => b"*",
                Kind::Rest => b">",
            });
        }
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    fn hash(hasher: &RandomState, parent: u32, token: &[u8]) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_u32(parent);
        state.write(token);
        state.finish()
    }

    fn child(&self, parent: u32, token: &[u8]) -> u32 {
        let hash = Self::hash(&self.hasher, parent, token);
        let found = self
            .edges
            .find(hash, |id| self.node(*id).is_some_and(|node| node.parent == parent && node.token.as_ref() == token));
        found.copied().unwrap_or(NONE)
    }

    fn grow(&mut self, parent: u32, kind: Kind, token: &[u8]) -> u32 {
        let fresh = Node::new(parent, kind, token);
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(slot) = self.nodes.get_mut(id as usize) {
                    *slot = fresh;
                }
                id
            }
            None => {
                self.nodes.push(fresh);
                (self.nodes.len() - 1) as u32
            }
        };
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            match kind {
                Kind::Star => node.star = id,
                Kind::Rest => node.rest = id,
                Kind::Literal => node.literals += 1,
            }
        }
        if kind == Kind::Literal {
            let Trie { nodes, edges, hasher, .. } = self;
            let rehash =
                |id: &u32| nodes.get(*id as usize).map_or(0, |node| Self::hash(hasher, node.parent, &node.token));
            edges.insert_unique(Self::hash(hasher, parent, token), id, rehash);
        }
        id
    }

    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let Some(node) = self.nodes.get_mut(at as usize) else { return };
            if !node.entries.is_empty() || node.literals > 0 || node.star != NONE || node.rest != NONE {
                return;
            }
            let (parent, kind, token) = (node.parent, node.kind, std::mem::take(&mut node.token));
            if kind == Kind::Literal {
                let hash = Self::hash(&self.hasher, parent, &token);
                if let Ok(edge) = self.edges.find_entry(hash, |id| *id == at) {
                    edge.remove();
                }
            }
            if let Some(node) = self.nodes.get_mut(parent as usize) {
                match kind {
                    Kind::Star => node.star = NONE,
                    Kind::Rest => node.rest = NONE,
                    Kind::Literal => node.literals = node.literals.saturating_sub(1),
                }
            }
            self.free.push(at);
            at = parent;
        }
    }
}

/// Whether a subject has an empty token.
fn malformed(subject: &[u8]) -> bool {
    let mut dot = true;
    for byte in subject {
        if *byte == b'.' && dot {
            return true;
        }
        dot = *byte == b'.';
    }
    dot
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subject;

    fn found(trie: &Trie, subject: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        trie.matches(subject, &mut Stack::new(), |entry| entries.push(entry));
        entries.sort_unstable();
        entries
    }

    fn token() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "c", "*", "*a", ""])
    }

    fn pattern() -> impl Strategy<Value = String> {
        (prop::collection::vec(token(), 1..5), any::<bool>()).prop_map(|(tokens, rest)| {
            let tokens: Vec<&str> =
                tokens.into_iter().map(|token| if token.is_empty() { "d" } else { token }).collect();
            tokens.join(".") + if rest { ".>" } else { "" }
        })
    }

    proptest! {
        #[test]
        fn matches_as_a_list_of_patterns_does(
            steps in prop::collection::vec((pattern(), 0u32..3, any::<prop::sample::Index>(), 0u8..5), 1..60),
            subjects in prop::collection::vec(prop::collection::vec(token(), 1..6), 1..20),
        ) {
            let mut trie = Trie::new(7);
            let mut naive: Vec<(String, Entry, Place)> = Vec::new();
            for (sub, (pattern, queue, index, kind)) in steps.into_iter().enumerate() {
                if kind > 1 || naive.is_empty() {
                    let entry = Entry { sub: sub as u32, queue };
                    let place = trie.insert(pattern.as_bytes(), entry);
                    naive.push((pattern, entry, place));
                } else {
                    let (_, _, place) = naive.swap_remove(index.index(naive.len()));
                    if let Some(moved) = trie.remove(place) {
                        naive.iter_mut().filter(|row| row.1.sub == moved).for_each(|row| row.2 = place);
                    }
                }
                prop_assert_eq!(trie.len(), naive.len());
            }
            for tokens in subjects {
                let subject = tokens.join(".");
                let sound = tokens.iter().all(|token| !token.is_empty());
                let mut wanted: Vec<Entry> = naive
                    .iter()
                    .filter(|row| sound && subject::matches(row.0.as_bytes(), subject.as_bytes()))
                    .map(|row| row.1)
                    .collect();
                wanted.sort_unstable();
                prop_assert_eq!(found(&trie, subject.as_bytes()), wanted, "{}", subject);
            }
            let mut all = Vec::new();
            trie.each(|node, entries| all.extend(entries.iter().map(|entry| (entry.sub, node))));
            prop_assert_eq!(all.len(), naive.len());
            for (pattern, entry, place) in &naive {
                prop_assert!(all.contains(&(entry.sub, place.node)));
                let mut told = Vec::new();
                trie.pattern(place.node, &mut told);
                prop_assert_eq!(&told, pattern.as_bytes());
            }
            while let Some((_, _, place)) = naive.pop() {
                if let Some(moved) = trie.remove(place) {
                    naive.iter_mut().filter(|row| row.1.sub == moved).for_each(|row| row.2 = place);
                }
            }
            prop_assert_eq!((trie.nodes(), trie.edges.len(), trie.len()), (1, 0, 0));
        }
    }
}
