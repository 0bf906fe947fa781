//! The calls that a helper has.
//!
//! A call's number names its slot and, above that, how often the slot was used: what a helper says of a call that is over
//! finds nothing. The numbers below those of calls are for other messages of D-Bus ([`interrupt_serial`]). A slot is free only when the call is over on both sides: the helper has ended it, and has acknowledged the
//! interrupt that it was sent, if it was.

use engine::core::Ticket;
use engine::core::time::Instant;

use crate::drive::pools::Caller;

const SLOT_BITS: u32 = 14;
/// Calls at once in one helper, at most; more than the largest `concurrency` that can be written.
const SLOTS_MAX: usize = (1 << SLOT_BITS) - 2;
/// The number of a message that is about no call.
pub const OTHER_SERIAL: u32 = (1 << SLOT_BITS) - 1;

/// The number of the message that interrupts a call.
pub fn interrupt_serial(call: u32) -> u32 {
    (call & OTHER_SERIAL) + 1
}

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
    /// The pool has ended it, and waits for the helper to be free of it.
    pub given_up: bool,
    /// The helper was told so, and has not acknowledged that.
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
            None if self.slots.len() < SLOTS_MAX => {
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
            given_up: false,
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

    /// The call whose interrupt has this number.
    pub fn of_interrupt(&self, serial: u32) -> Option<u32> {
        let slot = usize::try_from(serial.checked_sub(1)?).ok()?;
        let call = self.slots.get(slot)?.as_ref()?;
        call.interrupted.then_some(call.id)
    }

    /// The helper has ended it, or never had it. If it was given up and is over on both sides now: its name in the pool,
    /// which waits for that.
    pub fn end(&mut self, id: u32) -> Option<Ticket> {
        let call = self.get_mut(id).filter(|call| !call.over)?;
        call.over = true;
        self.owed -= 1;
        self.settle(id)
    }

    /// The helper has acknowledged its interrupt; see [`Calls::end`].
    pub fn acknowledged(&mut self, id: u32) -> Option<Ticket> {
        self.get_mut(id)?.interrupted = false;
        self.settle(id)
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

    fn settle(&mut self, id: u32) -> Option<Ticket> {
        let over =
            |slot: &&mut Option<OpenCall>| slot.is_some_and(|call| call.id == id && call.over && !call.interrupted);
        let call = self.slots.iter_mut().find(over)?.take()?;
        call.given_up.then_some(call.ticket)
    }
}
