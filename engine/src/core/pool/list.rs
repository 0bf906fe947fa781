//! Tickets in order, linked through the tickets themselves: a ticket is in one list at most (a lane's queue, or what one
//! upstream has), can leave from the middle at no cost, and nothing is allocated.

use super::Entry;
use crate::core::arena::{Arena, Handle};

#[derive(Debug, Default)]
pub(crate) struct List {
    head: Option<Handle>,
    tail: Option<Handle>,
    len: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    prev: Option<Handle>,
    next: Option<Handle>,
}

impl List {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn front(&self) -> Option<Handle> {
        self.head
    }

    pub(crate) fn next<T>(tickets: &Arena<Entry<T>>, at: Handle) -> Option<Handle> {
        tickets.get(at)?.links.next
    }

    pub(crate) fn push_back<T>(&mut self, tickets: &mut Arena<Entry<T>>, ticket: Handle) {
        let tail = self.tail;
        if let Some(entry) = tickets.get_mut(ticket) {
            entry.links = Links { prev: tail, next: None };
        }
        match tail.and_then(|tail| tickets.get_mut(tail)) {
            Some(entry) => entry.links.next = Some(ticket),
            None => self.head = Some(ticket),
        }
        self.tail = Some(ticket);
        self.len += 1;
    }

    pub(crate) fn push_front<T>(&mut self, tickets: &mut Arena<Entry<T>>, ticket: Handle) {
        let head = self.head;
        if let Some(entry) = tickets.get_mut(ticket) {
            entry.links = Links { prev: None, next: head };
        }
        match head.and_then(|head| tickets.get_mut(head)) {
            Some(entry) => entry.links.prev = Some(ticket),
            None => self.tail = Some(ticket),
        }
        self.head = Some(ticket);
        self.len += 1;
    }

    /// `ticket` must be in this list.
    pub(crate) fn unlink<T>(&mut self, tickets: &mut Arena<Entry<T>>, ticket: Handle) {
        let Some(entry) = tickets.get_mut(ticket) else { return };
        let Links { prev, next } = std::mem::take(&mut entry.links);
        match prev.and_then(|prev| tickets.get_mut(prev)) {
            Some(entry) => entry.links.next = next,
            None => self.head = next,
        }
        match next.and_then(|next| tickets.get_mut(next)) {
            Some(entry) => entry.links.prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }

    pub(crate) fn pop_front<T>(&mut self, tickets: &mut Arena<Entry<T>>) -> Option<Handle> {
        let front = self.head?;
        self.unlink(tickets, front);
        Some(front)
    }
}
