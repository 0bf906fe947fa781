//! `[service.NAME.sql]`: what was written about a database and its statements, and what the helper is told.
//!
//! The helper gets its settings as one argument, in JSON, made here once: it never reads the configuration itself, so a
//! file that is being edited cannot stop a helper from starting, and a change of a statement is a change of the program,
//! which a reload takes up by a rolling restart.

use std::collections::BTreeMap;
use std::time::Duration;

use helpers::sql::settings::{RESERVED, RESULTS, ResultKind, Settings, Statement as Checked, Target};
use helpers::sql::value::{KINDS, Parameter};

use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::keys::Kind;
use super::reader::Section;
use super::suggest::nearest;

/// As written.
#[derive(Debug)]
pub struct Sql {
    /// The table.
    pub place: Place,
    url: Option<At<String>>,
    password_file: Option<At<String>>,
    connect_timeout: Option<At<Duration>>,
    idle_check: Option<At<Duration>>,
    init: Option<At<Vec<At<String>>>>,
    statements: Vec<(At<String>, Statement)>,
    transactions: Vec<(At<String>, Transaction)>,
}

/// `[service.NAME.sql.statement.NAME]`.
#[derive(Debug)]
struct Statement {
    place: Place,
    sql: Option<At<String>>,
    parameters: Option<At<Vec<At<String>>>>,
    result: Option<At<ResultKind>>,
    rows_max: Option<At<usize>>,
    rows_min: Option<At<usize>>,
    read_only: Option<At<bool>>,
}

