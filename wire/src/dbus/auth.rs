//! The handshake that comes before the first message (D-Bus Specification, "Authentication Protocol"), from the serving side.
//!
//! Whoever is at the other end was given its socket by us, so there is nothing to find out about it: EXTERNAL is accepted
//! with any identity, and so is ANONYMOUS. Descriptors are not agreed to. Lines are bounded in length and number, so a peer
//! that goes on asking comes to an end.

use crate::frame::Malformed;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;
/// Lines until the first message, at most.
pub const LINES_MAX: u32 = 32;
/// What a server is called in the handshake: so many hexadecimal digits.
pub const GUID_DIGITS: usize = 32;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The zero byte in front of everything.
    Nul,
    /// Nothing was accepted.
    Auth,
    /// EXTERNAL was chosen without saying as whom; that comes in a line of its own.
    Identity,
    /// Accepted.
    Begin,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    stage: Stage,
    lines: u32,
}

/// How far the handshake came with what was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress<'a> {
    /// More is needed; the first `used` bytes have been read.
    More {
        /// So many.
        used: usize,
    },
    /// It is over; messages begin behind the first `used` bytes.
    Begun {
        /// So many.
        used: usize,
    },
    /// The peer said `ERROR` before anything else: it cannot do what it was started for, and why.
    Unable(&'a str),
}

impl Default for Server {
    fn default() -> Self {
        Server {
            stage: Stage::Nul,
            lines: 0,
        }
    }
}

impl Server {
    /// Reads as many whole lines as there are and appends the answers to `out`. `guid` is [`GUID_DIGITS`] long.
    ///
    /// # Errors
    /// What was said is no handshake, or there is no end to it.
    pub fn receive<'a>(&mut self, bytes: &'a [u8], guid: &str, out: &mut Vec<u8>) -> Result<Progress<'a>, Malformed> {
        let mut used = 0;
        if self.stage == Stage::Nul {
            match bytes.first() {
                None => return Ok(Progress::More { used }),
                Some(0) => used = 1,
                Some(_) => return Err(Malformed::BadMagic),
            }
            self.stage = Stage::Auth;
        }
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let end = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
            let Some(end) = end else {
                if rest.len() >= LINE_BYTES_MAX {
                    return Err(Malformed::TooLarge);
                }
                return Ok(Progress::More { used });
            };
            let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            let line = line.and_then(|line| std::str::from_utf8(line).ok());
            let line = line.ok_or(Malformed::BadValue("a line of text that ends with CR and LF"))?;
            used += end + 1;
            self.lines += 1;
            if self.lines > LINES_MAX {
                return Err(Malformed::TooDeep);
            }
            let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
            if command == "BEGIN" {
                return match self.stage {
                    Stage::Begin => Ok(Progress::Begun { used }),
                    _ => Err(Malformed::BadValue("BEGIN behind OK alone")),
                };
            }
            if command == "ERROR" && self.lines == 1 {
                return Ok(Progress::Unable(arguments));
            }
            self.answer(command, arguments, guid, out);
        }
    }

    fn answer(&mut self, command: &str, arguments: &str, guid: &str, out: &mut Vec<u8>) {
        let (mechanism, identity) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let accepted = match (self.stage, command) {
            (Stage::Auth, "AUTH") => match mechanism {
                "EXTERNAL" if identity.is_empty() => {
                    self.stage = Stage::Identity;
                    out.extend_from_slice(b"DATA\r\n");
                    return;
                }
                "EXTERNAL" | "ANONYMOUS" => is_hex(identity),
                _ => false,
            },
            (Stage::Identity, "DATA") => is_hex(arguments),
            (Stage::Auth | Stage::Identity, "CANCEL" | "ERROR") | (Stage::Begin, "CANCEL") => false,
            // NEGOTIATE_UNIX_FD among others: whoever asks goes on without.
            _ => {
                out.extend_from_slice(b"ERROR \"not supported\"\r\n");
                return;
            }
        };
        if accepted {
            self.stage = Stage::Begin;
            out.extend_from_slice(b"OK ");
            out.extend_from_slice(guid.as_bytes());
            out.extend_from_slice(b"\r\n");
        } else {
            self.stage = Stage::Auth;
            out.extend_from_slice(b"REJECTED EXTERNAL ANONYMOUS\r\n");
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
