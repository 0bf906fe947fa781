//! A call as bytes, and its answer: JSON, or CBOR (RFC 8949) for those who asked in CBOR; the first byte tells.
//!
//! ```text
//! {"do":"find","parameters":["alice"]}
//! {"status":"ok","columns":["name","uid"],"rows":[["alice",1000]]}
//! ```

use ciborium::Value;
use ciborium::de::from_reader_with_recursion_limit;

use super::value::to_json;

/// Nesting of a request: a list of lists of `{"base64": …}` is all there is.
const DEPTH_MAX: usize = 16;

/// In which form a request came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Json,
    /// Binary.
    Cbor,
}

/// A request as read, its parameters not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The statement or transaction.
    pub name: String,
    /// What goes with it; for a transaction a list for each statement.
    pub parameters: Vec<Value>,
}

/// How a call ended, as its caller reads it in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Fewer rows than wanted: nothing found, or nothing changed.
    NotFound,
    /// A row with this key exists (MySQL's error 1062 and its like).
    Exists,
    /// The table's rules refuse the data: a foreign key, a check, null, a text too long, a number out of range.
    Constraint,
    /// The parameters do not fit what is declared; nothing was sent.
    BindError,
    /// The database refused to prepare the statement: a missing table, a right not given, a mistake in the SQL.
    PrepareError,
    /// The database refused to execute it.
    ExecuteError,
    /// The answer is larger than allowed. What the statement changed is changed, except in a transaction.
    TooLarge,
    /// The caller's deadline passed or it went away: the statement was stopped (KILL QUERY).
    Interrupted,
    /// The database cannot be reached; nothing was done. Never a verdict.
    Unavailable,
    /// The connection was lost while the statement ran: it may have been done, or not.
    Unknown,
    /// The request makes no sense: no such statement, a missing member.
    Invalid,
}

impl Status {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NotFound => "not-found",
            Status::Exists => "exists",
            Status::Constraint => "constraint",
            Status::BindError => "bind-error",
            Status::PrepareError => "prepare-error",
            Status::ExecuteError => "execute-error",
            Status::TooLarge => "too-large",
            Status::Interrupted => "interrupted",
            Status::Unavailable => "unavailable",
            Status::Unknown => "unknown",
            Status::Invalid => "invalid",
        }
    }
}

/// What a statement gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// `result = "rows"`.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// The rows, each as long as `columns`.
        rows: Vec<Vec<Value>>,
        /// There were more than `rows_max`.
        more: bool,
    },
    /// `result = "row"`.
    Row {
        /// Names of the columns.
        columns: Vec<String>,
        /// The first row.
        row: Vec<Value>,
        /// There were more.
        more: bool,
    },
    /// `result = "count"`.
    Count {
        /// Rows matched or changed.
        affected: u64,
        /// The number that AUTO_INCREMENT gave, if it did.
        last_id: Option<u64>,
    },
    /// A transaction: what each of its statements gave.
    All(Vec<Outcome>),
    /// `ping`.
    Alive,
}

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status, never `Ok`.
    pub status: Status,
    /// For people.
    pub message: String,
    /// The database's own number.
    pub code: Option<u16>,
    /// The database says that the same call may succeed when tried again (a deadlock, a lock wait): nothing was done.
    pub retry: bool,
    /// In a transaction: which of its statements, counted from 0.
    pub statement: Option<usize>,
}

impl Failure {
    /// A failure that the database did not number.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure {
            status,
            message: message.into(),
            code: None,
            retry: false,
            statement: None,
        }
    }
}

impl Format {
    /// What the first byte says. A CBOR request is a map (major type 5), perhaps tagged as CBOR (RFC 8949 section 3.4.6).
    pub fn of(request: &[u8]) -> Format {
        match request.first() {
            Some(0xa0..=0xbf | 0xd9) => Format::Cbor,
            _ => Format::Json,
        }
    }
}

