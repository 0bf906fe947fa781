//! An array whose copies share what they have in common: a copy costs a pointer for each 4096 elements, and changing
//! one element of it copies two nodes of 64.
//!
//! Why: searches go on in the directory as it was while a changed copy of it is made, and take no lock. Three steps
//! down instead of one is what that costs them.

use std::sync::Arc;

/// Elements of a leaf, and leaves of a branch.
const WIDTH: usize = 64;

type Leaf<T> = Vec<T>;
type Branch<T> = Vec<Arc<Leaf<T>>>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Layers<T> {
    root: Vec<Arc<Branch<T>>>,
    len: usize,
}

impl<T> Default for Layers<T> {
    fn default() -> Self {
        Self {
            root: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Clone> Layers<T> {
    /// So many elements, each `element`.
    pub(super) fn filled(element: &T, len: usize) -> Self {
        let mut all = Self::default();
        for _ in 0..len {
            all.push(element.clone());
        }
        all
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        let branch = self.root.get(at / (WIDTH * WIDTH))?;
        branch.get(at / WIDTH % WIDTH)?.get(at % WIDTH)
    }

    /// The element, in nodes that are this copy's alone from now on.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let branch = Arc::make_mut(self.root.get_mut(at / (WIDTH * WIDTH))?);
        Arc::make_mut(branch.get_mut(at / WIDTH % WIDTH)?).get_mut(at % WIDTH)
    }

    pub(super) fn push(&mut self, element: T) {
        if self.len.is_multiple_of(WIDTH * WIDTH) {
            self.root.push(Arc::default());
        }
        if let Some(branch) = self.root.last_mut().map(Arc::make_mut) {
            if self.len.is_multiple_of(WIDTH) {
                branch.push(Arc::new(Vec::with_capacity(WIDTH)));
            }
            if let Some(leaf) = branch.last_mut() {
                Arc::make_mut(leaf).push(element);
                self.len += 1;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let leaves = self.root.iter().flat_map(|branch| branch.iter());
        leaves.flat_map(|leaf| leaf.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_touched_by_what_becomes_of_the_other() {
        let mut all = Layers::default();
        for number in 0..10_000_usize {
            all.push(number);
        }
        let before = all.clone();
        for at in (0..10_000).step_by(7) {
            *all.get_mut(at).unwrap() += 1;
        }
        all.push(5);
        assert_eq!((before.len(), all.len()), (10_000, 10_001));
        assert!(before.iter().copied().eq(0..10_000));
        assert!((0..10_000).all(|at| *all.get(at).unwrap() == at + usize::from(at % 7 == 0)));
        assert_eq!((before.get(10_000), all.get(10_000)), (None, Some(&5)));
        assert_eq!(Layers::filled(&3, 65).iter().count(), 65);
    }
}
