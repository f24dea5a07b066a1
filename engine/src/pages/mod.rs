//! The pages of an LMDB 0.9 data file, checked before LMDB trusts them: LMDB follows page numbers, sizes and offsets
//! unchecked, so one flipped bit can end the process, make it loop for ever, or hide records silently.
//!
//! Everything reachable is walked, and the free list with it: each page has one owner, keys ascend, nodes tile their page,
//! and every database has as many pages and entries as it says. In a log (a database named `s` and a number) each record lies
//! under its own sequence: with holes around it a wrong key would still be in order. Checksums are for those who read.

mod layout;

use std::cmp::Ordering;

use crate::codec::pack;
pub use layout::Source;
use layout::{
    read_nodes, u16_at, u32_at, u64_at, Counts, Db, Meta, Node, Order, DB, F_BIGDATA, F_SUBDATA, HEADER,
    MDB_INTEGERKEY, NO_PAGE, P_BRANCH, P_LEAF, P_OVERFLOW,
};

/// LMDB's own cursor stack is this deep.
const DEPTH_MAX: u16 = 32;

/// Something wrong, and on which page.
#[derive(Debug)]
pub struct Damage {
    /// The database it is confined to; None: it concerns all of them.
    pub database: Option<Vec<u8>>,
    /// For people.
    pub text: String,
}

/// Check a file. Without `thorough` the leaves are believed beyond their headers, unless they name databases.
pub fn verify<S: Source + ?Sized>(source: &S, page_size: usize, thorough: bool) -> Vec<Damage> {
    let mut damages = Vec::new();
    if let Err(text) = verify_all(source, page_size, thorough, &mut damages) {
        damages.push(Damage { database: None, text });
    }
    damages
}

fn verify_all<S: Source + ?Sized>(
    source: &S,
    page_size: usize,
    thorough: bool,
    damages: &mut Vec<Damage>,
) -> Result<(), String> {
    if !page_size.is_power_of_two() || !(256..=65536).contains(&page_size) {
        return Err(format!("{page_size} is no page size"));
    }
    let (first, second) = (Meta::read(source, page_size, 0)?, Meta::read(source, page_size, 1)?);
    let meta = if first.transaction < second.transaction { second } else { first };
    // The file is whole pages; what lies behind the last one in use may be cut off.
    let pages = (source.len() / page_size) as u64;
    if meta.last_page < 1 || meta.last_page >= pages {
        return Err(format!("the file of {pages} pages ends before page {}", meta.last_page));
    }
    let mut walk = Walk {
        source,
        page_size,
        last_page: meta.last_page,
        thorough,
        seen: vec![0; (meta.last_page / 64 + 1) as usize],
        claimed: Vec::new(),
        found: Counts::default(),
        dbs: Vec::new(),
        nodes: Vec::new(),
        places: Vec::new(),
    };
    let whole = |name: &'static str| move |trouble: Trouble| format!("{name}: {}", trouble.text);
    walk.tree(meta.free, Kind::Free).map_err(whole("the free list"))?;
    walk.tree(meta.main, Kind::Names).map_err(whole("the list of databases"))?;
    for (name, db) in std::mem::take(&mut walk.dbs) {
        let kind = if name.first() == Some(&b's') { Kind::Log } else { Kind::Values };
        if let Err(trouble) = walk.tree(db, kind) {
            let text = format!("database {}: {}", String::from_utf8_lossy(&name), trouble.text);
            if trouble.shared {
                return Err(text);
            }
            // What a damaged tree names may belong to another.
            walk.release();
            damages.push(Damage { database: Some(name), text });
        }
    }
    Ok(())
}

/// What the leaves of a tree hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Numbers of free pages.
    Free,
    /// Database records.
    Names,
    /// Sequences and their records.
    Log,
    /// Anything.
    Values,
}

impl Kind {
    /// Whether the leaves may be believed.
    fn is_content(self) -> bool {
        matches!(self, Kind::Log | Kind::Values)
    }

    fn order(self) -> Order {
        if self == Kind::Free {
            Order::Integer
        } else {
            Order::Bytes
        }
    }

    fn flags(self) -> u16 {
        if self == Kind::Free {
            MDB_INTEGERKEY
        } else {
            0
        }
    }
}

/// Why a walk ended.
struct Trouble {
    text: String,
    /// It concerns a page that something else holds as well.
    shared: bool,
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble { text, shared: false }
    }
}

/// A page to visit, with the separators that its keys lie between.
struct Visit {
    number: u64,
    level: u16,
    low: Option<Vec<u8>>,
    high: Option<Vec<u8>>,
}

