//! One process hands its work to another, which the executable at its path has become: an upgrade without a loss.
//!
//! ```text
//! old                                                    new
//!   start, with a channel as its standard input  ───→
//!   the listening sockets  ──────────────────────────→   reads its configuration, connects to its servers
//!                          ←───────────── prepared ──
//!   lets go of what only one can have: feeds, spools,
//!   files of local directories
//!                          ── yours ────────────────→    takes them, accepts
//!                          ←──────────────── ready ──
//!   accepts no more; serves whom it has
//! ```
//!
//! The sockets are the same ones in both processes, so no client is refused or reset: who waits to be accepted is accepted by
//! either. Until *ready* the old process can go on as before, and does where the new one fails, ends, or takes too long; it
//! is killed then.

mod channel;
pub mod giving;
pub mod notify;
pub mod taking;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The variable that tells a process whose successor it is: the other's process id. Whose parent is another has only
/// inherited it.
const VARIABLE: &str = "USHERD_SUCCEEDS";
/// What both must speak.
const VERSION: u32 = 1;

/// What a socket is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A listener of the configuration: its address as configured, and which of those with the same one.
    Listener {
        /// `127.0.0.1:389`, `unix:/run/…`, `udp:0.0.0.0:1812`.
        address: String,
        /// From 0 on.
        nth: usize,
    },
    /// HTTP of the admin side.
    Http {
        /// As configured.
        address: String,
    },
}

/// What is said on the channel.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Old: who speaks.
    Hello {
        version: u32,
        /// Its control socket.
        control: PathBuf,
        /// Its workers, as many as a RADIUS listener has sockets.
        workers: usize,
    },
    /// Old: sockets, in the order of the workers.
    Sockets { purpose: Purpose },
    /// Old: that is all.
    Whole,
    /// New: all that can fail without the rest has not.
    Prepared,
    /// Old: it has let go.
    Yours,
    /// New: it serves.
    Ready {
        /// It has taken the path of the control socket; the other's is found under this one.
        control: Option<PathBuf>,
        /// Unix sockets that it has taken, whose files are its own now.
        files: Vec<PathBuf>,
    },
    /// New: it cannot, and why.
    Failed { why: String },
}
