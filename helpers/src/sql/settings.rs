//! What the helper is told when it starts: where the database is, and the only statements that callers can name.
//!
//! The daemon checks the configuration, makes these settings of it and hands them over as one JSON text. No secret is in
//! them: the password stays in its file, which is read anew for each connection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::value::Parameter;

/// Settings of one `sql` service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the server listens.
    pub target: Target,
    /// As whom; empty: as nobody, which servers rarely allow.
    pub user: String,
    /// The file of the password, read at each connect (one trailing newline removed).
    pub password_file: Option<PathBuf>,
    /// The schema that unqualified names are in.
    pub database: Option<String>,
    /// Longest time for a connection to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// A connection that was idle for longer is asked whether it still lives before it is used, in milliseconds.
    pub idle_check_ms: u64,
    /// Largest answer, in bytes of its values; what is larger is `too-large`.
    pub answer_bytes_max: usize,
    /// Statements sent once on each new connection (`SET time_zone = '+00:00'`).
    pub init: Vec<String>,
    /// What can be called, by name.
    pub statements: BTreeMap<String, Statement>,
    /// Statements done together or not at all, by name.
    pub transactions: BTreeMap<String, Vec<String>>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port, in plain text.
    Tcp(String, u16),
}

/// One named statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// One SQL statement with `?` where parameters go.
    pub sql: String,
    /// The type of each `?`, in order.
    pub parameters: Vec<Parameter>,
    /// What is answered.
    pub result: ResultKind,
    /// Rows answered at most; of more, `more` tells.
    pub rows_max: usize,
    /// With fewer rows (found, or changed) the answer is `not-found`, and a transaction is rolled back.
    pub rows_min: u64,
    /// It changes nothing: may be done once more after a connection was lost under it.
    pub read_only: bool,
}

/// What a statement answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultKind {
    /// All rows, perhaps none.
    Rows,
    /// The first row; `not-found` where there is none.
    Row,
    /// How many rows were matched or changed.
    Count,
}

/// The words of `result`.
pub const RESULTS: [(&str, ResultKind); 3] = [
    ("rows", ResultKind::Rows),
    ("row", ResultKind::Row),
    ("count", ResultKind::Count),
];

/// Calls that every `sql` service knows; no statement may have such a name.
pub const RESERVED: [&str; 1] = ["ping"];

impl Target {
    /// Reads `mysql://[USER@]HOST[:PORT][/DATABASE]` or `mysql://[USER@]unix(PATH)[/DATABASE]`: target, user, database.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn from_url(url: &str) -> Result<(Target, String, Option<String>), String> {
        const RIGHT: &str = "write mysql://USER@HOST:3306/DATABASE or mysql://USER@unix(/path/of.sock)/DATABASE";
        let rest = ["mysql://", "mariadb://"]
            .into_iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or(RIGHT)?;
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (user, rest),
            None => ("", rest),
        };
        if user.contains(':') {
            return Err(
                "a password does not stand in a URL: put it into a file and name that, password_file = \"…\"".into(),
            );
        }
        let (target, database) = if let Some(rest) = rest.strip_prefix("unix(") {
            let (path, rest) = rest.split_once(')').ok_or(RIGHT)?;
            if !path.starts_with('/') {
                return Err("the path of the socket begins with /".into());
            }
            (Target::Unix(path.into()), rest)
        } else {
            let (address, database) = match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            (tcp(address).ok_or(RIGHT)?, database)
        };
        let database = match database.strip_prefix('/') {
            None if !database.is_empty() => return Err(RIGHT.into()),
            Some(name) if name.contains(['/', '?', '#']) => {
                return Err("behind the database nothing follows: what else there is to set has a setting".into());
            }
            Some(name) if !name.is_empty() => Some(name.to_owned()),
            _ => None,
        };
        Ok((target, user.to_owned(), database))
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn tcp(address: &str) -> Option<Target> {
    const PORT: u16 = 3306;
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (
            host,
            if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':')?)
            },
        )
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '(' | ')' | '?' | '#');
    (!host.is_empty() && !host.contains(wrong)).then(|| Target::Tcp(host.to_owned(), port))
}