struct Walk<'a, S: Source + ?Sized> {
    source: &'a S,
    page_size: usize,
    last_page: u64,
    thorough: bool,
    // One bit a page: no page has two owners, so a walk can't loop.
    seen: Vec<u64>,
    // Pages of the tree that is being walked, and their sums.
    claimed: Vec<u64>,
    found: Counts,
    dbs: Vec<(Vec<u8>, Db)>,
    // Used again from page to page.
    nodes: Vec<Node>,
    places: Vec<(usize, usize)>,
}

impl<S: Source + ?Sized> Walk<'_, S> {
    fn tree(&mut self, db: Db, kind: Kind) -> Result<(), Trouble> {
        self.claimed.clear();
        self.found = Counts::default();
        if db.flags != kind.flags() {
            return Err(format!("flags {:#06x} of a database", db.flags).into());
        }
        if db.root != NO_PAGE {
            if db.depth == 0 || db.depth > DEPTH_MAX {
                return Err(format!("a tree {} deep", db.depth).into());
            }
            self.descend(db, kind)?;
        }
        let mut wanted = db.counts;
        if !self.thorough && kind.is_content() {
            (wanted.overflow, wanted.entries) = (0, 0);
        }
        if self.found != wanted {
            return Err(format!("{:?} where there should be {wanted:?}", self.found).into());
        }
        Ok(())
    }

    fn descend(&mut self, db: Db, kind: Kind) -> Result<(), Trouble> {
        self.claim(db.root, db.root)?;
        self.head(db.root, db.depth == 1)?;
        let mut visits = vec![Visit { number: db.root, level: 1, low: None, high: None }];
        let mut page = vec![0; self.page_size];
        while let Some(visit) = visits.pop() {
            let leaf = visit.level == db.depth;
            if leaf && kind.is_content() && !self.thorough {
                continue;
            }
            self.source.copy(self.at(visit.number), &mut page);
            let (mut nodes, mut places) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.places));
            read_nodes(&page, leaf, &mut nodes, &mut places)
                .map_err(|text| format!("page {}: {text}", visit.number))?;
            if leaf {
                self.leaf(&page, &nodes, &visit, kind)?;
            } else {
                self.branch(&page, &nodes, &visit, kind, db.depth, &mut visits)?;
            }
            (self.nodes, self.places) = (nodes, places);
        }
        Ok(())
    }

    fn at(&self, page: u64) -> usize {
        page as usize * self.page_size
    }

    /// Each page number at most once, and within the file.
    fn claim(&mut self, number: u64, parent: u64) -> Result<(), Trouble> {
        if number < 2 || number > self.last_page {
            return Err(format!("page {parent}: names page {number} of {}", self.last_page).into());
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit != 0 {
            return Err(Trouble { text: format!("page {parent}: page {number} has two owners"), shared: true });
        }
        self.seen[word] |= bit;
        self.claimed.push(number);
        Ok(())
    }

    /// Take back what the tree claimed.
    fn release(&mut self) {
        for number in self.claimed.drain(..) {
            self.seen[(number / 64) as usize] &= !(1 << (number % 64));
        }
    }

    /// A page knows its own number and kind.
    fn head(&mut self, number: u64, leaf: bool) -> Result<(), Trouble> {
        self.header(number, if leaf { P_LEAF } else { P_BRANCH })?;
        *(if leaf { &mut self.found.leaves } else { &mut self.found.branches }) += 1;
        Ok(())
    }

    fn header(&self, number: u64, wanted: u16) -> Result<[u8; HEADER], Trouble> {
        let mut header = [0; HEADER];
        self.source.copy(self.at(number), &mut header);
        if u64_at(&header, 0) != Some(number) {
            return Err(format!("page {number}: carries another number").into());
        }
        let flags = u16_at(&header, 10).unwrap_or_default();
        if flags != wanted {
            return Err(format!("page {number}: flags {flags:#06x} where {wanted:#06x} belongs").into());
        }
        Ok(header)
    }

    fn branch(
        &mut self,
        page: &[u8],
        nodes: &[Node],
        visit: &Visit,
        kind: Kind,
        depth: u16,
        visits: &mut Vec<Visit>,
    ) -> Result<(), Trouble> {
        let number = visit.number;
        if nodes.len() < 2 {
            return Err(format!("page {number}: a branch of {} nodes", nodes.len()).into());
        }
        // The first key of a branch stands for everything below the second and is never compared.
        ascend(page, &nodes[1..], visit, kind.order())?;
        let key = |place: usize| nodes.get(place).map(|node| page[node.key.0..node.key.1].to_vec());
        for (place, node) in nodes.iter().enumerate() {
            self.claim(node.child, number)?;
            let leaf = visit.level + 1 == depth;
            self.head(node.child, leaf)?;
            // Leaves that are believed are done with their header.
            if !leaf || self.thorough || !kind.is_content() {
                let low = if place == 0 { visit.low.clone() } else { key(place) };
                let high = key(place + 1).or_else(|| visit.high.clone());
                visits.push(Visit { number: node.child, level: visit.level + 1, low, high });
            }
        }
        Ok(())
    }

    fn leaf(&mut self, page: &[u8], nodes: &[Node], visit: &Visit, kind: Kind) -> Result<(), Trouble> {
        let number = visit.number;
        if nodes.is_empty() {
            return Err(format!("page {number}: an empty leaf").into());
        }
        ascend(page, nodes, visit, kind.order())?;
        self.found.entries += nodes.len() as u64;
        for node in nodes {
            let allowed = if kind == Kind::Names { node.flags == F_SUBDATA } else { node.flags & !F_BIGDATA == 0 };
            if !allowed {
                return Err(format!("page {number}: flags {:#06x} of a node", node.flags).into());
            }
            let big = node.flags & F_BIGDATA != 0;
            let overflow = if big { Some(self.overflow(page, node, number)?) } else { None };
            match kind {
                Kind::Values => {}
                Kind::Log => self.record(page, node, number, overflow)?,
                Kind::Names => self.name(page, node, number)?,
                Kind::Free => self.free(page, node, number, overflow)?,
            }
        }
        Ok(())
    }

    /// Data that lie on pages of their own. Returns where.
    fn overflow(&mut self, page: &[u8], node: &Node, number: u64) -> Result<usize, Trouble> {
        let first = u64_at(page, node.data()).unwrap_or_default();
        self.claim(first, number)?;
        let header = self.header(first, P_OVERFLOW)?;
        let count = u64::from(u32_at(&header, 12).unwrap_or_default());
        // LMDB may keep more pages than data that have shrunk need.
        if ((HEADER + node.size).div_ceil(self.page_size) as u64) > count {
            return Err(format!("page {first}: {count} pages for {} bytes", node.size).into());
        }
        for further in 1..count {
            self.claim(first + further, number)?;
        }
        self.found.overflow += count;
        Ok(self.at(first) + HEADER)
    }

    /// An entry of a log names the sequence that its key begins with, and a pack as many records as its key does.
    fn record(&self, page: &[u8], node: &Node, number: u64, overflow: Option<usize>) -> Result<(), Trouble> {
        let mut head = [0; pack::FIXED];
        let head = &mut head[..node.size.min(pack::FIXED)];
        match overflow {
            None => head.copy_from_slice(&page[node.data()..node.data() + head.len()]),
            Some(at) => self.source.copy(at, head),
        }
        if !pack::belongs(&page[node.key.0..node.key.1], head) {
            return Err(format!("page {number}: a record under the sequence of another").into());
        }
        Ok(())
    }

    /// A database record.
    fn name(&mut self, page: &[u8], node: &Node, number: u64) -> Result<(), Trouble> {
        let db = page.get(node.data()..node.data() + DB).filter(|_| node.size == DB).and_then(Db::read);
        let Some(db) = db else {
            return Err(format!("page {number}: a database record of {} bytes", node.size).into());
        };
        self.dbs.push((page[node.key.0..node.key.1].to_vec(), db));
        Ok(())
    }

    /// Numbers of free pages, descending behind their count: LMDB will write to them.
    fn free(&mut self, page: &[u8], node: &Node, number: u64, overflow: Option<usize>) -> Result<(), Trouble> {
        let mut far = Vec::new();
        let data = match overflow {
            None => &page[node.data()..node.data() + node.size],
            Some(at) => {
                far.resize(node.size, 0);
                self.source.copy(at, &mut far);
                &far[..]
            }
        };
        let mut numbers = data.chunks_exact(8).filter_map(|word| u64_at(word, 0));
        let count = numbers.next().unwrap_or_default();
        if data.len() % 8 != 0 || count >= (data.len() / 8) as u64 {
            return Err(format!("page {number}: {count} free pages in {} bytes", data.len()).into());
        }
        let mut before = NO_PAGE;
        for free in numbers.take(count as usize) {
            if free >= before {
                return Err(format!("page {number}: free pages out of order").into());
            }
            self.claim(free, number)?;
            before = free;
        }
        Ok(())
    }
}

/// Keys ascend and lie between the separators above them.
fn ascend(page: &[u8], nodes: &[Node], visit: &Visit, order: Order) -> Result<(), Trouble> {
    let key = |node: &Node| &page[node.key.0..node.key.1];
    let above = |key: &[u8]| visit.low.as_ref().is_none_or(|low| order.compare(low, key) != Ordering::Greater);
    let below = |key: &[u8]| visit.high.as_ref().is_none_or(|high| order.compare(key, high) == Ordering::Less);
    let fits = nodes.windows(2).all(|pair| order.compare(key(&pair[0]), key(&pair[1])) == Ordering::Less)
        && nodes.first().is_none_or(|first| above(key(first)))
        && nodes.last().is_none_or(|last| below(key(last)));
    if !fits {
        return Err(format!("page {}: its keys are out of order", visit.number).into());
    }
    Ok(())
}
