//! Write a helper for usherd, or call its services: blocking, without a runtime.
//!
//! A [helper](crate::helper) is a program that usherd starts and keeps, and to which it hands calls:
//!
//! ```no_run
//! use usherd_sdk::helper;
//!
//! fn main() -> Result<(), helper::Error> {
//!     helper::serve("upper/1", |call| Ok(call.payload().to_ascii_uppercase()))
//! }
//! ```
//!
//! A [client](crate::client) calls a service:
//!
//! ```no_run
//! let client = usherd_sdk::client::Client::connect("unix:/run/usherd/rpc.sock")?;
//! let answer = client.call("upper", b"hello")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Linux only: helpers live on sequenced-packet sockets and memory files.

pub mod client;
pub mod helper;
mod system;

/// What the daemon itself maps; no promise to anybody else.
#[doc(hidden)]
pub use system::Memory as SharedMemory;
