//! The sessions that ask on (NSS, PAM, SASL) against the local directory and a scripted service, without any socket: what is
//! answered, and that no failure to ask ever looks like an answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod accounts;
mod groups;
mod pam;
mod sasl;
mod services;
mod world;
