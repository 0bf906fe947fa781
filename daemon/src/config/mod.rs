//! Configuration: from what a person wrote to the [`Plan`] that the daemon runs.
//!
//! text → `reader` (typed, keeps places, never stops at a mistake) → [`raw`] (what was written) → `check` (names
//! resolved, defaults filled in, files read) → [`plan`]. All mistakes are found in one pass and shown together
//! ([`diagnostic`]). The one-line commands enter at `raw`. Nothing after the plan reads configuration text.

mod check;
mod check_assertion;
mod check_audit;
mod check_bind;
mod check_dbus;
mod check_directory;
mod check_feed;
mod check_health;
mod check_kerberos;
mod check_limits;
mod check_lockout;
mod check_monitor;
mod check_nss;
mod check_process;
mod check_proxy;
mod check_rpc;
mod check_service;
mod check_sink;
mod check_srv;
mod check_tcp;
mod check_tls;
pub mod diagnostic;
pub mod files;
mod helper_dbus;
mod identity_helpers;
pub mod keys;
mod limits;
pub mod one_line;
pub mod plan;
mod plan_bind;
mod plan_check;
mod plan_feed;
mod plan_service;
pub mod radius;
mod radius_keys;
pub mod raw;
pub mod raw_feed;
pub mod raw_nss;
mod raw_server;
mod raw_service;
mod raw_sink;
mod reader;
pub mod routing;
pub mod run_dir;
pub mod sasl;
mod sql;
pub mod srv;
pub mod suggest;
#[cfg(test)]
mod tests;
pub mod values;

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use check::CONTROL_DEFAULT;
pub use diagnostic::{Diagnostic, Severity, render};
pub use plan::Plan;

use diagnostic::{Place, Problems, Source};
use files::Folder;

/// Longest configuration file: beyond it, it is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a configuration file: the plan and what is doubtful about it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file, warnings included.
pub fn load(path: &Path) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let name = path.display();
    let cannot = |why: String| {
        vec![Diagnostic::error(format!(
            "the configuration {name} cannot be read: {why}"
        ))]
    };
    let metadata = std::fs::metadata(path).map_err(|error| {
        let mut found = cannot(files::plain(&error));
        if let Some(first) = found.first_mut() {
            first.help("name it with -c FILE; `usherd demo` and `usherd ldap run` need none");
        }
        found
    })?;
    if metadata.is_dir() {
        return Err(cannot("it is a folder".into()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(cannot("it has more than 16 MiB".into()));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(files::plain(&error)))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        cannot(format!("line {line} is not UTF-8"))
    })?;
    from_text(&text, path)
}

/// The same from a text; `origin` is the file that it stands for: its name in messages, and the folder of relative paths.
///
/// # Errors
/// As [`load`].
pub fn from_text(text: &str, origin: &Path) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let source = Source {
        name: origin.display().to_string(),
        text: text.to_owned(),
    };
    let mut problems = Problems::new(Some(Arc::new(source)));
    let (table, broken) = DeTable::parse_recoverable(text);
    let raw = raw::read(&mut problems, table.get_ref());
    if !is_toml(&mut problems, &broken) {
        return Err(problems.into_list());
    }
    match finish(&mut problems, &raw, origin.parent().unwrap_or(Path::new(""))) {
        Some(plan) => Ok((plan, problems.into_list())),
        None => Err(problems.into_list()),
    }
}

/// Records where a text is no TOML. What stands behind the first such place may have been misread, and is not told.
fn is_toml(problems: &mut Problems, broken: &[toml::de::Error]) -> bool {
    let spans = broken.iter().filter_map(toml::de::Error::span);
    if let Some(first) = spans.map(|span| span.start).min() {
        problems.keep_before(first);
    }
    for error in broken {
        let place = error.span().map_or(Place::Nowhere, Place::Text);
        problems.error(&place, format!("this is not TOML: {}", error.message()));
    }
    broken.is_empty()
}

fn finish(problems: &mut Problems, raw: &raw::Raw, folder: &Path) -> Option<Plan> {
    check::check(problems, raw, &Folder::new(folder))
}
