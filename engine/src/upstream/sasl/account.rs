//! As whom the daemon binds by SASL: names and password, checked and prepared once, and what SCRAM has derived from them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::Mechanism;
use super::scram::{Hash, Keys};

/// Fewer iterations than this are refused (RFC 5802 section 5.1): whoever overhears the exchange could guess the password.
pub const ITERATIONS_MIN: u32 = 4_096;
/// More are refused unless more are allowed: they take a worker tens of milliseconds, in which it does nothing else.
pub const ITERATIONS_DEFAULT: u32 = 100_000;
/// More are never allowed.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Derived keys that are kept; servers of one directory may each have a salt of their own.
const KEYS_KEPT: usize = 8;

/// The names of an account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    /// Authentication identity: whose password it is.
    pub authcid: String,
    /// Authorization identity (RFC 4513 section 5.2.1.8): as whom to act; empty: the server derives it.
    pub authzid: String,
}

/// Why an account cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// No mechanism is named.
    NoMechanism,
    /// The authentication identity is wrong so.
    Authcid(&'static str),
    /// The authorization identity is.
    Authzid(&'static str),
    /// The password is.
    Password(&'static str),
}

/// See the module.
pub struct Account {
    first: Mechanism,
    others: Vec<Mechanism>,
    who: Who,
    password: Zeroizing<Vec<u8>>,
    /// The password as SASLprep (RFC 4013) leaves it.
    prepared: Zeroizing<Vec<u8>>,
    iterations_max: u32,
    /// What was derived from it. The one lock of the path on which connections become ready; nothing is computed under it.
    keys: Mutex<Vec<Keys>>,
}

impl Account {
    /// Checks and prepares. `mechanisms`: in the order in which they are tried.
    ///
    /// # Errors
    /// What is wrong, and why; no secret is in it.
    pub fn new(
        mechanisms: &[Mechanism],
        who: &Who,
        password: Zeroizing<Vec<u8>>,
        iterations_max: u32,
    ) -> Result<Account, Unfit> {
        let (first, others) = mechanisms.split_first().ok_or(Unfit::NoMechanism)?;
        if let Some(why) = fault(&who.authzid) {
            return Err(Unfit::Authzid(why));
        }
        let mut who = who.clone();
        let mut prepared = Zeroizing::default();
        if mechanisms.iter().any(|one| one.has_password()) {
            let text = std::str::from_utf8(&password).map_err(|_| Unfit::Password("it is not UTF-8"))?;
            if let Some(why) = fault(text) {
                return Err(Unfit::Password(why));
            }
            if let Some(why) = fault(&who.authcid) {
                return Err(Unfit::Authcid(why));
            }
            if who.authcid.is_empty() {
                return Err(Unfit::Authcid(EMPTY));
            }
            if text.is_empty() {
                return Err(Unfit::Password(EMPTY));
            }
            if mechanisms.iter().any(|one| one.hash().is_some()) {
                prepared = prepare(text).map_err(Unfit::Password)?.as_bytes().to_vec().into();
                who.authcid = prepare(&who.authcid).map_err(Unfit::Authcid)?.to_string();
            }
        }
        Ok(Account {
            first: *first,
            others: others.to_vec(),
            who,
            password,
            prepared,
            iterations_max,
            keys: Mutex::default(),
        })
    }

    /// Its names, as they are sent.
    #[must_use]
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The mechanisms, in their order.
    pub fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    pub(super) fn first(&self) -> Mechanism {
        self.first
    }

    pub(super) fn mechanism(&self, at: usize) -> Option<Mechanism> {
        self.mechanisms().nth(at)
    }

    /// The message of PLAIN.
    pub(super) fn plain(&self) -> Zeroizing<Vec<u8>> {
        // Zeroizing wipes the buffer it has in the end, so it must not grow.
        let parts = [self.who.authzid.as_bytes(), self.who.authcid.as_bytes(), &self.password];
        let length = parts.iter().map(|part| part.len() + 1).sum();
        let mut message = Zeroizing::new(Vec::with_capacity(length));
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                message.push(0);
            }
            message.extend_from_slice(part);
        }
        message
    }

    /// SCRAM's keys for this salt: those that are kept, else derived, which takes time. None: so many iterations are refused.
    pub(super) fn keys(&self, hash: Hash, salt: &[u8], iterations: u32) -> Option<Keys> {
        if !(ITERATIONS_MIN..=self.iterations_max).contains(&iterations) {
            return None;
        }
        let kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|keys| keys.are_for(hash, salt, iterations)).cloned();
        drop(kept);
        if found.is_some() {
            return found;
        }
        let made = Keys::derive(hash, &self.prepared, salt, iterations)?;
        let mut kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEYS_KEPT {
            kept.remove(0);
        }
        kept.push(made.clone());
        Some(made)
    }

    #[cfg(test)]
    pub(super) fn keys_kept(&self) -> usize {
        self.keys.lock().map_or(0, |kept| kept.len())
    }
}

const EMPTY: &str = "it is empty";

/// What no message can carry.
fn fault(text: &str) -> Option<&'static str> {
    text.contains('\0').then_some("it has a NUL in it")
}

fn prepare(text: &str) -> Result<Zeroizing<String>, &'static str> {
    // Its errors name the character, which may be one of a password.
    match stringprep::saslprep(text) {
        Ok(prepared) if prepared.is_empty() => Err("SASLprep (RFC 4013) leaves nothing of it"),
        Ok(prepared) => Ok(Zeroizing::new(prepared.into_owned())),
        Err(_) => Err("it has a character that SASLprep (RFC 4013) refuses, or mixes directions of writing"),
    }
}

impl PartialEq for Account {
    /// What was derived makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
            && self.others == other.others
            && self.who == other.who
            && self.password == other.password
            && self.iterations_max == other.iterations_max
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("mechanisms", &self.mechanisms().collect::<Vec<_>>())
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}
