//! The feed: every change of a directory, in order, across crashes.

mod codec;
pub mod event;
pub mod json;
pub mod store;
