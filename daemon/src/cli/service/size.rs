//! `usherd service size`: how many helpers a load needs, by Erlang C.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use engine::core::erlang::{HELPERS_MAX, Load, Row};
use engine::core::time::Span;
use serde_json::{Value, json};

use crate::cli;

const EXAMPLES: &str = "\
Examples:
  usherd service size --rate 3000 --time 3ms
  usherd service size --rate 20 --time 400ms --max-wait 100ms --helpers 8..24

Calls come at random, and the times they take vary (M/M/c, Erlang C): where all take equally long they wait half as long.
Measure the time with the helpers as busy as they will be; `usherd status` shows it for a service that runs.";

/// Rows that are shown where none are asked for.
const ROWS_MAX: u32 = 20;

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Size {
    /// Calls per second, on average, in the busiest minutes
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    pub rate: f64,
    /// How long one call takes its helper, on average
    #[arg(long, value_name = "DURATION", value_parser = time)]
    pub time: Duration,
    /// How long 99 of 100 calls may wait for a helper, at most [default: as long as a call takes]
    #[arg(long, value_name = "DURATION", value_parser = cli::duration)]
    pub max_wait: Option<Duration>,
    /// Which numbers of helpers to show: FROM..TO, both included [default: around what is needed]
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub helpers: Option<(u32, u32)>,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("write calls per second, above 0: 3000, 0.5".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = crate::config::values::duration(text)?;
    if time < Duration::from_micros(1) {
        return Err("a call takes at least 1us".into());
    }
    Ok(time)
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let right = || format!("write FROM..TO, 1 to {HELPERS_MAX}: 8..16");
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let to = to.strip_prefix('=').unwrap_or(to);
    let number = |text: &str| {
        text.trim()
            .parse::<u32>()
            .ok()
            .filter(|n| (1..=HELPERS_MAX).contains(n))
    };
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(right()),
    }
}

/// Prints the table; always 0.
pub fn run(args: &Size) -> Result<ExitCode, String> {
    let load = Load {
        rate: args.rate,
        time: args.time.as_secs_f64(),
    };
    let max_wait = args.max_wait.unwrap_or(args.time);
    let enough = load.enough(Span::from_micros(
        u64::try_from(max_wait.as_micros()).unwrap_or(u64::MAX),
    ));
    let (from, to) = args.helpers.unwrap_or_else(|| around(&load, enough));
    let rows: Vec<Row> = (from..=to).map(|helpers| load.row(helpers)).collect();
    let mut text = if args.json {
        as_json(&load, max_wait, enough, &rows).to_string()
    } else {
        table(&load, max_wait, enough, &rows)
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    cli::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// From one that is too few to a little more than enough.
fn around(load: &Load, enough: Option<u32>) -> (u32, u32) {
    let stable = load.stable();
    let last = enough.unwrap_or(stable).max(stable).saturating_add(3).min(HELPERS_MAX);
    let first = (stable - 1).max(1);
    (first.max(last.saturating_sub(ROWS_MAX - 1)), last)
}

fn table(load: &Load, max_wait: Duration, enough: Option<u32>, rows: &[Row]) -> String {
    let mut text = format!(
        "{} calls/s of {}: {:.2} helpers at work on average (Erlangs)\n\n\
         helpers   busy  have to wait   mean wait  99 % wait less than\n",
        load.rate,
        shown(load.time),
        load.erlangs()
    );
    for row in rows {
        let mark = if Some(row.helpers) == enough { "  <- enough" } else { "" };
        let line = match row.waiting {
            Some(waiting) => format!(
                "{:>7}  {:>3.0} %  {:>10.1} %  {:>10}  {:>19}{mark}",
                row.helpers,
                row.utilisation * 100.0,
                waiting.probability * 100.0,
                shown(waiting.mean),
                shown(waiting.p99)
            ),
            None => format!("{:>7}  too few: the queue grows without end", row.helpers),
        };
        let _ = writeln!(text, "{line}");
    }
    let within = shown(max_wait.as_secs_f64());
    let _ = match enough {
        Some(enough) => writeln!(
            text,
            "\nmax = {enough}: at most 85 % busy, and 99 of 100 calls wait no longer than {within}"
        ),
        None => writeln!(
            text,
            "\nnot even {HELPERS_MAX} helpers are enough for 99 of 100 calls to wait no longer than {within}"
        ),
    };
    text
}

fn as_json(load: &Load, max_wait: Duration, enough: Option<u32>, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "helpers": row.helpers,
                "utilisation": row.utilisation,
                "stable": row.waiting.is_some(),
                "wait_probability": row.waiting.map(|waiting| waiting.probability),
                "wait_mean_seconds": row.waiting.map(|waiting| waiting.mean),
                "wait_p99_seconds": row.waiting.map(|waiting| waiting.p99),
            })
        })
        .collect();
    json!({
        "rate": load.rate,
        "time_seconds": load.time,
        "erlangs": load.erlangs(),
        "max_wait_seconds": max_wait.as_secs_f64(),
        "enough": enough,
        "rows": rows,
    })
}

