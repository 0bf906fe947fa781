//! Who is known by a list: a user's password and what an answer to the user carries. Found by the name, octet for octet; a
//! listener may have ten thousands of them.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use wire::radius::Item;
use zeroize::Zeroizing;

/// A user of the list.
pub struct User {
    /// The password or a hash of it, as [`crate::password`] reads them; none: the user is rejected whatever is offered.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// What an accept carries.
    pub reply: Vec<Item>,
}

impl std::fmt::Debug for User {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Users {
    all: HashMap<Box<[u8]>, User, RandomState>,
}

impl Users {
    /// Adds a user; false, and nothing is changed: there is one of this name.
    pub fn add(&mut self, name: &[u8], user: User) -> bool {
        if self.all.contains_key(name) {
            return false;
        }
        self.all.insert(name.into(), user);
        true
    }

    /// The user of this name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&User> {
        self.all.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
