//! The log: one line per event, to standard error; for a person on a terminal, as JSON otherwise. Nothing is logged per
//! operation unless the level asks for it.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person: time, level, text, fields.
    Human,
    /// One JSON object per line.
    Json,
    /// `human` when standard error is a terminal, else `json`.
    Auto,
}

/// What is logged: this level and those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What needs a person.
    Error,
    /// What may need one.
    Warn,
    /// Starts, stops, reloads, servers going up and down.
    Info,
    /// Connections.
    Debug,
    /// Every operation. Expensive.
    Trace,
}

/// Starts logging. Called once, at the beginning; a second call changes nothing.
pub fn start(format: Format, level: Level) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let human = match format {
        Format::Human => true,
        Format::Json => false,
        Format::Auto => terminal,
    };
    // An error says that a log has been started already, by a test.
    let _ = if human {
        builder
            .with_target(false)
            .with_ansi(terminal && colours_wanted())
            .try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
}

/// Whether colours are wanted where they are possible (<https://no-color.org>).
pub fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
