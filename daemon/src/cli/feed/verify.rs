//! `usherd feed verify`: is what is kept what the directory has?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::run::Of;
use super::{Which, client};
use crate::boot;
use crate::config::one_line;
use crate::feed::verify::{Options, told};

/// The answer is: there are differences.
const DIFFERENT: u8 = 4;
/// There is no answer.
const UNKNOWN: u8 = 5;
/// The daemon's answer may take so much longer than what it may take.
const MARGIN: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  usherd feed verify people                                a feed of the running daemon
  usherd feed verify --state people                        a running `usherd feed run`
  usherd feed verify ldap://ldap1 --state people --base dc=example,dc=com
                                                           what a feed that does not run has kept

Ends with 0 where both are the same, 4 where they differ, 5 where it could not be told.";

/// The flags.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The feed's name [default: the only one]; or, where it does not run, the servers it is to be compared with: ldap://HOST
    #[arg(value_name = "NAME | URL")]
    pub what: Vec<String>,
    /// State folder of a `usherd feed run`
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    pub state: Option<PathBuf>,
    /// The daemon.
    #[command(flatten)]
    pub target: client::Target,
    /// What was asked, where the feed does not run.
    #[command(flatten)]
    pub of: Of,
    /// Differences that are named, at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub max_shown: u16,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::config::values::duration)]
    pub timeout: Duration,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

impl Verify {
    /// Compares and says what came of it.
    pub fn run(&self) -> Result<ExitCode, String> {
        let is_url = |what: &String| what.contains("://");
        let answer = match (self.what.as_slice(), &self.state) {
            ([_, ..], Some(state)) if self.what.iter().all(is_url) => match self.stopped(state) {
                Ok(answer) => answer,
                Err(code) => return Ok(code),
            },
            ([_, ..], None) if self.what.iter().all(is_url) => {
                say("with a URL, a feed that does not run is compared: name its folder with --state DIR");
                return Ok(ExitCode::from(2));
            }
            ([], _) => self.running(None),
            ([name], _) if !is_url(name) => self.running(Some(name)),
            _ => {
                say("one name of a feed, or one or more URLs");
                return Ok(ExitCode::from(2));
            }
        };
        let report = match answer {
            Ok(report) => report,
            Err(why) => {
                if self.json {
                    crate::cli::print(format!("{}\n", json!({ "error": why })).as_bytes())?;
                }
                say(&format!("it could not be told: {why}"));
                return Ok(ExitCode::from(UNKNOWN));
            }
        };
        let text = if self.json {
            format!("{report}\n")
        } else {
            text(&report)
        };
        crate::cli::print(text.as_bytes())?;
        Ok(ExitCode::from(code(&report)))
    }

    fn running(&self, name: Option<&String>) -> Result<Value, String> {
        if self.of.is_given() {
            return Err(
                "a feed that runs knows what it asks: flags as of `usherd feed run` go with a URL, for one that does \
                 not run"
                    .to_owned(),
            );
        }
        let which = Which {
            name: name.cloned(),
            state: self.state.clone(),
            target: self.target.clone(),
        };
        let patience_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let request = json!({
            "command": "feed", "verb": "verify", "name": which.name,
            "shown_max": self.max_shown, "patience_ms": patience_ms,
        });
        let (_, mut answer) = client::ask_for(&which.target(), &request, self.timeout + MARGIN)?;
        Ok(answer.get_mut("answer").map(Value::take).unwrap_or_default())
    }

    /// Of a feed that does not run. An error is a wrong usage that was said.
    fn stopped(&self, state: &std::path::Path) -> Result<Result<Value, String>, ExitCode> {
        let flags = one_line::Feed {
            name: "feed".to_owned(),
            ..self.of.feed(&self.what, &state.display().to_string())
        };
        let plan = match one_line::feed(&flags) {
            Ok((plan, warnings)) => {
                crate::cli::show(&warnings);
                plan
            }
            Err(found) => {
                crate::cli::show(&found);
                return Err(ExitCode::from(2));
            }
        };
        let options = Options {
            shown_max: usize::from(self.max_shown),
            patience: self.timeout,
        };
        Ok(boot::verify::stopped(plan, options).map(|report| told(&report)))
    }
}

fn say(text: &str) {
    crate::cli::say(&format!("usherd: {text}"));
}

fn count(report: &Value, key: &str) -> u64 {
    report.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn code(report: &Value) -> u8 {
    if report.get("same") == Some(&Value::Bool(true)) {
        0
    } else if count(report, "differences") + count(report, "unchecked") > 0 {
        DIFFERENT
    } else {
        UNKNOWN
    }
}

fn text(report: &Value) -> String {
    let n = |key: &str| count(report, key);
    let mut text = String::new();
    if n("differences") == 0 {
        let _ = writeln!(text, "no difference in {} entries", n("entries"));
    } else {
        let _ = writeln!(
            text,
            "{} differences in {} entries: {} missing here, {} missing there, {} under another name, {} with other attributes",
            n("differences"),
            n("entries"),
            n("missing_here"),
            n("missing_there"),
            n("name"),
            n("attributes"),
        );
    }
    let found = report.get("shown").and_then(Value::as_array);
    for one in found.into_iter().flatten() {
        line(&mut text, one);
    }
    let shown = found.map_or(0, Vec::len) as u64;
    if n("differences") > shown {
        let _ = writeln!(
            text,
            "  and {} more; --max-shown N names more",
            n("differences") - shown
        );
    }
    if n("unchecked") > 0 {
        let _ = writeln!(
            text,
            "{} further ones looked different once and were not looked at again",
            n("unchecked")
        );
    }
    if n("unsettled") > 0 {
        let _ = writeln!(
            text,
            "{} entries changed all the time: nothing can be said of them",
            n("unsettled")
        );
    }
    if n("newer") > 0 {
        let _ = writeln!(
            text,
            "{} entries were changed after the feed stopped, which is no difference",
            n("newer")
        );
    }
    text
}

fn line(text: &mut String, one: &Value) {
    let word = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
    let _ = write!(text, "  {:<13} {}", word("kind"), word("dn"));
    if !word("there").is_empty() {
        let _ = write!(text, ", there {}", word("there"));
    }
    let names = one.get("attributes").and_then(Value::as_array);
    let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    if !names.is_empty() {
        let _ = write!(text, ": {}", names.join(", "));
    }
    text.push('\n');
}