/// `[service.NAME.sql.transaction.NAME]`.
#[derive(Debug)]
struct Transaction {
    place: Place,
    statements: Option<At<Vec<At<String>>>>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const ROWS_MAX: usize = 1000;
/// Linux takes 128 KiB for one argument of a program; some of it is left for what JSON adds.
const SETTINGS_BYTES_MAX: usize = 120 << 10;
/// Statements of one transaction.
const TRANSACTION_MAX: usize = 100;

/// Reads the table.
pub(super) fn read(p: &mut Problems, mut section: Section<'_>) -> Sql {
    let statements = section.named(p, "statement", Kind::SqlStatement);
    let transactions = section.named(p, "transaction", Kind::SqlTransaction);
    let sql = Sql {
        place: section.place.clone(),
        url: section.string(p, "url"),
        password_file: section.string(p, "password_file"),
        connect_timeout: section.duration(p, "connect_timeout", 10 * MILLISECOND, HOUR),
        idle_check: section.duration(p, "idle_check", Duration::ZERO, 24 * HOUR),
        init: section.strings(p, "init"),
        statements: statements
            .into_iter()
            .map(|(name, section)| (name, read_statement(p, section)))
            .collect(),
        transactions: transactions
            .into_iter()
            .map(|(name, section)| (name, read_transaction(p, section)))
            .collect(),
    };
    section.finish(p);
    sql
}

fn read_statement(p: &mut Problems, mut section: Section<'_>) -> Statement {
    let statement = Statement {
        place: section.place.clone(),
        sql: section.string(p, "sql"),
        parameters: section.strings(p, "parameters"),
        result: section.choice(p, "result", &RESULTS, &[]),
        rows_max: section.count(p, "rows_max", 1, 1_000_000),
        rows_min: section.count(p, "rows_min", 0, 1_000_000),
        read_only: section.boolean(p, "read_only"),
    };
    section.finish(p);
    statement
}

fn read_transaction(p: &mut Problems, mut section: Section<'_>) -> Transaction {
    let transaction = Transaction {
        place: section.place.clone(),
        statements: section.strings(p, "statements"),
    };
    section.finish(p);
    transaction
}

/// The helper's settings as its arguments; `answer_bytes_max` is what the service lets an answer have.
pub(super) fn arguments(p: &mut Problems, raw: &Sql, folder: &Folder, answer_bytes_max: usize) -> Option<Vec<String>> {
    let server = server(p, raw);
    let password_file = raw.password_file.as_ref().and_then(|file| {
        files::secret(p, folder, file)?;
        Some(folder.path(&file.value))
    });
    let statements = statements(p, raw);
    let transactions = transactions(p, raw);
    let (target, user, database) = server?;
    let millis = |at: &Option<At<Duration>>, default| {
        at.as_ref()
            .map_or(default, |at| u64::try_from(at.value.as_millis()).unwrap_or(u64::MAX))
    };
    let settings = Settings {
        target,
        user,
        password_file,
        database,
        connect_timeout_ms: millis(&raw.connect_timeout, 5000),
        idle_check_ms: millis(&raw.idle_check, 1000),
        answer_bytes_max,
        init: init(p, raw),
        statements,
        transactions,
    };
    let text = serde_json::to_string(&settings).ok()?;
    if text.len() > SETTINGS_BYTES_MAX {
        p.error(&raw.place, "these statements are too long together")
            .label(format!("{} KiB", text.len() >> 10))
            .help(format!(
                "they may have {} KiB: divide them among services",
                SETTINGS_BYTES_MAX >> 10
            ));
        return None;
    }
    Some(vec!["--settings".to_owned(), text])
}

fn server(p: &mut Problems, raw: &Sql) -> Option<(Target, String, Option<String>)> {
    let Some(url) = &raw.url else {
        if p.absent(&raw.place, "url") {
            p.error(&raw.place, "the database has no `url`").help(
                "write url = \"mysql://USER@unix(/run/mysqld/mysqld.sock)/DATABASE\", or mysql://USER@HOST/DATABASE",
            );
        }
        return None;
    };
    match Target::from_url(&url.value) {
        Ok(found) => {
            if let Target::Tcp(host, _) = &found.0
                && !is_loopback(host)
            {
                p.warning(&url.place, "what the database answers travels in plain text")
                    .label(format!("to {host}"))
                    .help("use a tunnel that ends on this machine (stunnel, WireGuard), or a unix socket");
            }
            Some(found)
        }
        Err(right) => {
            let problem = p.error(&url.place, "this is not the URL of a database");
            problem.help(right);
            // A password may stand in it.
            problem.secret = true;
            None
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn init(p: &mut Problems, raw: &Sql) -> Vec<String> {
    let written = raw.init.as_ref().map(|at| at.value.as_slice()).unwrap_or_default();
    for statement in written {
        if statement.value.to_ascii_lowercase().contains("autocommit") {
            p.error(&statement.place, "`init` cannot change autocommit")
                .help("each statement is a transaction of its own, unless a `transaction` names several");
        }
    }
    written.iter().map(|at| at.value.clone()).collect()
}

fn statements(p: &mut Problems, raw: &Sql) -> BTreeMap<String, Checked> {
    if raw.statements.is_empty() {
        p.error(&raw.place, "no statement can be called")
            .help("add [service.NAME.sql.statement.find] with sql = \"SELECT … WHERE name = ?\"");
    }
    let mut checked = BTreeMap::new();
    for (name, statement) in &raw.statements {
        check_call_name(p, name);
        if let Some(found) = check_statement(p, name, statement) {
            checked.insert(name.value.clone(), found);
        }
    }
    checked
}

fn check_call_name(p: &mut Problems, name: &At<String>) {
    if RESERVED.contains(&name.value.as_str()) {
        p.error(
            &name.place,
            format!("`{}` is a call that every database has", name.value),
        )
        .help("take another name");
    }
}

fn check_statement(p: &mut Problems, name: &At<String>, raw: &Statement) -> Option<Checked> {
    let parameters = parameters(p, raw);
    let Some(sql) = &raw.sql else {
        if p.absent(&raw.place, "sql") {
            p.error(&name.place, format!("the statement `{}` has no `sql`", name.value));
        }
        return None;
    };
    let statement = Checked {
        sql: sql.value.clone(),
        parameters: parameters?,
        result: raw.result.as_ref().map_or(ResultKind::Rows, |at| at.value),
        rows_max: raw.rows_max.as_ref().map_or(ROWS_MAX, |at| at.value),
        rows_min: raw.rows_min.as_ref().map_or(0, |at| at.value as u64),
        read_only: raw.read_only.as_ref().is_some_and(|at| at.value),
    };
    if let Some(rows_max) = raw.rows_max.as_ref().filter(|_| statement.result != ResultKind::Rows) {
        p.error(&rows_max.place, "`rows_max` is for result = \"rows\"")
            .help("leave it out");
    }
    if let Err(why) = statement.check() {
        let what = format!("the statement `{}` cannot be prepared", name.value);
        p.error(&sql.place, what).label(why);
        return None;
    }
    Some(statement)
}

fn parameters(p: &mut Problems, raw: &Statement) -> Option<Vec<Parameter>> {
    let written = raw
        .parameters
        .as_ref()
        .map(|at| at.value.as_slice())
        .unwrap_or_default();
    let mut parameters = Vec::with_capacity(written.len());
    for word in written {
        let Some(parameter) = Parameter::parse(&word.value) else {
            let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
            let problem = p.error(&word.place, format!("unknown type of a parameter \"{}\"", word.value));
            if let Some(near) = nearest(word.value.trim_end_matches('?'), words.iter().copied()) {
                problem.help(format!("did you mean \"{near}\"?"));
            }
            problem.help(format!(
                "it may be {}, with ? behind it where null may be given",
                words.join(", ")
            ));
            continue;
        };
        parameters.push(parameter);
    }
    (parameters.len() == written.len()).then_some(parameters)
}

fn transactions(p: &mut Problems, raw: &Sql) -> BTreeMap<String, Vec<String>> {
    let mut checked = BTreeMap::new();
    for (name, transaction) in &raw.transactions {
        check_call_name(p, name);
        if let Some((same, _)) = raw.statements.iter().find(|(other, _)| other.value == name.value) {
            p.error(&name.place, format!("`{}` is a statement already", name.value))
                .also(&same.place, "here")
                .help("a call names one or the other: take another name");
        }
        let Some(written) = &transaction.statements else {
            if p.absent(&transaction.place, "statements") {
                p.error(
                    &name.place,
                    format!("the transaction `{}` has no `statements`", name.value),
                );
            }
            continue;
        };
        if written.value.is_empty() || written.value.len() > TRANSACTION_MAX {
            p.error(
                &written.place,
                format!("a transaction has 1 to {TRANSACTION_MAX} statements"),
            );
        }
        for statement in &written.value {
            let known = || raw.statements.iter().map(|(name, _)| name.value.as_str());
            if !known().any(|name| name == statement.value) {
                let problem = p.error(&statement.place, format!("there is no statement `{}`", statement.value));
                if let Some(near) = nearest(&statement.value, known()) {
                    problem.help(format!("did you mean \"{near}\"?"));
                }
            }
        }
        checked.insert(
            name.value.clone(),
            written.value.iter().map(|at| at.value.clone()).collect(),
        );
    }
    checked
}
