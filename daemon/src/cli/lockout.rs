//! `usherd lockout …`: who is locked out after failed binds.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Target, ask};

/// `usherd lockout …`.
#[derive(Debug, Subcommand)]
pub enum Lockout {
    /// Show what is locked now, and for how many seconds more
    List(Target),
    /// Forget failures and locks of a DN or an address
    Clear(Clear),
}

/// `usherd lockout clear`.
#[derive(Args, Debug)]
pub struct Clear {
    /// The DN, from whatever address; or the address, for whatever DN
    #[arg(value_name = "WHO")]
    pub who: String,
    #[command(flatten)]
    target: Target,
}

impl Lockout {
    /// Does it.
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let mut text = String::new();
        match self {
            Lockout::List(target) => {
                let (_, answer) = ask(target, &json!({ "command": "lockout" }))?;
                let locks = answer.pointer("/answer/locks").and_then(Value::as_array);
                for lock in locks.into_iter().flatten() {
                    let word = |name: &str| lock.get(name).and_then(Value::as_str).unwrap_or("?").escape_debug();
                    let seconds = lock.get("seconds").and_then(Value::as_u64).unwrap_or_default();
                    // A String takes whatever is written.
                    let _ = writeln!(text, "{}\t{seconds} s\t{}", word("listener"), word("who"));
                }
            }
            Lockout::Clear(clear) => {
                let request = json!({ "command": "lockout", "clear": clear.who });
                let (_, answer) = ask(&clear.target, &request)?;
                let cleared = answer.pointer("/answer/cleared").and_then(Value::as_u64);
                match cleared.unwrap_or_default() {
                    0 => return Err(format!("nothing is remembered of {}", clear.who)),
                    count => drop(writeln!(text, "cleared: {count}")),
                }
            }
        }
        super::print(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
