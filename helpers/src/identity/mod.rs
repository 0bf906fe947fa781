//! The identity calls: the requests and answers that every service about users and groups shares (docs/identity-calls.md).
//!
//! A request is read strictly: a member that no request knows, is missing or is ill-typed ends in the status `invalid`, with a message that
//! names it, so that a slip of the pen never means "all users". Secrets live in [`zeroize::Zeroizing`] from the moment they are read.

mod answer;
mod members;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Body, Domain, Group, Mapping, NamedSid, Refusal, Status, Trust, User};
pub use request::{
    ChangePassword, EncryptedChange, GroupKey, Invalid, Login, Logon, MsChap, Place, Request, Subject, TicketCache,
    UnixId, UserKey, Which, read,
};
