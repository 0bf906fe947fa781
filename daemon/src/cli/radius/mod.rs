//! `usherd radius …`: what concerns RADIUS.
//!
//! `decode` and `encode` read lines and write lines. A line that is wrong is told on standard error with its number, and the
//! others go on; the exit code says whether all were right. `ask`, `disconnect` and `coa` are clients: one request, sent until it
//! is answered, its answer believed only if its authenticators are right.

mod ask;
mod change;
pub(super) mod credentials;
mod decode;
mod encode;
pub(super) mod exchange;
pub mod run;
mod test;
mod trace;

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use wire::radius::dictionary::Fault;
use wire::radius::{Code, Dictionary, Secret};
use zeroize::Zeroizing;

use super::say;
use crate::config::radius::sources;

/// Longest line that is read: a packet of 4,096 octets has 8,192 hex digits, and at most some 20,000 letters as text.
const LINE_BYTES_MAX: u64 = 256 << 10;
/// Longest file of a dictionary or secret that is read.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// `usherd radius …`.
#[derive(Debug, Subcommand)]
pub enum Radius {
    /// Answer RADIUS in one line, from a list of users
    Run(run::Run),
    /// Try what a configuration answers one request, and see why
    Test(test::Test),
    /// Show what a running daemon does with the requests of one user, device or client
    Trace(trace::Trace),
    /// Print packets, given in hex one on a line of standard input, as attributes
    ///
    /// What is printed is what `encode` takes. Where a request and its reply stand in one input, the reply is read with the
    /// Authenticator of the last request of its identifier.
    Decode(decode::Decode),
    /// Make packets of attributes, given one packet on a line of standard input, and print them in hex
    ///
    /// A line is a code, then `id=N`, for an Access-Request or Status-Server `authenticator=0x…` (random if it is not given), for
    /// a reply `request=0x…`, the Authenticator of its request, then attributes: `Name = value, Name = value`. Nothing is added.
    /// A Message-Authenticator is filled in where it stands, whatever its value.
    Encode(encode::Encode),
    /// Ask a RADIUS server one question, and print its answer
    ///
    /// Ends with 0 for Access-Accept, Accounting-Response and an answer to Status-Server, 1 for Access-Reject, 4 without an answer, 5
    /// for Access-Challenge.
    Ask(Box<ask::Ask>),
    /// Tell an access server to end a user's session (RFC 5176)
    ///
    /// Ends with 0 where it did (Disconnect-ACK), 1 where it did not (Disconnect-NAK, with the reason), 4 without an answer.
    Disconnect(change::Change),
    /// Tell an access server to change what a user's session may do (RFC 5176)
    ///
    /// Ends with 0 where it did (CoA-ACK), 1 where it did not (CoA-NAK, with the reason), 4 without an answer.
    Coa(change::Change),
}

impl Radius {
    /// Does it.
    pub fn run(&self) -> Result<ExitCode, String> {
        match self {
            Radius::Run(args) => Ok(run::run(args)),
            Radius::Test(test) => test.run(),
            Radius::Trace(trace) => trace.run(),
            Radius::Decode(decode) => decode.run(),
            Radius::Encode(encode) => encode.run(),
            Radius::Ask(ask) => ask.run(),
            Radius::Disconnect(change) => change.run(Code::DISCONNECT_REQUEST),
            Radius::Coa(change) => change.run(Code::COA_REQUEST),
        }
    }
}

/// What both directions are told.
#[derive(Args, Debug)]
struct Common {
    /// The file with the shared secret: authenticators are checked or made, and hidden values shown or hidden; one trailing
    /// newline is not part of it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A dictionary in the syntax of FreeRADIUS 3, on top of the one that is built in; may be given several times
    #[arg(long, value_name = "FILE")]
    dictionary: Vec<PathBuf>,
    /// The Authenticator of the request that replies belong to: 32 hex digits
    #[arg(long, value_name = "HEX", value_parser = authenticator)]
    request_authenticator: Option<[u8; 16]>,
}