/// A time with three figures and its unit.
fn shown(seconds: f64) -> String {
    let (number, unit) = match seconds {
        _ if seconds <= 0.0 => return "0".into(),
        _ if seconds < 1e-3 => (seconds * 1e6, "us"),
        _ if seconds < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let text = match number {
        _ if number >= 100.0 => format!("{number:.0}"),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(rate: f64, time: f64, max_wait: Duration) -> (Load, Option<u32>, Vec<Row>) {
        let load = Load { rate, time };
        let enough = load.enough(Span::from_micros(u64::try_from(max_wait.as_micros()).unwrap()));
        let (from, to) = around(&load, enough);
        (load, enough, (from..=to).map(|helpers| load.row(helpers)).collect())
    }

    #[test]
    fn the_table_of_the_documentation() {
        let wait = Duration::from_millis(3);
        let (load, enough, rows) = sized(3000.0, 0.003, wait);
        let shown = table(&load, wait, enough, &rows);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/services.md");
        let documented = std::fs::read_to_string(path).expect("docs/services.md");
        assert!(documented.contains(&shown), "docs/services.md does not show\n{shown}");
        assert!(shown.contains("      9  too few"), "{shown}");
        assert!(shown.contains("max = 13:"), "{shown}");
    }

    #[test]
    fn the_object_says_the_same() {
        let wait = Duration::from_millis(3);
        let (load, enough, rows) = sized(3000.0, 0.003, wait);
        let object = as_json(&load, wait, enough, &rows);
        assert_eq!(object["enough"], 13);
        assert_eq!(object["rows"][0]["stable"], false);
        assert_eq!(object["rows"][0]["wait_mean_seconds"], Value::Null);
        let mean = object["rows"][1]["wait_mean_seconds"].as_f64().unwrap();
        assert!((mean - 0.002_006).abs() < 1e-6, "{object}");
    }

    #[test]
    fn loads_at_the_edges_have_a_table_of_bounded_length() {
        for (rate, time) in [(0.001, 0.000_001), (1e9, 1.0), (9_999.0, 1.0), (1.0, 1.0), (500.0, 2.0)] {
            let (load, enough, rows) = sized(rate, time, Duration::ZERO);
            assert!((1..=20).contains(&rows.len()), "{rate} x {time}: {} rows", rows.len());
            let text = table(&load, Duration::ZERO, enough, &rows);
            assert_eq!(enough.is_none(), text.contains("not even 10000"), "{text}");
        }
    }

    #[test]
    fn ranges_and_times() {
        assert_eq!(range("8..16"), Ok((8, 16)));
        assert_eq!(range("8..=16"), Ok((8, 16)));
        assert_eq!(range("12"), Ok((12, 12)));
        for wrong in ["16..8", "0..3", "..", "a..b", "1..10001"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        for (seconds, text) in [
            (0.0, "0"),
            (0.003, "3 ms"),
            (0.000_266, "266 us"),
            (0.012_608, "12.6 ms"),
            (1.5, "1.5 s"),
        ] {
            assert_eq!(shown(seconds), text);
        }
        assert_eq!(shown(0.2), "200 ms");
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("inf").is_err() && rate("0.5").is_ok());
        assert!(time("0s").is_err() && time("3ms").is_ok());
    }
}
