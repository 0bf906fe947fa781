//! Where accounting records go, as the configuration says it: plain values, every default filled in.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::moment::Moment;

/// Everything about one place for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where records go.
    pub sink: SinkPlan,
    /// How many records may wait, at most; one more is not taken.
    pub queue_max: usize,
    /// Where they go when the sink does not take them. None: then they are not acknowledged.
    pub spool: Option<SpoolPlan>,
}

/// See [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkPlan {
    /// A file, or one for each client or day.
    File(FilePlan),
    /// A service is called.
    Service(ServicePlan),
}

/// What records look like in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object for each line.
    Json,
    /// FreeRADIUS's detail format.
    Detail,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    /// Its name.
    pub path: PathTemplate,
    /// What is in it.
    pub format: Format,
    /// Whether a record is on the disk before it is acknowledged. Otherwise it is with the kernel: it survives the end of
    /// this process, but no power cut.
    pub sync: bool,
    /// A file that has so many bytes is put away; 0: none is.
    pub rotate_bytes: u64,
    /// A file that is so old is put away; zero: none is.
    pub rotate_every: Duration,
    /// How many files that were put away are kept.
    pub keep: usize,
    /// The mode of files that are made.
    pub mode: u32,
}

impl Settings {
    /// Whether both write to the same file, or the same for each client or day.
    pub fn is_same_file(&self, other: &Settings) -> bool {
        let path = |plan: &FilePlan| plan.path.path("%", &Moment::new(0));
        match (&self.sink, &other.sink) {
            // Of paths: `a/./b` is `a/b`.
            (SinkPlan::File(one), SinkPlan::File(two)) => path(one) == path(two),
            _ => false,
        }
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its name.
    pub service: String,
    /// What is called, where it is the helper `sql`; none: the service gets the whole record.
    pub statement: Option<Statement>,
    /// Calls at once, at most.
    pub concurrency: usize,
    /// How long one may take.
    pub timeout: Duration,
}

/// A statement of the helper `sql`, and what it is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its name.
    pub name: String,
    /// Fields of a record, in lower case, or attributes.
    pub parameters: Vec<String>,
}

/// The spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolPlan {
    /// Its folder: its alone.
    pub folder: PathBuf,
    /// How many bytes of records it keeps, at most.
    pub bytes_max: u64,
    /// What waits for longer goes to the spool.
    pub after: Duration,
}

/// A path with places: `%Y`, `%m`, `%d`, `%H` (of the moment a record was received, UTC), `%{client}` and `%%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Client,
}

impl PathTemplate {
    /// A path without places.
    pub fn plain(path: &std::path::Path) -> PathTemplate {
        PathTemplate {
            pieces: vec![Piece::Text(path.display().to_string())],
        }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// What stands behind a `%` that is no place.
    pub fn parse(text: &str) -> Result<PathTemplate, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            let (piece, behind) = match after.strip_prefix("{client}") {
                Some(behind) => (Piece::Client, behind),
                None => {
                    let mut chars = after.chars();
                    let piece = match chars.next() {
                        Some('Y') => Piece::Year,
                        Some('m') => Piece::Month,
                        Some('d') => Piece::Day,
                        Some('H') => Piece::Hour,
                        Some('%') => {
                            plain.push('%');
                            rest = chars.as_str();
                            continue;
                        }
                        _ => {
                            let found: String = after.chars().take(10).collect();
                            return Err(format!("%{found}"));
                        }
                    };
                    (piece, chars.as_str())
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(PathTemplate { pieces })
    }

    /// Whether all records go to one file.
    pub fn is_plain(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// What stands before the first place.
    pub fn before_places(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The file of a record of this client and moment. A client's name cannot lead to another folder.
    pub fn path(&self, client: &str, received: &Moment) -> PathBuf {
        let mut path = String::new();
        for piece in &self.pieces {
            // A String takes whatever is written.
            let _ = match piece {
                Piece::Text(text) => path.write_str(text),
                Piece::Year => write!(path, "{:04}", received.year),
                Piece::Month => write!(path, "{:02}", received.month),
                Piece::Day => write!(path, "{:02}", received.day),
                Piece::Hour => write!(path, "{:02}", received.hour),
                Piece::Client => path.write_str(&in_a_path(client)),
            };
        }
        PathBuf::from(path)
    }
}

/// A name that is one part of a path.
fn in_a_path(client: &str) -> String {
    let safe = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let name: String = client.chars().map(safe).take(64).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}
