//! The connection: made when it is needed, statements prepared once on it, and what went wrong told apart.
//!
//! One connection, one call at a time. What decides after a lost connection is whether the statement was sent: if it was
//! not, or only reads, it is done once more on a new connection; otherwise the answer is `unknown`, or, within a
//! transaction that was not yet committed, `unavailable`, because the server rolls it back.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ciborium::Value;
use mysql::consts::CapabilityFlags;
use mysql::prelude::Queryable;
use mysql::{Column, Conn, Error, MySqlError, Opts, OptsBuilder, Params, Value as Sql};
use zeroize::Zeroizing;

use super::interrupt::Running;
use super::message::{self, Failure, Format, Outcome, Request, Status};
use super::settings::{ResultKind, Settings, Statement, Target};
use super::value;

/// A server that could not be reached is not tried again for so long, so that calls do not queue behind connect timeouts.
const RETRY: Duration = Duration::from_millis(500);
/// The largest password file.
const PASSWORD_BYTES_MAX: usize = 4096;
/// Prepared statements that the driver keeps beyond ours.
const CACHE_BESIDE: usize = 8;

/// The database of one service, as one helper sees it.
pub struct Database {
    settings: Settings,
    open: Option<Open>,
    refused: Option<(Instant, Failure)>,
    running: Arc<Running>,
}

struct Open {
    conn: Conn,
    prepared: BTreeMap<String, mysql::Statement>,
    used: Instant,
}

/// One statement of a call, its parameters checked.
struct Step<'a> {
    name: &'a str,
    statement: &'a Statement,
    parameters: Vec<Sql>,
}

/// Why a step did not end well.
enum Broke {
    /// The server said so; the connection is as good as before.
    Failed(Failure),
    /// The connection is gone.
    Lost(Sent, String),
}

/// How far a statement had come when the connection was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It was not sent.
    Nothing,
    /// It was sent and is not committed: the server rolls it back.
    Uncommitted,
    /// Nobody knows.
    Perhaps,
}

impl Database {
    /// Not yet connected.
    pub fn new(settings: Settings) -> Database {
        Database {
            settings,
            open: None,
            refused: None,
            running: Arc::new(Running::default()),
        }
    }

