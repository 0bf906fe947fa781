//! What a call asks while it runs is asked of the person at the terminal, hidden where it is a secret.
//!
//! Services of identity calls ask in JSON (`docs/identity-calls.md`); of others the text is shown as it is, and one line is
//! the answer. Where there is no terminal the service is told so, by an empty input.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use zeroize::Zeroizing;

/// The longest line that is taken as an answer.
const ANSWER_BYTES_MAX: u64 = 4096;

#[derive(serde::Deserialize)]
struct Asked {
    prompts: Vec<Prompt>,
}

#[derive(serde::Deserialize)]
struct Prompt {
    style: Style,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    Hidden,
    Visible,
    Info,
    Error,
}

/// Asks, and gives the input to send; empty: there is nobody to ask.
pub fn answer(what: &[u8]) -> Zeroizing<Vec<u8>> {
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Zeroizing::default();
    };
    let mut person = Person {
        reader: BufReader::with_capacity(4096, terminal),
    };
    let answered = match serde_json::from_slice::<Asked>(what) {
        Ok(asked) => person.prompts(&asked.prompts),
        Err(_) => person.line(&shown(&String::from_utf8_lossy(what)), Style::Visible),
    };
    answered.unwrap_or_default()
}

struct Person {
    reader: BufReader<File>,
}

impl Person {
    fn prompts(&mut self, prompts: &[Prompt]) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut answers = Zeroizing::new(b"{\"answers\":[".to_vec());
        for (number, prompt) in prompts.iter().enumerate() {
            if number > 0 {
                answers.push(b',');
            }
            let line = self.line(&shown(&prompt.text), prompt.style)?;
            match prompt.style {
                Style::Info | Style::Error => answers.extend_from_slice(b"null"),
                Style::Hidden | Style::Visible => {
                    let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
                    serde_json::to_writer(&mut *answers, text)?;
                }
            }
        }
        answers.extend_from_slice(b"]}");
        Ok(answers)
    }

    /// Shows a text, and reads a line where the style asks for one.
    fn line(&mut self, text: &str, style: Style) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut terminal = self.reader.get_ref();
        if matches!(style, Style::Info | Style::Error) {
            writeln!(terminal, "{text}")?;
            return Ok(Zeroizing::default());
        }
        write!(terminal, "{}", if text.is_empty() { "> " } else { text })?;
        terminal.flush()?;
        let quiet = match style {
            Style::Hidden => Some(Quiet::begin(terminal)?),
            _ => None,
        };
        let mut line = Zeroizing::new(Vec::with_capacity(256));
        let read = io::Read::take(&mut self.reader, ANSWER_BYTES_MAX).read_until(b'\n', &mut line);
        if quiet.is_some() {
            let _ = writeln!(self.reader.get_ref());
        }
        drop(quiet);
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        Ok(line)
    }
}

/// While it lives, nothing that is typed is shown; a signal that ends us shows it again first.
struct Quiet {
    terminal: File,
    before: Termios,
    signals: Option<signal_hook::iterator::Handle>,
}

impl Quiet {
    fn begin(terminal: &File) -> io::Result<Quiet> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let (own, restore) = (terminal.try_clone()?, before.clone());
        std::thread::Builder::new().spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _ = tcsetattr(&own, OptionalActions::Now, &restore);
                std::process::exit(128 + signal);
            }
        })?;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Quiet {
            terminal,
            before,
            signals: Some(handle),
        })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        if let Some(signals) = self.signals.take() {
            signals.close();
        }
    }
}

/// A service's text cannot steer the terminal.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
        .collect()
}
