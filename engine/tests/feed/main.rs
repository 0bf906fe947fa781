//! The feed as a whole, without a disk or a network: random directories with a provider that behaves like OpenLDAP's, and
//! scripted providers for what no random one does.
//!
//! `USHERD_FEED_SEEDS=100000 cargo test -p usherd-engine --test feed` plays more; `USHERD_FEED_SEED=42` plays one, and says
//! what happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "a test")]

mod content;
mod cookies;
mod directory;
mod judge;
mod messages;
mod provider;
mod script;
mod simulation;
