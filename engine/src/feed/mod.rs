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
//! Each event that this emits into the store is on one shard (`shards`), always the same for one entry; how shards deliver is
//! the business of whoever runs the feed. What is feed-wide waits for all of them ([`event::Op::is_feed_wide`]).

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
pub mod verify;
