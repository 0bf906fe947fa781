//! The other side: what is said to, and heard from, one live upstream.

pub mod ids;
pub mod ldap;
pub mod sasl;
