//! The tree checks itself: what a reviewer would otherwise have to look for in every change.
//!
//! Each rule is one test; what it finds is told with file, line and what would be right. The
//! little reader of Rust that the rules stand on is `scan.rs`, with its own tests.

#[cfg(test)]
mod orphans;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scan;
#[cfg(test)]
mod text;
