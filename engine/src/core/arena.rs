//! Generation-checked storage: a handle to something that has gone finds nothing, even when its place is used again.
//!
//! A place that was freed is taken again only after [`Arena::turn`], so that what is still said in the current turn
//! about the old inhabitant cannot be taken for the new one. In steady state nothing is allocated.

/// A place and the generation of its inhabitant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Handle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Handle {
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[allow(clippy::cast_possible_truncation)] // the halves of a u64
    pub(crate) fn from_bits(bits: u64) -> Handle {
        Handle {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

#[derive(Debug)]
struct Place<V> {
    generation: u32,
    value: Option<V>,
}

#[derive(Debug)]
pub(crate) struct Arena<V> {
    places: Vec<Place<V>>,
    free: Vec<u32>,
    freed_this_turn: Vec<u32>,
    live: usize,
}

impl<V> Arena<V> {
    pub(crate) fn new() -> Self {
        Arena {
            places: Vec::new(),
            free: Vec::new(),
            freed_this_turn: Vec::new(),
            live: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Lets places that were freed before now be taken again.
    #[inline]
    pub(crate) fn turn(&mut self) {
        if !self.freed_this_turn.is_empty() {
            self.free.append(&mut self.freed_this_turn);
        }
    }

    /// None when four thousand million places are taken.
    #[inline]
    pub(crate) fn insert(&mut self, value: V) -> Option<Handle> {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            self.live += 1;
            return Some(Handle {
                index,
                generation: place.generation,
            });
        }
        let index = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place {
            generation: 1,
            value: Some(value),
        });
        self.live += 1;
        Some(Handle { index, generation: 1 })
    }

    #[inline]
    pub(crate) fn get(&self, handle: Handle) -> Option<&V> {
        let place = self.places.get(handle.index as usize)?;
        if place.generation == handle.generation {
            place.value.as_ref()
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut V> {
        let place = self.places.get_mut(handle.index as usize)?;
        if place.generation == handle.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<V> {
        let place = self.places.get_mut(handle.index as usize)?;
        if place.generation != handle.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.freed_this_turn.push(handle.index);
        self.live -= 1;
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &V)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let handle = Handle {
                index: u32::try_from(index).ok()?,
                generation: place.generation,
            };
            Some((handle, place.value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing_and_places_wait_for_the_next_turn() {
        let mut arena = Arena::new();
        let a = arena.insert('a').unwrap();
        assert_eq!(arena.remove(a), Some('a'));
        let b = arena.insert('b').unwrap();
        assert_ne!(a.index, b.index);
        arena.turn();
        let c = arena.insert('c').unwrap();
        assert_eq!(a.index, c.index);
        assert_eq!(arena.get(a), None);
        assert_eq!(arena.remove(a), None);
        assert_eq!(arena.get(c), Some(&'c'));
        assert_eq!(arena.len(), 2);
    }
}
