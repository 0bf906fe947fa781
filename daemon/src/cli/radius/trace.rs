//! `usherd radius trace`: what a running daemon does with the requests of one user, device or client.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  usherd radius trace --user ada
  usherd radius trace --station 00:1a:2b:3c:4d:5e --for 1h
  usherd radius trace --client wlan-7";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[group(id = "who", required = true, multiple = false, args = ["user", "station", "client"])]
pub struct Trace {
    /// A User-Name, upper or lower case
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A device: the MAC address in its Calling-Station-Id, in any form
    #[arg(long, value_name = "MAC")]
    station: Option<String>,
    /// A client, by its name in the clients file
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// How long; Ctrl-C ends it before
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = crate::cli::duration)]
    length: Duration,
    /// The daemon.
    #[command(flatten)]
    target: client::Target,
}

impl Trace {
    /// Prints lines until the time is over.
    pub fn run(&self) -> Result<ExitCode, String> {
        let until = Instant::now() + self.length;
        let mut begin = json!({ "command": "trace", "seconds": self.length.as_secs().max(1) });
        let who = [
            ("user", &self.user),
            ("station", &self.station),
            ("client", &self.client),
        ];
        for (key, value) in who {
            if let (Some(value), Value::Object(begin)) = (value, &mut begin) {
                begin.insert(key.to_owned(), Value::from(value.as_str()));
            }
        }
        let mut next = number(&self.ask(&begin)?, "next");
        super::say("usherd: tracing; Ctrl-C ends it");
        loop {
            // What came up to the end is told, too.
            let is_over = Instant::now() >= until;
            let answer = self.ask(&json!({ "command": "trace", "from": next }))?;
            let lost = number(&answer, "lost");
            if lost > 0 {
                super::say(&format!("usherd: {lost} lines are lost: there were too many at once"));
            }
            let lines = answer.get("lines").and_then(Value::as_array);
            for line in lines.into_iter().flatten().filter_map(Value::as_str) {
                crate::cli::print(format!("{line}\n").as_bytes())?;
            }
            next = number(&answer, "next");
            if is_over {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn ask(&self, request: &Value) -> Result<Value, String> {
        let (_, answer) = client::ask(&self.target, request)?;
        Ok(answer.get("answer").cloned().unwrap_or_default())
    }
}

fn number(answer: &Value, key: &str) -> u64 {
    answer.get(key).and_then(Value::as_u64).unwrap_or_default()
}
