//! The calls that a helper has.
//!
//! A call's number names its slot and, above that, how often the slot was used: what a helper says of a call that is over
//! finds nothing. A slot is free only when the call is over on both sides: the helper has ended it, and has acknowledged the
//! interrupt that it was sent, if it was.

use engine::core::Ticket;
use engine::core::time::Instant;

use crate::drive::pools::Caller;

/// Calls at once in one helper, at most; the plan's bound is far below.
const SLOT_BITS: u32 = 12;

/// A call that is not over on both sides.
#[derive(Clone, Copy, Debug)]
pub struct OpenCall {
    /// Its number.
    pub id: u32,
    /// Its name in the pool; the pool may have ended it.
    pub ticket: Ticket,
    /// Who asked, for the log: the pool alone says whether anybody still waits.
    pub caller: Caller,
    /// When it was sent.
    pub since: Instant,
    /// The helper has ended it.
    pub over: bool,
    /// The helper was told that nobody wants it any more, and has not acknowledged that.
    pub interrupted: bool,
    /// Bytes of its answer so far.
    pub answer_bytes: usize,
    /// It has been logged as slow.
    pub slow: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Calls {
    slots: Vec<Option<OpenCall>>,
    uses: u32,
    /// Those that the helper has not ended.
    owed: usize,
}

impl Calls {
    /// A new call; its number. None: there is no slot for it.
    pub fn open(&mut self, ticket: Ticket, caller: Caller, now: Instant) -> Option<u32> {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() >> SLOT_BITS == 0 => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        // From 1 on, so that no number is 0.
        self.uses = (self.uses % (u32::MAX >> SLOT_BITS)) + 1;
        let id = self.uses << SLOT_BITS | u32::try_from(slot).ok()?;
        *self.slots.get_mut(slot)? = Some(OpenCall {
            id,
            ticket,
            caller,
            since: now,
            over: false,
            interrupted: false,
            answer_bytes: 0,
            slow: false,
        });
        self.owed += 1;
        Some(id)
    }

    /// A call that is not over on both sides.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut OpenCall> {
        let slot = usize::try_from(id & ((1 << SLOT_BITS) - 1)).ok()?;
        self.slots.get_mut(slot)?.as_mut().filter(|call| call.id == id)
    }

    /// The call that this ticket has.
    pub fn of_ticket(&mut self, ticket: Ticket) -> Option<&mut OpenCall> {
        self.slots.iter_mut().flatten().find(|call| call.ticket == ticket)
    }

    /// The helper has ended it, or never had it.
    pub fn end(&mut self, id: u32) {
        if let Some(call) = self.get_mut(id)
            && !call.over
        {
            call.over = true;
            self.owed -= 1;
            self.settle(id);
        }
    }

    /// The helper has acknowledged its interrupt.
    pub fn acknowledged(&mut self, id: u32) {
        if let Some(call) = self.get_mut(id) {
            call.interrupted = false;
            self.settle(id);
        }
    }

    /// Whether the helper has something to say.
    pub fn owes(&self) -> bool {
        self.owed > 0 || self.iter().any(|call| call.interrupted)
    }

    /// All that are not over on both sides.
    pub fn iter(&self) -> impl Iterator<Item = &OpenCall> {
        self.slots.iter().flatten()
    }

    /// All that are not over on both sides.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut OpenCall> {
        self.slots.iter_mut().flatten()
    }

    fn settle(&mut self, id: u32) {
        if let Some(slot) = self
            .slots
            .iter_mut()
            .find(|slot| slot.is_some_and(|call| call.id == id && call.over && !call.interrupted))
        {
            *slot = None;
        }
    }
}
