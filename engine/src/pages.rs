//! The pages of an LMDB 0.9 data file, checked before LMDB trusts them: metas, then every branch page that is reachable.
//!
//! LMDB follows page numbers and node offsets unchecked, so a torn file would crash the process. Layout of a page (native,
//! little endian): `u64 number | u16 pad | u16 flags | u16 lower | u16 upper` (overflow: `u32 pages` in place of the last
//! two), then node offsets of 16 bits. A node: `u16 lo | u16 hi | u16 flags | u16 key size`, key, data; in a branch lo, hi
//! and flags are the 48 bits of a child's number. Source: LMDB 0.9, mdb.c, structures MDB_page, MDB_node, MDB_db, MDB_meta.

use std::cmp::Ordering;

const HEADER: usize = 16;
const NODE: usize = 8;
const DB: usize = 48;
const P_BRANCH: u16 = 0x01;
const P_LEAF: u16 = 0x02;
const P_META: u16 = 0x08;
const P_DIRTY: u16 = 0x10;
const F_BIGDATA: u16 = 0x01;
const F_SUBDATA: u16 = 0x02;
const F_DUPDATA: u16 = 0x04;
const MDB_REVERSEKEY: u16 = 0x02;
const MDB_INTEGERKEY: u16 = 0x08;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const NO_PAGE: u64 = u64::MAX;
/// LMDB's own cursor stack is this deep.
const DEPTH_MAX: u16 = 32;

/// Where the file's bytes come from: a slice, or memory that may change while it is read.
pub trait Source {
    /// Bytes in all.
    fn len(&self) -> usize;

    /// Copy a part that lies within `len`.
    fn copy(&self, at: usize, into: &mut [u8]);

    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Source for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn copy(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self[at..at + into.len()]);
    }
}

/// One database record.
#[derive(Clone, Copy, Debug)]
struct Db {
    flags: u16,
    depth: u16,
    root: u64,
}

impl Db {
    fn read(bytes: &[u8]) -> Option<Db> {
        Some(Db { flags: u16_at(bytes, 4)?, depth: u16_at(bytes, 6)?, root: u64_at(bytes, 40)? })
    }
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    free: Db,
    main: Db,
    last_page: u64,
    transaction: u64,
}

/// Check a file. With `thorough`, also that the first key of every leaf lies between the separators above it, which touches
/// every leaf. Errors: what is wrong and on which page.
pub fn verify<S: Source + ?Sized>(source: &S, page_size: usize, thorough: bool) -> Result<(), String> {
    if !page_size.is_power_of_two() || !(256..=65536).contains(&page_size) {
        return Err(format!("{page_size} is no page size"));
    }
    let metas = [0, 1].map(|number| read_meta(source, page_size, number));
    let newest = metas.iter().filter_map(|meta| meta.as_ref().ok()).max_by_key(|meta| meta.transaction);
    let Some(meta) = newest.copied() else {
        return Err(metas.into_iter().find_map(Result::err).unwrap_or_default());
    };
    // The file is whole pages; what lies behind the last one in use may be cut off.
    let pages = (source.len() / page_size) as u64;
    if meta.last_page < 1 || meta.last_page >= pages {
        return Err(format!("the file of {pages} pages ends before page {}", meta.last_page));
    }
    let words = (meta.last_page / 64 + 1) as usize;
    let mut walk =
        Walk { source, page_size, last_page: meta.last_page, thorough, seen: vec![0; words], dbs: Vec::new() };
    walk.tree(meta.free, Order::Integer, "the free list", false)?;
    walk.tree(meta.main, Order::of(meta.main), "the main database", true)?;
    for (name, db) in std::mem::take(&mut walk.dbs) {
        walk.tree(db, Order::of(db), &name, false)?;
    }
    Ok(())
}

fn read_meta<S: Source + ?Sized>(source: &S, page_size: usize, number: u64) -> Result<Meta, String> {
    const META: usize = HEADER + 24 + 2 * DB + 16;
    let at = number as usize * page_size;
    if source.len() < at + META {
        return Err("the file is too short for its metas".to_owned());
    }
    let mut bytes = [0; META];
    source.copy(at, &mut bytes);
    let read = || {
        let body = &bytes[HEADER..];
        let (free, main) = (&body[24..24 + DB], &body[24 + DB..24 + 2 * DB]);
        let sound = u64_at(&bytes, 0)? == number
            && u16_at(&bytes, 10)? & P_META != 0
            && u32_at(body, 0)? == MAGIC
            && u32_at(body, 4)? == VERSION
            && u32_at(free, 0)? as usize == page_size;
        let tail = &body[24 + 2 * DB..];
        let meta = Meta {
            free: Db::read(free)?,
            main: Db::read(main)?,
            last_page: u64_at(tail, 0)?,
            transaction: u64_at(tail, 8)?,
        };
        sound.then_some(meta)
    };
    read().ok_or_else(|| format!("page {number}: no meta of this format and page size"))
}

