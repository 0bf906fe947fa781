//! A client's requests that have not ended, by message id. There are few (100 unless configured otherwise) and mostly
//! one, so a list that is looked through is cheaper than a table, and a client at rest holds no memory for it.
//!
//! Invariant: an id is in it once at the most.

use crate::core::Ticket;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) id: i32,
    pub(super) ticket: Ticket,
    pub(super) tag: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PendingList(Vec<Pending>);

impl PendingList {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.0.iter()
    }

    pub(super) fn contains(&self, id: i32) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: i32) -> Option<Pending> {
        self.0.iter().find(|pending| pending.id == id).copied()
    }

    pub(super) fn insert(&mut self, pending: Pending) {
        debug_assert!(!self.contains(pending.id));
        self.0.push(pending);
    }

    pub(super) fn remove(&mut self, id: i32) -> Option<Pending> {
        let at = self.0.iter().position(|pending| pending.id == id)?;
        Some(self.0.swap_remove(at))
    }

    /// Forgets all but this id; hands the others' tickets out.
    pub(super) fn keep_only(&mut self, id: i32, tickets: &mut Vec<Ticket>) {
        self.0.retain(|pending| {
            if pending.id != id {
                tickets.push(pending.ticket);
            }
            pending.id == id
        });
    }
}
