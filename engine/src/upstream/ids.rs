//! Message ids of one connection to a server.
//!
//! Ids only grow (and begin again after 2^31-1), so that a late answer to a request that was given up does not meet a
//! younger one under its id. An id finds what it stands for at `id & mask`; where that place is taken by one that lives
//! long (a persistent search), the next id is used. Nothing is allocated in steady state.

/// Largest message id (RFC 4511 4.1.1.1).
const ID_MAX: i32 = i32::MAX;
const PLACES_MIN: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Ids<W> {
    places: Vec<Option<(i32, W)>>,
    last: i32,
    live: usize,
}

impl<W: Copy> Default for Ids<W> {
    fn default() -> Self {
        Ids {
            places: Vec::new(),
            last: 0,
            live: 0,
        }
    }
}

impl<W: Copy> Ids<W> {
    /// A fresh id, standing for `what`.
    #[inline]
    pub fn allocate(&mut self, what: W) -> i32 {
        if self.live * 2 >= self.places.len() {
            self.grow();
        }
        // Fewer than half of the places are taken, so this ends.
        loop {
            self.last = if self.last == ID_MAX { 1 } else { self.last + 1 };
            let at = self.place(self.last);
            if let Some(place @ None) = self.places.get_mut(at) {
                *place = Some((self.last, what));
                self.live += 1;
                return self.last;
            }
        }
    }

    /// What the id stands for.
    #[inline]
    pub fn get(&self, id: i32) -> Option<W> {
        let (taken, what) = self.places.get(self.place(id))?.as_ref()?;
        (*taken == id).then_some(*what)
    }

    /// Forgets an id.
    #[inline]
    pub fn remove(&mut self, id: i32) -> Option<W> {
        let at = self.place(id);
        let place = self.places.get_mut(at)?;
        if place.as_ref().is_some_and(|(taken, _)| *taken == id) {
            self.live -= 1;
            return place.take().map(|(_, what)| what);
        }
        None
    }

    /// How many ids stand for something.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    #[inline]
    fn place(&self, id: i32) -> usize {
        id.cast_unsigned() as usize & self.places.len().wrapping_sub(1)
    }

    /// Doubles the places; two ids that differ below the old mask differ below the new one, so nothing collides.
    fn grow(&mut self) {
        let size = (self.places.len() * 2).max(PLACES_MIN);
        let before = std::mem::take(&mut self.places);
        self.places.resize_with(size, || None);
        for (id, what) in before.into_iter().flatten() {
            let at = self.place(id);
            if let Some(place) = self.places.get_mut(at) {
                *place = Some((id, what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_skip_the_long_lived_and_begin_again() {
        let mut ids = Ids::default();
        let long = ids.allocate('l');
        for _ in 0..100_000 {
            let id = ids.allocate('s');
            assert_ne!(id, long);
            assert_eq!(ids.get(id), Some('s'));
            assert_eq!(ids.remove(id), Some('s'));
            assert_eq!(ids.get(id), None);
        }
        assert_eq!(ids.get(long), Some('l'));
        ids.last = ID_MAX - 1;
        assert_eq!(ids.allocate('a'), ID_MAX);
        assert!(ids.allocate('b') > 0);
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let mut ids = Ids::default();
        let all: Vec<(i32, u32)> = (0..1000).map(|n| (ids.allocate(n), n)).collect();
        assert!(all.iter().all(|(id, n)| ids.get(*id) == Some(*n)));
        assert_eq!(ids.remove(-5), None);
        assert_eq!(ids.remove(0), None);
    }
}
