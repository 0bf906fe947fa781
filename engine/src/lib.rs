//! Every decision usherd makes.
//!
//! What lives here is told things and emits effects; it performs none of them. Time and randomness are passed in.
#![forbid(unsafe_code)]

pub mod ask;
pub mod core;
pub mod directory;
pub mod feed;
pub mod password;
pub mod radius;
pub mod session;
pub mod upstream;
