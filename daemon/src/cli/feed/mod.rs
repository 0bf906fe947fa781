//! `usherd feed …`: a directory's changes, in order.

mod progress;
pub mod run;
mod say;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client;
use crate::config::one_line;

pub use say::{ask, status};

/// `usherd feed …`.
#[derive(Debug, Subcommand)]
pub enum Feed {
    /// Follow a directory without a configuration file: one line of JSON for each change
    Run(Box<run::Run>),
    /// How feeds stand: phase, lag, outbox, shards
    Status(Status),
    /// Forget what is kept and fetch everything anew; sequence numbers go on
    Reset(Which),
    /// Tell again, under new numbers, what entries are now
    Replay(Replay),
    /// Compare what is kept with what the directory has
    Verify(Box<verify::Verify>),
    /// Show the events that a sink has refused for good
    Dead(Which),
    /// Let a refresh that was held delete its many entries
    Confirm(Which),
    /// Forget a refresh that was held, and ask again from where the content is known
    Reject(Which),
    /// Deliver nothing; changes are kept meanwhile
    Pause(Which),
    /// Deliver again
    Resume(Which),
}

/// Which feed of which daemon.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// The feed's name [default: the only one]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// State folder of a `usherd feed run`
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    pub state: Option<PathBuf>,
    /// The daemon.
    #[command(flatten)]
    pub target: client::Target,
}

impl Which {
    fn target(&self) -> client::Target {
        let at_state = self.state.as_ref().map(|state| state.join(one_line::CONTROL));
        client::Target {
            control: at_state.or_else(|| self.target.control.clone()),
        }
    }
}

/// `usherd feed status`.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `usherd feed replay`.
#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// What had an event with this number or a later one, and what was deleted since
    #[arg(long, value_name = "SEQ", required_unless_present_any = ["dead", "all_dead"])]
    pub from: Option<u64>,
    /// The entry of this dead letter
    #[arg(long, value_name = "SEQ", conflicts_with = "from")]
    pub dead: Option<u64>,
    /// The entries of all dead letters
    #[arg(long, conflicts_with_all = ["from", "dead"])]
    pub all_dead: bool,
}
