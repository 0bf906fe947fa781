//! The figures as entries of LDAP: a label that names something is an entry, one that says of which kind a figure is becomes
//! part of its attribute's name.
//!
//! ```text
//!   usherd_clients                                         cn=usherd,cn=monitor                   usherdClients
//!   usherd_upstream_pending{directory,server,tier}         cn=SERVER,cn=DIRECTORY,cn=directories  usherdUpstreamPending, usherdTier
//!   usherd_operations_total{directory,class,result}        cn=DIRECTORY,cn=directories            usherdOperationsTotalSearchSuccess
//!   usherd_operation_seconds_sum{directory}                                                       usherdOperationMicrosecondsSum
//!   usherd_operation_seconds_bucket{directory,le="0.0001"}                                        usherdOperationMicrosecondsBucketLe100
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::directory::Directory;
use engine::session::ldap::monitor::BASE;
use wire::ldap::dn;

use super::page::{Figure, Value};
use crate::admin::snapshot::Snapshot;

/// Labels that name something, and the entry below which all of its kind are; none: below what the labels before it name.
const NAMES: [(&str, Option<&str>); 10] = [
    ("address", Some("listeners")),
    ("listener", Some("listeners")),
    ("directory", Some("directories")),
    ("file", Some("files")),
    ("service", Some("services")),
    ("feed", Some("feeds")),
    ("worker", Some("workers")),
    ("server", None),
    ("backend", None),
    ("client", None),
];
/// The same, numbers.
const NUMBERED: [&str; 2] = ["pid", "shard"];
/// Labels that say more of something, as attributes whose values are words.
const WORDS: [&str; 3] = ["version", "protocol", "directory"];
/// And one whose values are numbers.
const TIER: &str = "tier";
/// No attribute of a directory has a longer name.
const NAME_BYTES_MAX: usize = 64;

/// Attributes by name; each has one value.
type Attributes = BTreeMap<String, String>;
/// Entries by their names from the top down, as [`keys`] has them.
type Entries = BTreeMap<Vec<String>, Entry>;

struct Entry {
    /// Its own name, as it is written.
    own: String,
    attributes: Attributes,
}

impl Entry {
    fn new(own: String) -> Entry {
        Entry {
            own,
            attributes: Attributes::new(),
        }
    }
}

/// The figures as a directory, made at this time, in microseconds since 1970.
///
/// # Errors
/// A defect: what was written here cannot be read.
pub fn directory(snapshot: &Snapshot, at_micros: u64) -> Result<Directory, String> {
    let mut entries = Entries::new();
    let page = super::page(snapshot);
    for figure in page.figures() {
        add(&mut entries, figure);
    }
    let text = ldif(&entries);
    Directory::of_figures(text.as_bytes(), BASE, at_micros, is_number).map_err(|error| error.to_string())
}

/// Of the attributes that are written here.
fn is_number(attribute: &str) -> bool {
    attribute.starts_with("usherd") && !WORDS.iter().any(|word| attribute == camel("usherd", word))
}

fn add(entries: &mut Entries, figure: &Figure) {
    let (mut path, mut said, mut kinds) = (Vec::new(), Attributes::new(), String::new());
    for (label, text) in &figure.labels {
        let named = NAMES.iter().find(|(name, _)| name == label);
        match named {
            Some((_, Some(all))) if path.is_empty() => path.extend([(*all).to_owned(), text.clone()]),
            Some((_, None)) if !path.is_empty() => path.push(text.clone()),
            _ if NUMBERED.contains(label) && !path.is_empty() => path.push(text.clone()),
            _ if WORDS.contains(label) || *label == TIER => {
                if !text.is_empty() {
                    said.insert(camel("usherd", label), text.clone());
                }
            }
            _ if *label == "le" => kinds.push_str(&format!("Le{}", bound(text))),
            _ => kinds = camel(&kinds, text),
        }
    }
    let value = match figure.value {
        Value::Count(count) => count.to_string(),
        Value::Micros(micros) => micros.to_string(),
    };
    let name = attribute(&figure.name) + &kinds;
    for above in 1..path.len() {
        let own = path.get(above - 1).cloned().unwrap_or_default();
        entries
            .entry(keys(path.get(..above).unwrap_or_default()))
            .or_insert_with(|| Entry::new(own));
    }
    let own = path.last().cloned().unwrap_or_default();
    let entry = entries.entry(keys(&path)).or_insert_with(|| Entry::new(own));
    entry.attributes.extend(said);
    if name.len() <= NAME_BYTES_MAX {
        entry.attributes.insert(name, value);
    }
}

/// Names that a directory would take for the same are the same.
fn keys(path: &[String]) -> Vec<String> {
    let one = |name: &String| match name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase() {
        empty if empty.is_empty() => "-".to_owned(),
        name => name,
    };
    path.iter().map(one).collect()
}

/// What a figure is called. Parts of seconds are told in microseconds, which are whole numbers.
fn attribute(figure: &str) -> String {
    let figure = figure.strip_prefix("usherd_").unwrap_or(figure);
    let whole = ["_seconds_sum", "_seconds_bucket"]
        .iter()
        .any(|end| figure.ends_with(end));
    let figure = if whole {
        figure.replace("_seconds_", "_microseconds_")
    } else {
        figure.to_owned()
    };
    camel("usherd", &figure)
}

/// `ms-chap` and `not_found` behind a name: `MsChap`, `NotFound`.
fn camel(before: &str, text: &str) -> String {
    let mut name = before.to_owned();
    for part in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut chars = part.chars();
        name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    name
}

/// The bound of a bucket in microseconds.
fn bound(seconds: &str) -> String {
    let (whole, parts) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = format!("{whole}{parts:0<6}");
    digits
        .parse::<u64>()
        .map_or_else(|_| "Inf".to_owned(), |micros| micros.to_string())
}

fn ldif(entries: &Entries) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for (path, entry) in entries {
        let above = path
            .iter()
            .rev()
            .map(|name| format!("cn={},", dn::escape(name.as_bytes())));
        let name = format!("{}{BASE}", above.collect::<String>());
        let own = match (path.last(), entry.own.trim()) {
            (None, _) => "usherd",
            (Some(key), "") => key,
            (Some(_), own) => own,
        };
        // Whatever is in a name, base64 carries it. A String takes whatever is written.
        let _ = write!(
            text,
            "dn:: {}\nobjectClass: top\nobjectClass: usherdFigures\ncn:: {}\n",
            BASE64_STANDARD.encode(name),
            BASE64_STANDARD.encode(own)
        );
        for (attribute, value) in &entry.attributes {
            let _ = writeln!(text, "{attribute}:: {}", BASE64_STANDARD.encode(value));
        }
        text.push('\n');
    }
    text
}
