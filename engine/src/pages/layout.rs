//! How an LMDB 0.9 data file lies on the disk: metas, database records, pages and their nodes.
//!
//! Native, little endian. A page: `u64 number | u16 pad | u16 flags | u16 lower | u16 upper` (overflow: `u32 pages` in place
//! of the last two), then node offsets of 16 bits; the nodes fill the page from its end without a gap. A node: `u16 lo |
//! u16 hi | u16 flags | u16 key size`, key, data; in a branch lo, hi and flags are the 48 bits of a child's number. Source:
//! LMDB 0.9, mdb.c, structures MDB_page, MDB_node, MDB_db, MDB_meta.

use std::cmp::Ordering;

pub(super) const HEADER: usize = 16;
pub(super) const DB: usize = 48;
pub(super) const P_BRANCH: u16 = 0x01;
pub(super) const P_LEAF: u16 = 0x02;
pub(super) const P_OVERFLOW: u16 = 0x04;
const P_META: u16 = 0x08;
pub(super) const F_BIGDATA: u16 = 0x01;
pub(super) const F_SUBDATA: u16 = 0x02;
pub(super) const MDB_INTEGERKEY: u16 = 0x08;
pub(super) const NO_PAGE: u64 = u64::MAX;
const NODE: usize = 8;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

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
pub(super) struct Db {
    pub flags: u16,
    pub depth: u16,
    pub counts: Counts,
    pub root: u64,
}

/// What a database record says there is, and what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub branches: u64,
    pub leaves: u64,
    pub overflow: u64,
    pub entries: u64,
}

impl Db {
    pub(super) fn read(bytes: &[u8]) -> Option<Db> {
        Some(Db {
            flags: u16_at(bytes, 4)?,
            depth: u16_at(bytes, 6)?,
            counts: Counts {
                branches: u64_at(bytes, 8)?,
                leaves: u64_at(bytes, 16)?,
                overflow: u64_at(bytes, 24)?,
                entries: u64_at(bytes, 32)?,
            },
            root: u64_at(bytes, 40)?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub free: Db,
    pub main: Db,
    pub last_page: u64,
    pub transaction: u64,
}

impl Meta {
    pub(super) fn read<S: Source + ?Sized>(source: &S, page_size: usize, number: u64) -> Result<Meta, String> {
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
                && u16_at(&bytes, 10)? == P_META
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
}

/// How keys compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Bytes,
    Integer,
}

impl Order {
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Order::Bytes => left.cmp(right),
            Order::Integer => integer(left).cmp(&integer(right)),
        }
    }
}

/// Integers of up to 8 bytes in native order; longer ones don't exist.
fn integer(key: &[u8]) -> u64 {
    key.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One node: where it begins and ends, and where its key and data lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    at: usize,
    end: usize,
    pub flags: u16,
    pub child: u64,
    pub key: (usize, usize),
    pub size: usize,
}

impl Node {
    /// Where its data, or the number of the page that holds them, begins.
    pub(super) fn data(&self) -> usize {
        self.key.1
    }

    fn read(page: &[u8], slot: usize, upper: usize, leaf: bool) -> Option<Node> {
        let at = usize::from(u16_at(page, slot)?);
        if at < upper || at % 2 != 0 {
            return None;
        }
        let (low, high, flags) = (u16_at(page, at)?, u16_at(page, at + 2)?, u16_at(page, at + 4)?);
        let key = (at + NODE, at + NODE + usize::from(u16_at(page, at + 6)?));
        let size = usize::from(low) | usize::from(high) << 16;
        let stored = match leaf {
            true if flags & F_BIGDATA != 0 => 8,
            true => size,
            false => 0,
        };
        let end = key.1 + stored + (key.1 + stored) % 2;
        let child = u64::from(low) | u64::from(high) << 16 | u64::from(flags) << 32;
        (end <= page.len()).then_some(Node { at, end, flags, child, key, size })
    }
}

/// The nodes of a page, in the order of their keys. Errors: what is wrong with the page.
pub(super) fn read_nodes(
    page: &[u8],
    leaf: bool,
    nodes: &mut Vec<Node>,
    order: &mut Vec<(usize, usize)>,
) -> Result<(), &'static str> {
    nodes.clear();
    let (lower, upper) = (u16_at(page, 12).unwrap_or_default(), u16_at(page, 14).unwrap_or_default());
    // On pages of 64 KiB an upper bound of 0 means the end.
    let (lower, upper) = (usize::from(lower), if upper == 0 { 65536 } else { usize::from(upper) });
    if lower < HEADER || lower % 2 != 0 || lower > upper || upper > page.len() {
        return Err("bounds of its nodes");
    }
    for slot in (HEADER..lower).step_by(2) {
        nodes.push(Node::read(page, slot, upper, leaf).ok_or("a node out of bounds")?);
    }
    // A gap or an overlap comes from a wrong size or offset: LMDB would move the wrong bytes when it deletes a node.
    order.clear();
    order.extend(nodes.iter().map(|node| (node.at, node.end)));
    order.sort_unstable();
    let mut reached = upper;
    for (at, end) in order.iter() {
        if *at != reached {
            return Err("its nodes don't lie side by side");
        }
        reached = *end;
    }
    if reached != page.len() {
        return Err("its nodes end before the page does");
    }
    Ok(())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
