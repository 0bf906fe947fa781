//! The feed: every change of a directory, in order, across crashes, effectively once (RFC 4533; docs of each module).
//!
//! Everything here is pure. Whoever runs a feed does this, and nothing else decides anything:
//!
//! ```text
//! Consumer::new(settings, &mut content)              once, inside a transaction; also after every error of the store
//!   consumer.begin(&mut content) -> Ask              a session begins: cookie, mode and reload hint to be asked with
//!     consumer.message(&mut content, &message, time_ms) -> Step      every message of the session, whole and in order
//!     consumer.save(&mut content)                    before each commit; several messages make one transaction
//!   consumer.lost()                                  the connection ended without a Done
//!   consumer.confirm(..) / reject(..) / reload(..) / replay(..)      what an operator says
//! ```
//!
//! The events that this emits into the store are delivered by shard, as `shards` says.

mod codec;
pub mod consumer;
mod diff;
mod emitter;
pub mod event;
pub mod json;
mod marks;
pub mod memory;
pub mod settings;
pub mod shape;
pub mod shards;
pub mod standby;
#[cfg(test)]
mod standby_tests;
pub mod store;
pub mod tree;