/// How keys compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Bytes,
    Reversed,
    Integer,
}

impl Order {
    fn of(db: Db) -> Order {
        match db.flags {
            flags if flags & MDB_INTEGERKEY != 0 => Order::Integer,
            flags if flags & MDB_REVERSEKEY != 0 => Order::Reversed,
            _ => Order::Bytes,
        }
    }

    fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Order::Bytes => left.cmp(right),
            Order::Reversed => left.iter().rev().cmp(right.iter().rev()),
            Order::Integer => integer(left).cmp(&integer(right)),
        }
    }
}

/// Integers of up to 8 bytes in native order; longer ones don't exist.
fn integer(key: &[u8]) -> u64 {
    key.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

struct Walk<'a, S: Source + ?Sized> {
    source: &'a S,
    page_size: usize,
    last_page: u64,
    thorough: bool,
    // One bit a page: no page hangs from two places, so a walk can't loop.
    seen: Vec<u64>,
    dbs: Vec<(String, Db)>,
}

/// What is the same for all pages of a tree.
#[derive(Clone, Copy)]
struct Tree {
    order: Order,
    depth: u16,
    // Its leaves name further databases.
    names: bool,
}

/// A page to visit, with the separators that its keys lie between.
struct Visit {
    number: u64,
    level: u16,
    low: Option<Vec<u8>>,
    high: Option<Vec<u8>>,
}

impl<S: Source + ?Sized> Walk<'_, S> {
    fn tree(&mut self, db: Db, order: Order, name: &str, names: bool) -> Result<(), String> {
        if db.root == NO_PAGE {
            return Ok(());
        }
        if db.depth == 0 || db.depth > DEPTH_MAX {
            return Err(format!("{name}: a tree {} deep", db.depth));
        }
        self.claim(db.root, db.root)?;
        self.head(db.root, db.depth == 1)?;
        let tree = Tree { order, depth: db.depth, names };
        let mut visits = vec![Visit { number: db.root, level: 1, low: None, high: None }];
        let mut page = vec![0; self.page_size];
        while let Some(visit) = visits.pop() {
            let leaf = visit.level == db.depth;
            if leaf && !names && !self.thorough {
                continue;
            }
            self.source.copy(visit.number as usize * self.page_size, &mut page);
            let nodes = nodes_of(&page, visit.number, leaf)?;
            if leaf {
                self.leaf(&page, &nodes, &visit, tree)?;
            } else {
                self.branch(&page, &nodes, &visit, tree, &mut visits)?;
            }
        }
        Ok(())
    }

    /// Each page number at most once, and within the file.
    fn claim(&mut self, number: u64, parent: u64) -> Result<(), String> {
        if number < 2 || number > self.last_page {
            return Err(format!("page {parent}: names page {number} of {}", self.last_page));
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit != 0 {
            return Err(format!("page {parent}: page {number} hangs from two places"));
        }
        self.seen[word] |= bit;
        Ok(())
    }

    /// A page knows its own number and kind.
    fn head(&self, number: u64, leaf: bool) -> Result<(), String> {
        let mut header = [0; HEADER];
        self.source.copy(number as usize * self.page_size, &mut header);
        let wanted = if leaf { P_LEAF } else { P_BRANCH };
        let flags = u16_at(&header, 10).unwrap_or_default() & !P_DIRTY;
        if u64_at(&header, 0) != Some(number) {
            return Err(format!("page {number}: carries another number"));
        }
        // Leaves may have further flags (LEAF2), branches none.
        if if leaf { flags & P_LEAF == 0 || flags & P_BRANCH != 0 } else { flags != wanted } {
            return Err(format!("page {number}: flags {flags:#06x} where {wanted:#06x} belongs"));
        }
        Ok(())
    }

    fn branch(
        &mut self,
        page: &[u8],
        nodes: &[Node],
        visit: &Visit,
        tree: Tree,
        visits: &mut Vec<Visit>,
    ) -> Result<(), String> {
        let Tree { order, depth, names } = tree;
        let number = visit.number;
        if nodes.len() < 2 {
            return Err(format!("page {number}: a branch of {} nodes", nodes.len()));
        }
        let key = |place: usize| &page[nodes[place].key.0..nodes[place].key.1];
        for place in 0..nodes.len() {
            // The first key of a branch stands for everything below the second and is never compared.
            if place > 1 && order.compare(key(place - 1), key(place)) != Ordering::Less {
                return Err(format!("page {number}: keys out of order at node {place}"));
            }
            if place > 0 && !within(order, key(place), visit) {
                return Err(format!("page {number}: key of node {place} beyond its parent's"));
            }
            let child = nodes[place].child;
            self.claim(child, number)?;
            let leaf = visit.level + 1 == depth;
            self.head(child, leaf)?;
            let (low, high) = match place {
                0 => (visit.low.clone(), nodes.get(1).map(|_| key(1).to_vec())),
                _ => (Some(key(place).to_vec()), nodes.get(place + 1).map(|_| key(place + 1).to_vec())),
            };
            // Leaves of plain databases are done with their header.
            if !leaf || self.thorough || names {
                visits.push(Visit { number: child, level: visit.level + 1, low, high: high.or(visit.high.clone()) });
            }
        }
        Ok(())
    }

    fn leaf(&mut self, page: &[u8], nodes: &[Node], visit: &Visit, tree: Tree) -> Result<(), String> {
        let Tree { order, names, .. } = tree;
        let number = visit.number;
        if let Some(first) = nodes.first().filter(|_| self.thorough) {
            if !within(order, &page[first.key.0..first.key.1], visit) {
                return Err(format!("page {number}: its first key lies beyond its parent's"));
            }
        }
        for node in nodes.iter().filter(|node| names && node.flags & F_SUBDATA != 0) {
            if node.flags & F_DUPDATA != 0 {
                continue;
            }
            let db = page.get(node.data..node.data + DB).filter(|_| node.size == DB).and_then(Db::read);
            let Some(db) = db else { return Err(format!("page {number}: a database record of {} bytes", node.size)) };
            self.dbs.push((format!("database {}", String::from_utf8_lossy(&page[node.key.0..node.key.1])), db));
        }
        Ok(())
    }
}

