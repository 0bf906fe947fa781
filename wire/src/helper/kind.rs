//! The numbers of what can be said: below 16 by usherd, from 16 on by helpers.

pub(super) const WELCOME: u8 = 1;
pub(super) const CALL: u8 = 2;
pub(super) const INTERRUPT: u8 = 3;
pub(super) const INPUT: u8 = 4;
pub(super) const GOODBYE: u8 = 5;
pub(super) const READY: u8 = 16;
pub(super) const PART: u8 = 17;
pub(super) const DONE: u8 = 18;
pub(super) const ERROR: u8 = 19;
pub(super) const INTERRUPTED: u8 = 20;
pub(super) const ASK: u8 = 21;
pub(super) const UNABLE: u8 = 22;
