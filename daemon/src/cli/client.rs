//! The client side of the control socket: finds the daemon, asks it one thing, reads one line.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::config::{CONTROL_DEFAULT, run_dir};

/// Environment variable that names the control socket where `--control` does not.
pub const CONTROL_VARIABLE: &str = "USHERD_CONTROL";

/// Longest answer: a status of some ten thousand servers.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take; the daemon asks its workers for at most two seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long an upgrade may take: the daemon gives it up sooner.
pub(super) const UPGRADE_PATIENCE: Duration = Duration::from_secs(660);

/// Which daemon is meant.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Control socket of the daemon [default: $USHERD_CONTROL, else /run/usherd/control.sock, else the only daemon of
    /// this user]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

/// Gives a command and says what happened.
pub(super) fn tell(target: &Target, request: &Value, done: &str) -> Result<ExitCode, String> {
    ask(target, request)?;
    super::print(format!("{done}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Asks one thing; the daemon's refusal is an error. Gives the line as it came, and what it says.
pub(super) fn ask(target: &Target, request: &Value) -> Result<(String, Value), String> {
    ask_for(target, request, PATIENCE)
}

/// As [`ask`], with an answer that may take so long.
pub(super) fn ask_for(target: &Target, request: &Value, patience: Duration) -> Result<(String, Value), String> {
    let (path, mut stream) = connect(target)?;
    let shown = path.display().to_string();
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("the daemon at {shown} did not answer within {} s", patience.as_secs())
        }
        _ => format!("the daemon at {shown} went away: {error}"),
    };
    stream.set_read_timeout(Some(patience)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(broken)?;
    let mut line = String::new();
    BufReader::new(stream)
        .take(ANSWER_BYTES_MAX)
        .read_line(&mut line)
        .map_err(broken)?;
    if line.is_empty() {
        return Err(format!("the daemon at {shown} closed the connection without an answer"));
    }
    let answer: Value =
        serde_json::from_str(&line).map_err(|error| format!("what answers at {shown} is not usherd: {error}"))?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok((line, answer));
    }
    let error = answer
        .get("error")
        .and_then(Value::as_str)
        .unwrap_or("the daemon refused without a reason");
    Err(error.to_owned())
}

fn connect(target: &Target) -> Result<(PathBuf, UnixStream), String> {
    let named = target
        .control
        .clone()
        .or_else(|| std::env::var_os(CONTROL_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        return open(&path).map(|stream| (path, stream));
    }
    let usual = Path::new(CONTROL_DEFAULT);
    if usual.exists() {
        return open(usual).map(|stream| (usual.to_owned(), stream));
    }
    let mut alive: Vec<(PathBuf, UnixStream)> = run_dir::sockets()
        .into_iter()
        .filter_map(|path| Some((path.clone(), open(&path).ok()?)))
        .collect();
    match (alive.pop(), alive.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(format!(
            "no daemon is running here: nothing at {CONTROL_DEFAULT}, and no daemon of this user without a \
             configuration file; name its control socket with --control PATH"
        )),
        (Some(last), false) => {
            alive.push(last);
            let list: Vec<String> = alive
                .iter()
                .map(|(path, _)| format!("\n  --control {}", path.display()))
                .collect();
            Err(format!(
                "{} daemons are running; say which:{}",
                alive.len(),
                list.concat()
            ))
        }
    }
}

fn open(path: &Path) -> Result<UnixStream, String> {
    let shown = path.display();
    UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("no daemon at {shown}: there is no such socket"),
        ErrorKind::ConnectionRefused => format!("no daemon at {shown}: the one that made the socket is gone"),
        ErrorKind::PermissionDenied => format!("{shown} is for root and the daemon's own user"),
        _ => format!("{shown}: {error}"),
    })
}