    /// What is running, for whoever has to stop it.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// What stops a running statement: `KILL QUERY` by a connection of its own.
    pub fn killer(&self) -> impl Fn(u32) -> Result<(), String> + Send + 'static {
        let settings = self.settings.clone();
        move |connection| {
            let mut conn = connect(&settings, false).map_err(|failure| failure.message)?;
            conn.query_drop(format!("KILL QUERY {connection}"))
                .map_err(|error| error.to_string())
        }
    }

    /// Connects and prepares every statement, so that the first calls do not wait for it.
    ///
    /// # Errors
    /// What is wrong, one sentence for each; calls say so too, so it need not end the helper.
    pub fn warm_up(&mut self) -> Result<(), Vec<String>> {
        if let Err(failure) = self.ready() {
            return Err(vec![failure.message]);
        }
        let mut wrong = Vec::new();
        if let Some(open) = &mut self.open {
            for (name, statement) in &self.settings.statements {
                match open.conn.prep(&statement.sql) {
                    Ok(prepared) => {
                        open.prepared.insert(name.clone(), prepared);
                    }
                    Err(error) => wrong.push(format!("the statement {name}: {error}")),
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Answers one call, whatever it says and whatever happens.
    pub fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let answer = match message::read(request) {
            Ok(request) => self.call(&request),
            Err(why) => Err(Failure::new(Status::Invalid, why)),
        };
        let format = Format::of(request);
        let answer = message::write(format, answer);
        if answer.len() > self.settings.answer_bytes_max {
            return message::write(format, Err(too_large(&self.settings)));
        }
        answer
    }

    fn call(&mut self, request: &Request) -> Result<Outcome, Failure> {
        if request.name == "ping" {
            return self.ping();
        }
        let settings = self.settings.clone();
        if let Some(statement) = settings.statements.get(&request.name) {
            let step = bind(&request.name, statement, &request.parameters)?;
            return self.twice(&[step], false);
        }
        let Some(names) = settings.transactions.get(&request.name) else {
            let message = format!("there is no statement and no transaction `{}`", request.name);
            return Err(Failure::new(Status::Invalid, message));
        };
        let steps = bind_all(&settings, names, &request.parameters)?;
        self.twice(&steps, true)
    }

    fn ping(&mut self) -> Result<Outcome, Failure> {
        self.ready()?;
        let alive = self.open.as_mut().map(|open| open.conn.ping());
        if let Some(Err(error)) = alive {
            self.open = None;
            self.ready().map_err(|_| unavailable(&error))?;
        }
        Ok(Outcome::Alive)
    }

    /// Once more on a new connection, where that cannot do anything twice.
    fn twice(&mut self, steps: &[Step<'_>], transaction: bool) -> Result<Outcome, Failure> {
        let only_reads = steps.iter().all(|step| step.statement.read_only);
        let mut first = true;
        loop {
            self.ready()?;
            let Some(open) = &mut self.open else {
                return Err(unavailable(&"no connection"));
            };
            self.running.begin(open.conn.connection_id());
            let result = if transaction {
                together(open, steps, &self.settings, &self.running)
            } else {
                alone(open, steps, &self.settings)
            };
            let killed = self.running.end();
            open.used = Instant::now();
            let (sent, why) = match result {
                Ok(outcome) => {
                    self.after_kill(killed);
                    return Ok(outcome);
                }
                Err(Broke::Failed(failure)) => {
                    self.after_kill(killed);
                    return Err(failure);
                }
                Err(Broke::Lost(sent, why)) => (sent, why),
            };
            self.open = None;
            if first && !killed && (only_reads || sent == Sent::Nothing) {
                first = false;
                continue;
            }
            return Err(lost(sent, &why));
        }
    }

    /// A kill that came too late lies in wait for the connection's next statement: it gets one that harms nobody.
    fn after_kill(&mut self, killed: bool) {
        let Some(open) = self.open.as_mut().filter(|_| killed) else {
            return;
        };
        let _ = open.conn.query_drop("DO 0");
        if open.conn.query_drop("DO 0").is_err() {
            self.open = None;
        }
    }

    /// Sees to it that there is a connection, and that one which was idle for long still lives.
    fn ready(&mut self) -> Result<(), Failure> {
        if let Some(open) = &mut self.open {
            let idle = Duration::from_millis(self.settings.idle_check_ms);
            if open.used.elapsed() < idle {
                return Ok(());
            }
            if open.conn.ping().is_ok() {
                open.used = Instant::now();
                return Ok(());
            }
            self.open = None;
        }
        if let Some((_, failure)) = self.refused.as_ref().filter(|(at, _)| at.elapsed() < RETRY) {
            return Err(failure.clone());
        }
        match connect(&self.settings, true) {
            Ok(conn) => {
                self.refused = None;
                self.open = Some(Open {
                    conn,
                    prepared: BTreeMap::new(),
                    used: Instant::now(),
                });
                Ok(())
            }
            Err(failure) => {
                self.refused = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }
}

fn unavailable(why: &dyn Display) -> Failure {
    Failure::new(Status::Unavailable, format!("the database cannot be asked: {why}"))
}

fn lost(sent: Sent, why: &str) -> Failure {
    match sent {
        Sent::Nothing => unavailable(&why),
        Sent::Uncommitted => Failure::new(
            Status::Unavailable,
            format!("the connection was lost before the transaction was committed, and nothing of it is done: {why}"),
        ),
        Sent::Perhaps => Failure::new(
            Status::Unknown,
            format!("the connection was lost while the statement ran: it may have been done, or not: {why}"),
        ),
    }
}

fn bind<'a>(name: &'a str, statement: &'a Statement, given: &[Value]) -> Result<Step<'a>, Failure> {
    let wanted = &statement.parameters;
    if given.len() != wanted.len() {
        let message = format!("`{name}` takes {} parameters, {} were given", wanted.len(), given.len());
        return Err(Failure::new(Status::BindError, message));
    }
    let bound = wanted.iter().zip(given).enumerate().map(|(index, (wanted, given))| {
        wanted.bind(given).map_err(|why| {
            let message = format!("parameter {} of `{name}`: {why}", index + 1);
            Failure::new(Status::BindError, message)
        })
    });
    Ok(Step {
        name,
        statement,
        parameters: bound.collect::<Result<_, _>>()?,
    })
}

fn bind_all<'a>(settings: &'a Settings, names: &'a [String], given: &[Value]) -> Result<Vec<Step<'a>>, Failure> {
    if given.len() != names.len() {
        let message = format!(
            "this transaction has {} statements: give a list of parameters for each; {} were given",
            names.len(),
            given.len()
        );
        return Err(Failure::new(Status::BindError, message));
    }
    let steps = names.iter().zip(given).enumerate().map(|(index, (name, given))| {
        let of_step = |failure| Failure {
            statement: Some(index),
            ..failure
        };
        let statement = settings
            .statements
            .get(name)
            .ok_or_else(|| of_step(Failure::new(Status::Invalid, format!("there is no statement `{name}`"))))?;
        let Value::Array(given) = given else {
            let message = format!("the parameters of `{name}` are a list");
            return Err(of_step(Failure::new(Status::BindError, message)));
        };
        bind(name, statement, given).map_err(of_step)
    });
    steps.collect()
}

fn alone(open: &mut Open, steps: &[Step<'_>], settings: &Settings) -> Result<Outcome, Broke> {
    let Some(step) = steps.first() else {
        return Err(Broke::Failed(Failure::new(Status::Invalid, "nothing to do")));
    };
    execute(open, step, settings, Sent::Perhaps)
}

fn together(open: &mut Open, steps: &[Step<'_>], settings: &Settings, running: &Running) -> Result<Outcome, Broke> {
    // What cannot be prepared is told before anything is begun.
    for (index, step) in steps.iter().enumerate() {
        prepare(open, step).map_err(|broke| of_step(broke, index))?;
    }
    control(open, "START TRANSACTION", Sent::Nothing)?;
    let mut outcomes = Vec::with_capacity(steps.len());
    let mut bytes = 0;
    for (index, step) in steps.iter().enumerate() {
        let result = execute(open, step, settings, Sent::Uncommitted).and_then(|outcome| {
            bytes += size_of(&outcome);
            if running.killed() {
                Err(Broke::Failed(Failure::new(
                    Status::Interrupted,
                    "interrupted, and rolled back",
                )))
            } else if bytes > settings.answer_bytes_max {
                Err(Broke::Failed(too_large(settings)))
            } else {
                Ok(outcome)
            }
        });
        match result {
            Ok(outcome) => outcomes.push(outcome),
            Err(Broke::Failed(failure)) => {
                roll_back(open, running)?;
                return Err(of_step(Broke::Failed(failure), index));
            }
            Err(lost) => return Err(of_step(lost, index)),
        }
    }
    control(open, "COMMIT", Sent::Perhaps)?;
    Ok(Outcome::All(outcomes))
}

fn of_step(broke: Broke, index: usize) -> Broke {
    match broke {
        Broke::Failed(failure) => Broke::Failed(Failure {
            statement: Some(index),
            ..failure
        }),
        lost => lost,
    }
}

/// A connection that cannot roll back is given up, which has the server do it.
fn roll_back(open: &mut Open, running: &Running) -> Result<(), Broke> {
    let mut result = control(open, "ROLLBACK", Sent::Uncommitted);
    if running.killed() && result.is_err() {
        // The kill hit the roll-back instead of what it was meant for.
        result = control(open, "ROLLBACK", Sent::Uncommitted);
    }
    match result {
        Err(Broke::Failed(failure)) => Err(Broke::Lost(Sent::Uncommitted, failure.message)),
        other => other,
    }
}

fn control(open: &mut Open, sql: &str, sent: Sent) -> Result<(), Broke> {
    open.conn
        .query_drop(sql)
        .map_err(|error| broke(error, Status::ExecuteError, sent))
}

fn prepare(open: &mut Open, step: &Step<'_>) -> Result<mysql::Statement, Broke> {
    if let Some(prepared) = open.prepared.get(step.name) {
        return Ok(prepared.clone());
    }
    let prepared = open
        .conn
        .prep(&step.statement.sql)
        .map_err(|error| broke(error, Status::PrepareError, Sent::Nothing))?;
    if usize::from(prepared.num_params()) != step.parameters.len() {
        let message = format!("the database counts {} parameters", prepared.num_params());
        return Err(Broke::Failed(Failure::new(Status::PrepareError, message)));
    }
    open.prepared.insert(step.name.to_owned(), prepared.clone());
    Ok(prepared)
}

fn execute(open: &mut Open, step: &Step<'_>, settings: &Settings, sent: Sent) -> Result<Outcome, Broke> {
    let prepared = prepare(open, step)?;
    match once(open, &prepared, step, settings) {
        Err(Stopped::Error(Error::MySqlError(error))) if FORGOTTEN.contains(&error.code) => {
            // The server has forgotten the statement and did nothing: it is prepared anew.
            open.prepared.remove(step.name);
            let prepared = prepare(open, step)?;
            once(open, &prepared, step, settings).map_err(|stopped| stopped.broke(sent))
        }
        other => other.map_err(|stopped| stopped.broke(sent)),
    }
}

/// Unknown prepared statement handler; prepared statement needs to be re-prepared.
const FORGOTTEN: [u16; 2] = [1243, 1615];

enum Stopped {
    Error(Error),
    Failure(Failure),
}

impl Stopped {
    fn broke(self, sent: Sent) -> Broke {
        match self {
            Stopped::Error(error) => broke(error, Status::ExecuteError, sent),
            Stopped::Failure(failure) => Broke::Failed(failure),
        }
    }
}

fn once(
    open: &mut Open,
    prepared: &mysql::Statement,
    step: &Step<'_>,
    settings: &Settings,
) -> Result<Outcome, Stopped> {
    let parameters = if step.parameters.is_empty() {
        Params::Empty
    } else {
        Params::Positional(step.parameters.clone())
    };
    let mut result = open.conn.exec_iter(prepared, parameters).map_err(Stopped::Error)?;
    let columns: Vec<Column> = result.columns().as_ref().to_vec();
    let (affected, last_id) = (result.affected_rows(), result.last_insert_id().filter(|id| *id > 0));
    let wanted = match step.statement.result {
        ResultKind::Rows => step.statement.rows_max,
        ResultKind::Row => 1,
        ResultKind::Count => 0,
    };
    let (mut rows, mut found, mut bytes) = (Vec::new(), 0_u64, 0_usize);
    for row in result.iter().into_iter().flatten() {
        let row = row.map_err(Stopped::Error)?;
        found += 1;
        if rows.len() >= wanted || bytes > settings.answer_bytes_max {
            continue;
        }
        let values = row.unwrap_raw().into_iter().zip(&columns);
        let values: Vec<Value> = values
            .map(|(value, column)| value::answer(value.unwrap_or(Sql::NULL), column))
            .collect();
        bytes += row_size(&values);
        rows.push(values);
    }
    // Whatever else a procedure gave is read and dropped here.
    drop(result);
    if bytes > settings.answer_bytes_max {
        return Err(Stopped::Failure(too_large(settings)));
    }
    let count = if columns.is_empty() { affected } else { found };
    let rows_min = match step.statement.result {
        ResultKind::Row => step.statement.rows_min.max(1),
        _ => step.statement.rows_min,
    };
    if count < rows_min {
        let message = match (count, step.statement.result) {
            (0, ResultKind::Count) => "no row was changed".to_owned(),
            (0, _) => "no row was found".to_owned(),
            (count, _) => format!("{count} rows, where at least {rows_min} were wanted"),
        };
        return Err(Stopped::Failure(Failure::new(Status::NotFound, message)));
    }
    let names = || columns.iter().map(|column| column.name_str().into_owned()).collect();
    let more = usize::try_from(found).is_ok_and(|found| found > rows.len());
    Ok(match step.statement.result {
        ResultKind::Rows => Outcome::Rows {
            columns: names(),
            rows,
            more,
        },
        ResultKind::Row => Outcome::Row {
            columns: names(),
            row: rows.pop().unwrap_or_default(),
            more,
        },
        ResultKind::Count => Outcome::Count {
            affected: count,
            last_id,
        },
    })
}

fn too_large(settings: &Settings) -> Failure {
    let message = format!("the answer has more than {} bytes", settings.answer_bytes_max);
    Failure::new(Status::TooLarge, message)
}

fn size_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Rows { rows, .. } => rows.iter().map(|row| row_size(row)).sum(),
        Outcome::Row { row, .. } => row_size(row),
        _ => 0,
    }
}

/// About what a row takes in an answer: bytes and texts as they are, 9 bytes for what has a fixed size.
fn row_size(row: &[Value]) -> usize {
    let sizes = row.iter().map(|value| match value {
        Value::Text(text) => text.len() + 3,
        Value::Bytes(bytes) => bytes.len() + 3,
        _ => 9,
    });
    sizes.sum::<usize>() + 3
}

fn broke(error: Error, status: Status, sent: Sent) -> Broke {
    match error {
        Error::MySqlError(error) => match error.code {
            // Idle for too long (MySQL): told in place of an answer, so nothing was done.
            4031 => Broke::Lost(Sent::Nothing, error.to_string()),
            // The server shuts down, or has killed the connection.
            1053 | 1927 => Broke::Lost(sent, error.to_string()),
            _ => Broke::Failed(refusal(error, status)),
        },
        Error::IoError(error) => Broke::Lost(sent, error.to_string()),
        other => Broke::Lost(sent, other.to_string()),
    }
}

/// What the server's numbers mean.
fn refusal(error: MySqlError, otherwise: Status) -> Failure {
    let status = match error.code {
        // Duplicate entry; with its key's name; a foreign key would duplicate.
        1062 | 1586 | 1761 | 1762 => Status::Exists,
        // Cannot be null, no default, foreign keys, checks (MySQL, MariaDB), too long, out of range, not such a value.
        1048 | 1364 | 1216 | 1217 | 1451 | 1452 | 3819 | 4025 | 1406 | 1264 | 1265 | 1366 | 1292 => Status::Constraint,
        // Interrupted; a time limit of the server's own (MariaDB, MySQL).
        1317 | 1969 | 3024 => Status::Interrupted,
        _ => otherwise,
    };
    Failure {
        code: Some(error.code),
        retry: matches!(error.code, 1205 | 1213),
        ..Failure::new(status, error.message)
    }
}

/// Makes a connection; `whole`: with the service's `init` statements.
fn connect(settings: &Settings, whole: bool) -> Result<Conn, Failure> {
    let timeout = Duration::from_millis(settings.connect_timeout_ms);
    let mut options = OptsBuilder::new()
        .prefer_socket(false)
        .tcp_connect_timeout(Some(timeout))
        .db_name(settings.database.clone())
        .stmt_cache_size(settings.statements.len().saturating_add(CACHE_BESIDE))
        // UPDATE tells how many rows were matched, whether or not they had the new values already.
        .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
        .init(if whole { settings.init.clone() } else { Vec::new() });
    options = match &settings.target {
        Target::Unix(path) => options.socket(path.to_str()),
        Target::Tcp(host, port) => options.ip_or_hostname(Some(host.clone())).tcp_port(*port),
    };
    if !settings.user.is_empty() {
        options = options.user(Some(settings.user.clone()));
    }
    if let Some(password) = password(settings)? {
        options = options.pass(Some(password.as_str()));
    }
    Conn::new(Opts::from(options)).map_err(|error| match error {
        Error::MySqlError(error) => Failure {
            code: Some(error.code),
            ..unavailable(&error.message)
        },
        other => unavailable(&other),
    })
}

fn password(settings: &Settings) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(path) = &settings.password_file else {
        return Ok(None);
    };
    let wrong = |why: &dyn Display| unavailable(&format_args!("the password file {}: {why}", path.display()));
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| wrong(&error))?);
    if bytes.len() > PASSWORD_BYTES_MAX {
        return Err(wrong(&"it has more than 4 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong(&"it is not UTF-8"))?;
    Ok(Some(Zeroizing::new(text.strip_suffix('\n').unwrap_or(text).to_owned())))
}