fn within(order: Order, key: &[u8], visit: &Visit) -> bool {
    visit.low.as_ref().is_none_or(|low| order.compare(low, key) != Ordering::Greater)
        && visit.high.as_ref().is_none_or(|high| order.compare(key, high) == Ordering::Less)
}

/// One node: where its key and data lie.
struct Node {
    flags: u16,
    child: u64,
    key: (usize, usize),
    data: usize,
    size: usize,
}

fn nodes_of(page: &[u8], number: u64, leaf: bool) -> Result<Vec<Node>, String> {
    let wrong = |text: &str| format!("page {number}: {text}");
    let (lower, upper) = (u16_at(page, 12).unwrap_or_default(), u16_at(page, 14).unwrap_or_default());
    // On pages of 64 KiB an upper bound of 0 means the end.
    let (lower, upper) = (usize::from(lower), if upper == 0 { 65536 } else { usize::from(upper) });
    if lower < HEADER || lower % 2 != 0 || lower > upper || upper > page.len() {
        return Err(wrong("bounds of its nodes"));
    }
    (HEADER..lower)
        .step_by(2)
        .map(|slot| node_at(page, slot, upper, leaf).ok_or_else(|| wrong("a node out of bounds")))
        .collect()
}

fn node_at(page: &[u8], slot: usize, upper: usize, leaf: bool) -> Option<Node> {
    let at = usize::from(u16_at(page, slot)?);
    if at < upper || at % 2 != 0 {
        return None;
    }
    let (low, high, flags) = (u16_at(page, at)?, u16_at(page, at + 2)?, u16_at(page, at + 4)?);
    let end = at + NODE + usize::from(u16_at(page, at + 6)?);
    let size = usize::from(low) | usize::from(high) << 16;
    let stored = match leaf {
        true if flags & F_BIGDATA != 0 => 8,
        true => size,
        false => 0,
    };
    if end + stored > page.len() {
        return None;
    }
    let child = u64::from(low) | u64::from(high) << 16 | u64::from(flags) << 32;
    Some(Node { flags, child, key: (at + NODE, end), data: end, size })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
