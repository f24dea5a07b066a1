//! Slots with ids that are never reused: the hot path uses slots, the world outside uses ids.

use ahash::RandomState;
use hashbrown::HashMap;

/// A store of values by slot and by id.
#[derive(Debug)]
pub(super) struct Registry<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    ids: HashMap<u64, u32, RandomState>,
    next: u64,
}

impl<T> Registry<T> {
    pub(super) fn new() -> Self {
        let ids = HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        Registry { slots: Vec::new(), free: Vec::new(), ids, next: 0 }
    }

    /// Insert what `build` makes of the new id. Returns id and slot.
    pub(super) fn insert(&mut self, build: impl FnOnce(u64) -> T) -> (u64, u32) {
        self.next += 1;
        let value = Some(build(self.next));
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = value;
                }
                slot
            }
            None => {
                self.slots.push(value);
                (self.slots.len() - 1) as u32
            }
        };
        self.ids.insert(self.next, slot);
        (self.next, slot)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let slot = self.ids.remove(&id)?;
        self.free.push(slot);
        self.slots.get_mut(slot as usize)?.take()
    }

    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        self.at(self.slot(id)?)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.at_mut(self.slot(id)?)
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}