impl Statement {
    /// What is wrong with it as a whole, if anything: placeholders and parameters must be as many.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let found = placeholders(&self.sql)?;
        if found != self.parameters.len() {
            return Err(format!(
                "it has {found} placeholder{} (?) and {} parameter{}",
                if found == 1 { "" } else { "s" },
                self.parameters.len(),
                if self.parameters.len() == 1 { "" } else { "s" },
            ));
        }
        let word = first_word(&self.sql);
        if STATEFUL.contains(&word.as_str()) {
            return Err(format!(
                "{word} would change the connection for everybody's later calls: use a transaction, or `init`"
            ));
        }
        if self.read_only && WRITING.contains(&word.as_str()) {
            return Err(format!("it is called read-only, but begins with {word}"));
        }
        Ok(())
    }
}

const WRITING: [&str; 10] = [
    "INSERT", "UPDATE", "DELETE", "REPLACE", "TRUNCATE", "DROP", "ALTER", "CREATE", "CALL", "LOAD",
];

/// What would outlive the call on a connection that all callers share.
const STATEFUL: [&str; 10] = [
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "USE",
    "LOCK",
    "UNLOCK",
    "XA",
];

fn first_word(sql: &str) -> String {
    sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(')
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect::<String>()
        .to_ascii_uppercase()
}

/// Counts `?` outside of texts, quoted names and comments.
///
/// # Errors
/// A text or comment has no end, or a second statement follows: only one can be prepared.
pub fn placeholders(sql: &str) -> Result<usize, String> {
    let mut count = 0;
    let mut ended = false;
    let mut rest = sql.chars();
    let mut empty = true;
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' | '`' => skip_quoted(&mut rest, c)?,
            '#' => {
                skip_line(&mut rest);
                continue;
            }
            '-' if is_comment(rest.as_str()) => {
                skip_line(&mut rest);
                continue;
            }
            '/' if rest.as_str().starts_with('*') => {
                let end = rest.as_str().find("*/").ok_or("a comment (/*) has no end")?;
                rest = rest.as_str().get(end + 2..).unwrap_or_default().chars();
                continue;
            }
            ';' => {
                ended = true;
                continue;
            }
            c if c.is_whitespace() => continue,
            ':' if rest.as_str().starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) => {
                return Err("parameters have no names here: write ? for each".into());
            }
            '?' => count += 1,
            _ => {}
        }
        if ended {
            return Err("it has more than one statement (;): give each a name, and name both in a transaction".into());
        }
        empty = false;
    }
    if empty {
        return Err("it is empty".into());
    }
    Ok(count)
}

/// MySQL's `-- ` needs something blank behind it.
fn is_comment(rest: &str) -> bool {
    rest.strip_prefix('-')
        .is_some_and(|rest| rest.chars().next().is_none_or(char::is_whitespace))
}

fn skip_line(rest: &mut std::str::Chars<'_>) {
    let _ = rest.find(|c| *c == '\n');
}

fn skip_quoted(rest: &mut std::str::Chars<'_>, quote: char) -> Result<(), String> {
    while let Some(c) = rest.next() {
        if c == '\\' && quote != '`' {
            rest.next();
        } else if c == quote {
            // A doubled quote begins the next piece of the same text, which is skipped in the same way.
            return Ok(());
        }
    }
    Err(format!("a text in {quote} has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_target_user_and_database() {
        let unix = Target::Unix("/run/mysqld/mysqld.sock".into());
        assert_eq!(
            Target::from_url("mysql://usherd@unix(/run/mysqld/mysqld.sock)/users"),
            Ok((unix, "usherd".into(), Some("users".into())))
        );
        assert_eq!(
            Target::from_url("mariadb://db.example.com"),
            Ok((Target::Tcp("db.example.com".into(), 3306), String::new(), None))
        );
        assert_eq!(
            Target::from_url("mysql://a@[::1]:33/x"),
            Ok((Target::Tcp("::1".into(), 33), "a".into(), Some("x".into())))
        );
        assert_eq!(
            Target::from_url("mysql://a@[::1]/"),
            Ok((Target::Tcp("::1".into(), 3306), "a".into(), None))
        );
        for wrong in [
            "postgres://a@b/c",
            "mysql://",
            "mysql://a@/x",
            "mysql://a@h:0/x",
            "mysql://a@h:x/x",
            "mysql://a@unix(relative)/x",
            "mysql://a@unix(/x",
            "mysql://a@unix(/x)y",
            "mysql://a@h/x/y",
            "mysql://a@h/x?ssl=1",
            "mysql://a@[::1/x",
        ] {
            assert!(Target::from_url(wrong).is_err(), "{wrong}");
        }
        let told = Target::from_url("mysql://a:secret@h/x").unwrap_err();
        assert!(told.contains("password_file") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn placeholders_are_counted_where_they_are_meant() {
        for (sql, count) in [
            ("SELECT 1", 0),
            ("SELECT a FROM t WHERE b = ? AND c IN (?, ?)", 3),
            ("SELECT '?', \"?\", `?`, 'it''s ?', 'a\\'?' FROM t WHERE b = ?", 1),
            ("SELECT ? -- or ?\n, ?", 2),
            ("SELECT ? # or ?\n, ?", 2),
            ("SELECT /* ? */ ?", 1),
            ("SELECT 1-?", 1),
            ("SELECT 1--?", 1),
            ("SELECT ?;", 1),
            ("SELECT ? ; -- done?", 1),
            ("SELECT @a := ?, ':x'", 1),
        ] {
            assert_eq!(placeholders(sql), Ok(count), "{sql}");
        }
        for wrong in [
            "SELECT '?",
            "SELECT /* ?",
            "SELECT :name",
            "SELECT 1; SELECT 2",
            "",
            "  ",
            "# nothing",
        ] {
            assert!(placeholders(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_statement_that_does_not_fit_is_told() {
        let statement = |sql: &str, parameters: &[&str], read_only| Statement {
            sql: sql.into(),
            parameters: parameters.iter().map(|text| Parameter::parse(text).unwrap()).collect(),
            result: ResultKind::Rows,
            rows_max: 10,
            rows_min: 0,
            read_only,
        };
        assert_eq!(statement("SELECT ?", &["string"], true).check(), Ok(()));
        assert_eq!(
            statement("SELECT ?", &[], true).check().unwrap_err(),
            "it has 1 placeholder (?) and 0 parameters"
        );
        assert!(statement("  update t set a = ?", &["string"], true).check().is_err());
        assert!(statement("set autocommit = 0", &[], false).check().is_err());
        assert_eq!(statement("UPDATE t SET a = ?", &["string"], false).check(), Ok(()));
    }

    #[test]
    fn settings_survive_their_journey_as_json() {
        let settings = Settings {
            target: Target::Tcp("h".into(), 1),
            user: "u".into(),
            password_file: Some("/p".into()),
            database: None,
            connect_timeout_ms: 1,
            idle_check_ms: 2,
            answer_bytes_max: 3,
            init: vec!["SET x = 1".into()],
            statements: BTreeMap::from([(
                "find".into(),
                Statement {
                    sql: "SELECT ?".into(),
                    parameters: vec![Parameter::parse("decimal?").unwrap()],
                    result: ResultKind::Row,
                    rows_max: 1,
                    rows_min: 0,
                    read_only: true,
                },
            )]),
            transactions: BTreeMap::from([("both".into(), vec!["find".into(), "find".into()])]),
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains("\"decimal?\""), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    }
}
