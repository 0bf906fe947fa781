//! `usherd check`: every mistake of a file at once; with `--probe`, whether its servers answer.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigFile, check_helpers, probe};
use crate::config::{self, Diagnostic, Severity};

/// The flags.
#[derive(Args, Debug)]
pub struct Check {
    /// The file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// Also connect to each server, bind where a bind DN is given, and read its root entry
    #[arg(long)]
    pub probe: bool,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

/// Checks; 0 when the daemon would start, 1 when not, and 1 when a probed server cannot be used.
pub(super) fn run(args: &Check) -> ExitCode {
    let (plan, mut found) = match config::load(&args.file.config) {
        Ok((plan, warnings)) => (Some(plan), warnings),
        Err(found) => (None, found),
    };
    if let Some(plan) = &plan {
        found.extend(check_helpers::doubts(plan));
    }
    let probes = match &plan {
        Some(plan) if args.probe => probe::all(plan),
        _ => Vec::new(),
    };
    let sound = plan.is_some() && probes.iter().all(|probe| probe.outcome.is_ok());
    let printed = if args.json {
        let object = json!({
            "ok": sound,
            "found": found.iter().map(as_json).collect::<Vec<_>>(),
            "probes": probes.iter().map(probe::Probe::as_json).collect::<Vec<_>>(),
        });
        super::print(format!("{object}\n").as_bytes())
    } else {
        super::show(&found);
        let mut text: String = probes.iter().map(|probe| format!("{probe}\n")).collect();
        if plan.is_some() {
            let and = if args.probe && !sound {
                ", but not every server can be used"
            } else {
                ""
            };
            text.push_str(&format!("{} is right{and}\n", args.file.config.display()));
        }
        super::print(text.as_bytes())
    };
    if let Err(message) = printed {
        super::say(&format!("usherd: {message}"));
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn as_json(one: &Diagnostic) -> Value {
    let position = one.position();
    json!({
        "severity": if one.severity == Severity::Error { "error" } else { "warning" },
        "message": one.message,
        "line": position.map(|(line, _)| line),
        "column": position.map(|(_, column)| column),
        "label": one.label,
        "help": one.help,
    })
}