/// Reads a request.
///
/// # Errors
/// What is wrong with it: the text of an `invalid`.
pub fn read(request: &[u8]) -> Result<Request, String> {
    let value: Value = match Format::of(request) {
        Format::Json => serde_json::from_slice(request).map_err(|error| format!("not JSON: {error}"))?,
        Format::Cbor => cbor(request)?,
    };
    let Value::Map(members) = value else {
        return Err("a request is an object: {\"do\": \"NAME\", \"parameters\": [ … ]}".into());
    };
    let (mut name, mut parameters) = (None, None);
    for (key, value) in members {
        match (key.as_text(), value) {
            (Some("do"), Value::Text(text)) if name.is_none() => name = Some(text),
            (Some("do"), _) => return Err("`do` is one text".into()),
            (Some("parameters"), Value::Array(items)) if parameters.is_none() => parameters = Some(items),
            (Some("parameters"), _) => return Err("`parameters` is one list".into()),
            (Some(other), _) => return Err(format!("unknown member `{other}`: there are `do` and `parameters`")),
            (None, _) => return Err("members have names".into()),
        }
    }
    Ok(Request {
        name: name.ok_or("`do` is missing: the name of a statement")?,
        parameters: parameters.unwrap_or_default(),
    })
}

fn cbor(request: &[u8]) -> Result<Value, String> {
    let mut rest = request;
    let value: Value =
        from_reader_with_recursion_limit(&mut rest, DEPTH_MAX).map_err(|error| format!("not CBOR: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the request", rest.len()));
    }
    // The tag 55799 says only that this is CBOR.
    Ok(match value {
        Value::Tag(55799, inner) => *inner,
        other => other,
    })
}

/// Writes an answer.
pub fn write(format: Format, answer: Result<Outcome, Failure>) -> Vec<u8> {
    let members = match answer {
        Ok(outcome) => [pair("status", Status::Ok.word())]
            .into_iter()
            .chain(outcome.members())
            .collect(),
        Err(failure) => failure.members(),
    };
    let value = Value::Map(members);
    match format {
        Format::Json => to_json(&value).into_bytes(),
        Format::Cbor => {
            let mut out = Vec::new();
            // Into a Vec nothing can fail.
            let _ = ciborium::into_writer(&value, &mut out);
            out
        }
    }
}

type Members = Vec<(Value, Value)>;

fn pair(key: &str, value: impl Into<Value>) -> (Value, Value) {
    (key.into(), value.into())
}

fn texts(names: Vec<String>) -> Value {
    Value::Array(names.into_iter().map(Value::Text).collect())
}

impl Outcome {
    fn members(self) -> Members {
        let (mut members, more) = match self {
            Outcome::Rows { columns, rows, more } => {
                let rows = Value::Array(rows.into_iter().map(Value::Array).collect());
                (vec![pair("columns", texts(columns)), pair("rows", rows)], more)
            }
            Outcome::Row { columns, row, more } => (
                vec![pair("columns", texts(columns)), pair("row", Value::Array(row))],
                more,
            ),
            Outcome::Count { affected, last_id } => {
                let mut members = vec![pair("affected", affected)];
                members.extend(last_id.map(|id| pair("last_id", id)));
                (members, false)
            }
            Outcome::All(outcomes) => {
                let results = outcomes.into_iter().map(|one| Value::Map(one.members())).collect();
                (vec![pair("results", Value::Array(results))], false)
            }
            Outcome::Alive => (Vec::new(), false),
        };
        if more {
            members.push(pair("more", true));
        }
        members
    }
}

impl Failure {
    fn members(self) -> Members {
        let mut members = vec![pair("status", self.status.word()), pair("message", self.message)];
        members.extend(self.code.map(|code| pair("code", code)));
        if self.retry {
            members.push(pair("retry", true));
        }
        members.extend(self.statement.map(|index| pair("statement", index as u64)));
        members
    }
}
