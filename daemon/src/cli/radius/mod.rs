//! `usherd radius …`: what concerns RADIUS.
//!
//! `decode` and `encode` read lines and write lines. A line that is wrong is told on standard error with its number, and the
//! others go on; the exit code says whether all were right.

mod decode;
mod encode;

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use wire::radius::dictionary::{Fault, Source};
use wire::radius::{Dictionary, Secret};
use zeroize::Zeroizing;

use super::say;

/// Longest line that is read: a packet of 4,096 octets has 8,192 hex digits, and at most some 20,000 letters as text.
const LINE_BYTES_MAX: u64 = 256 << 10;
/// Longest file of a dictionary or secret that is read.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// `usherd radius …`.
#[derive(Debug, Subcommand)]
pub enum Radius {
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
}

impl Radius {
    /// Does it.
    pub fn run(&self) -> Result<ExitCode, String> {
        match self {
            Radius::Decode(decode) => decode.run(),
            Radius::Encode(encode) => encode.run(),
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
        let Some(path) = &self.secret_file else {
            return Ok(None);
        };
        let mut octets = Zeroizing::new(Vec::new());
        read(path, &mut octets).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut secret = octets.as_slice();
        secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            return Err(format!(
                "{}: the file is empty; a shared secret is right",
                path.display()
            ));
        }
        Ok(Some(Secret::new(secret)))
    }

    fn dictionary(&self) -> Result<Dictionary, String> {
        let mut dictionary = Dictionary::standard();
        for path in &self.dictionary {
            let loaded = dictionary.load(&path.display().to_string(), &mut include);
            dictionary = loaded.map_err(|faults| all(&faults))?.dictionary;
        }
        Ok(dictionary)
    }
}

fn all(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Finds a file of a dictionary: a relative name starts at the folder of the file that has it.
fn include(from: &str, name: &str) -> Result<Option<Source>, String> {
    let path = match (from, Path::new(from).parent()) {
        ("", _) | (_, None) => PathBuf::from(name),
        (_, Some(folder)) => folder.join(name),
    };
    let mut octets = Vec::new();
    match read(&path, &mut octets) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
        // Comments in dictionaries are in whatever their authors wrote.
        Ok(()) => Ok(Some(Source {
            name: path.display().to_string(),
            text: String::from_utf8_lossy(&octets).into_owned(),
        })),
    }
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
