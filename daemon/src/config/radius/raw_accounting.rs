//! What a person wrote about the accounting of a RADIUS listener: `accounting = "discard"`, or a table.

use std::time::Duration;

use super::super::diagnostic::{At, Place, Problems};
use super::super::keys::Kind;
use super::super::reader::Section;
use super::super::values::DURATION_MAX;
use crate::accounting::plan::Format;

/// `accounting`, as written.
#[derive(Debug)]
pub enum Accounting {
    /// `"discard"`.
    Discard,
    /// A table.
    Write(Box<Table>),
}

/// See `accounting::plan` for each.
#[derive(Debug)]
pub struct Table {
    /// The table.
    pub place: Place,
    /// Every setting that is written, and where.
    pub written: Vec<(&'static str, Place)>,
    /// `file`.
    pub file: Option<At<String>>,
    /// `format`.
    pub format: Option<At<Format>>,
    /// `sync`.
    pub sync: Option<At<bool>>,
    /// `rotate_bytes`.
    pub rotate_bytes: Option<At<usize>>,
    /// `rotate_every`.
    pub rotate_every: Option<At<Duration>>,
    /// `keep`.
    pub keep: Option<At<usize>>,
    /// `mode`.
    pub mode: Option<At<u32>>,
    /// `service`.
    pub service: Option<At<String>>,
    /// `statement`.
    pub statement: Option<At<String>>,
    /// `parameters`.
    pub parameters: Option<At<Vec<At<String>>>>,
    /// `concurrency`.
    pub concurrency: Option<At<usize>>,
    /// `timeout`.
    pub timeout: Option<At<Duration>>,
    /// `queue_max`.
    pub queue_max: Option<At<usize>>,
    /// `spool`.
    pub spool: Option<At<bool>>,
    /// `spool_max_bytes`.
    pub spool_max_bytes: Option<At<usize>>,
    /// `spool_after`.
    pub spool_after: Option<At<Duration>>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// A file that is put away has room for a few records at least.
const ROTATE_BYTES_MIN: usize = 64 << 10;
const TIB: usize = 1 << 40;

/// Reads `accounting` of a listener. None: it is not written, or what is written cannot be read.
pub fn read(p: &mut Problems, listen: &mut Section<'_>) -> Option<Accounting> {
    if listen.is_text("accounting") {
        listen.choice(p, "accounting", &[("discard", ())], &[])?;
        return Some(Accounting::Discard);
    }
    let section = listen.section(p, "accounting", Kind::Accounting)?;
    Some(Accounting::Write(Box::new(read_table(p, section))))
}

/// Reads the table.
pub fn read_table(p: &mut Problems, mut section: Section<'_>) -> Table {
    const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("detail", Format::Detail)];
    let written = Kind::Accounting.keys().iter().filter(|key| section.has(key));
    let written = written.map(|key| (*key, section.place_of(key))).collect();
    let table = Table {
        place: section.place.clone(),
        written,
        file: section.string(p, "file"),
        format: section.choice(p, "format", &FORMATS, &[]),
        sync: section.boolean(p, "sync"),
        rotate_bytes: section.size(p, "rotate_bytes", 0, TIB),
        rotate_every: section.duration(p, "rotate_every", Duration::ZERO, DURATION_MAX),
        keep: section.count(p, "keep", 1, 1000),
        mode: section.mode(p, "mode"),
        service: section.string(p, "service"),
        statement: section.string(p, "statement"),
        parameters: section.strings(p, "parameters"),
        concurrency: section.count(p, "concurrency", 1, 1000),
        timeout: section.duration(p, "timeout", 10 * MILLISECOND, HOUR),
        queue_max: section.count(p, "queue_max", 16, 10_000_000),
        spool: section.boolean(p, "spool"),
        spool_max_bytes: section.size(p, "spool_max_bytes", 1 << 20, 1024 * TIB),
        spool_after: section.duration(p, "spool_after", 10 * MILLISECOND, HOUR),
    };
    let small = |at: &&At<usize>| (1..ROTATE_BYTES_MIN).contains(&at.value);
    if let Some(size) = table.rotate_bytes.as_ref().filter(small) {
        p.error(&size.place, "`rotate_bytes` is too small to be of use")
            .label(format!("found {} bytes", size.value))
            .help("it may be 64KiB or more, or 0 for no bound");
    }
    section.finish(p);
    table
}
