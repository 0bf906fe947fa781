//! LDAP (RFC 4511): what a balancer must see of it, and encoders for what it says itself.
//!
//! A message passes through in three depths, each only as deep as needed: [`envelope`] finds its borders, id and
//! operation (every message, some nanoseconds); [`grammar`] walks a whole request once before it may touch a connection
//! that others share; the views made from it, [`control`] and [`result`] borrow from the same bytes.

pub mod control;
pub mod dn;
pub mod envelope;
pub mod filter;
pub mod grammar;
pub mod message;
pub mod result;
pub mod root_dse;
pub mod sasl;
pub mod sync;
pub mod url;
pub mod x509;
