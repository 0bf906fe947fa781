//! Things with descriptors in a worker's poll that are no connections: programs and helpers.
//!
//! Each has a place and a generation, and up to four tokens in the poll, all above every connection's. A place that was left
//! is taken again only in a later turn, so that an event for the old inhabitant does not reach the new one.

use mio::Token;

/// Names an inhabitant for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceRef {
    at: usize,
    generation: u32,
}

impl PlaceRef {
    /// Place and generation, for who has two numbers to keep it in.
    pub fn parts(self) -> (u32, u32) {
        (u32::try_from(self.at).unwrap_or(u32::MAX), self.generation)
    }

    /// From [`PlaceRef::parts`].
    pub fn from_parts(at: u32, generation: u32) -> PlaceRef {
        PlaceRef {
            at: at as usize,
            generation,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Places<T> {
    /// What all its tokens have in common, and nobody else's have.
    base: usize,
    places: Vec<Option<(u32, T)>>,
    free: Vec<usize>,
    left: Vec<usize>,
    generation: u32,
}

impl<T> Places<T> {
    /// Nobody yet. `bit`: which of the highest bits of a token says that it is one of these, 1 is the highest but one.
    pub fn new(bit: u32) -> Self {
        Places {
            base: 1 << (usize::BITS - 1 - bit),
            places: Vec::new(),
            free: Vec::new(),
            left: Vec::new(),
            generation: 0,
        }
    }

    /// A new turn: places left before now can be taken.
    pub fn turn(&mut self) {
        self.free.append(&mut self.left);
    }

    /// Takes a place.
    pub fn insert(&mut self, inhabitant: T) -> PlaceRef {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let at = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(at) {
            Some(place) => *place = Some((generation, inhabitant)),
            None => self.places.push(Some((generation, inhabitant))),
        }
        PlaceRef { at, generation }
    }

    /// Who is there, if it has not left.
    pub fn get(&self, place: PlaceRef) -> Option<&T> {
        let (generation, found) = self.places.get(place.at)?.as_ref()?;
        (*generation == place.generation).then_some(found)
    }

    /// Who is there, if it has not left.
    pub fn get_mut(&mut self, place: PlaceRef) -> Option<&mut T> {
        let (generation, found) = self.places.get_mut(place.at)?.as_mut()?;
        (*generation == place.generation).then_some(found)
    }

    /// It has ended.
    pub fn remove(&mut self, place: PlaceRef) -> Option<T> {
        self.get(place)?;
        self.left.push(place.at);
        self.places.get_mut(place.at)?.take().map(|(_, found)| found)
    }

    /// Who is meant by a token, and which of its descriptors; none where it is nobody's here.
    pub fn of_token(&self, token: usize) -> Option<(PlaceRef, usize)> {
        let below = token ^ self.base;
        // With its own bit gone nothing of the highest ones is left.
        if below >= self.base.min(1 << (usize::BITS - 8)) {
            return None;
        }
        let at = below >> 2;
        let (generation, _) = self.places.get(at)?.as_ref()?;
        let place = PlaceRef {
            at,
            generation: *generation,
        };
        Some((place, below & 3))
    }

    /// The token of one of an inhabitant's descriptors, 0 to 3.
    pub fn token(&self, place: PlaceRef, which: usize) -> Token {
        Token(self.base | place.at << 2 | (which & 3))
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, found)| found)
    }

    /// Everybody, by name.
    pub fn named(&self) -> impl Iterator<Item = (PlaceRef, &T)> {
        self.places.iter().enumerate().filter_map(|(at, place)| {
            let (generation, found) = place.as_ref()?;
            let place = PlaceRef {
                at,
                generation: *generation,
            };
            Some((place, found))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_not_taken_again_in_the_turn_in_which_it_was_left() {
        let mut places = Places::new(1);
        let first = places.insert("first");
        let token = places.token(first, 3).0;
        assert_eq!(places.of_token(token), Some((first, 3)));
        assert!(places.remove(first).is_some() && places.remove(first).is_none());
        let second = places.insert("second");
        assert_eq!(places.of_token(token), None, "an event for the first reaches nobody");
        assert!(places.get_mut(first).is_none() && places.get(second).is_some());
        places.turn();
        let third = places.insert("third");
        assert_eq!(places.of_token(token), Some((third, 3)));
        assert!(places.get(first).is_none(), "the same place, another inhabitant");
        assert_eq!(places.iter().count(), 2);
    }

    #[test]
    fn tokens_are_told_apart() {
        let (mut programs, mut helpers) = (Places::new(1), Places::new(2));
        let mut tokens = Vec::new();
        for _ in 0..3 {
            let (program, helper) = (programs.insert(()), helpers.insert(()));
            for which in 0..4 {
                tokens.extend([programs.token(program, which).0, helpers.token(helper, which).0]);
                assert!(helpers.of_token(programs.token(program, which).0).is_none());
                assert!(programs.of_token(helpers.token(helper, which).0).is_none());
            }
        }
        assert!(
            tokens
                .iter()
                .all(|token| *token != crate::worker::INBOX.0 && *token > 1 << 40)
        );
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 24);
        for other in [5, crate::worker::INBOX.0] {
            assert_eq!((programs.of_token(other), helpers.of_token(other)), (None, None));
        }
    }
}