impl Common {
    fn secret(&self) -> Result<Option<Secret>, String> {
        self.secret_file.as_deref().map(secret).transpose()
    }

    fn dictionary(&self) -> Result<Dictionary, String> {
        dictionary(&self.dictionary)
    }
}

/// A file with a shared secret.
pub(super) fn secret(path: &Path) -> Result<Secret, String> {
    Ok(Secret::new(&secret_octets(path, "a shared secret")?))
}

/// What a file holds but for one newline at its end. `right`: what should be in it.
pub(super) fn secret_octets(path: &Path, right: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut octets = Zeroizing::new(Vec::new());
    read(path, &mut octets).map_err(|error| format!("{}: {error}", path.display()))?;
    for end in [b'\n', b'\r'] {
        if octets.last() == Some(&end) {
            octets.pop();
        }
    }
    if octets.is_empty() {
        return Err(format!("{}: the file is empty; {right} is right", path.display()));
    }
    Ok(octets)
}

/// Ours, and these files on top of it.
fn dictionary(files: &[PathBuf]) -> Result<Dictionary, String> {
    let mut dictionary = Dictionary::standard();
    for path in files {
        let loaded = dictionary.load(&path.display().to_string(), &mut sources::include);
        dictionary = loaded.map_err(|faults| all(&faults))?.dictionary;
    }
    Ok(dictionary)
}

/// Octets that nobody can foretell.
pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut octets = [0; N];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    let filled = source.fill(&mut octets);
    filled.map_err(|_| "the system gives no random numbers".to_string())?;
    Ok(octets)
}

/// Salts for hidden values: one after the other, so that none is the same twice in a packet.
fn salts() -> Result<impl FnMut() -> u16, String> {
    let mut next = u16::from_be_bytes(random()?);
    Ok(move || {
        next = next.wrapping_add(1);
        next
    })
}

fn all(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn read(path: &Path, octets: &mut Vec<u8>) -> io::Result<()> {
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(octets)?;
    if u64::try_from(octets.len()).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(io::Error::other("larger than 8 MiB"));
    }
    Ok(())
}

/// Calls `each` with every line that is neither blank nor a comment; what it says is wrong is told with the line's number.
fn lines(mut each: impl FnMut(&str) -> Result<(), String>) -> Result<ExitCode, String> {
    let (mut input, mut number, mut wrong) = (io::stdin().lock(), 0_u64, false);
    loop {
        let mut line = Zeroizing::new(Vec::new());
        let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("standard input: {error}"))? == 0 {
            return Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        number += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            return Err(format!(
                "line {number}: longer than {LINE_BYTES_MAX} bytes; one packet on each line is right"
            ));
        }
        let told = match std::str::from_utf8(&line).map(str::trim) {
            Err(_) => Err("no UTF-8; hex digits, or attributes with \\ooo for other octets, are right".to_string()),
            Ok(text) if text.is_empty() || text.starts_with('#') => continue,
            Ok(text) => each(text),
        };
        if let Err(what) = told {
            wrong = true;
            say(&format!("usherd: line {number}: {what}"));
        }
    }
}

/// Octets of hex digits, with blanks and colons between them as tools print them.
fn octets_of_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut octets = Vec::with_capacity(text.len() / 2);
    let mut half: Option<u8> = None;
    for (at, c) in text.chars().enumerate() {
        let Some(digit) = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()) else {
            if c == ':' || c.is_whitespace() {
                continue;
            }
            return Err(format!("{c:?} as character {}; a hex digit is right", at + 1));
        };
        match half.take() {
            None => half = Some(digit << 4),
            Some(high) => octets.push(high | digit),
        }
    }
    match half {
        None => Ok(octets),
        Some(_) => Err("an odd number of hex digits; two for each octet are right".to_string()),
    }
}

fn authenticator(text: &str) -> Result<[u8; 16], String> {
    let octets = octets_of_hex(text)?;
    let bytes = octets.len();
    octets
        .try_into()
        .map_err(|_| format!("{bytes} octets; 16, as 32 hex digits, are right"))
}
