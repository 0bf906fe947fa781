//! One request to one peer, sent again until it is answered. What is not this peer's answer to this request is told and
//! otherwise ignored: it proves nothing, and the right one may still come.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value as Json, json};
use wire::radius::text::parse_list;
use wire::radius::{Code, Dictionary, Item, MessageAuthenticator, PACKET_BYTES_MAX, Packet, Secret, Writer, number};

use super::decode::{check, to_json, to_text};
use super::{dictionary, salts, secret};
use crate::cli::{print, say};
use crate::config::values;

/// There was no answer.
const SILENT: u8 = 4;
/// How often it is asked whether there may be one yet.
const LOOK: Duration = Duration::from_millis(100);

/// What to ask, and how long.
#[derive(Args, Debug)]
pub(super) struct Peer {
    /// An attribute, or several: 'Name = value, Name = value' (repeatable)
    #[arg(long, value_name = "ATTRIBUTE")]
    attribute: Vec<String>,
    /// A dictionary in the syntax of FreeRADIUS 3, on top of the one that is built in (repeatable)
    #[arg(long, value_name = "FILE")]
    dictionary: Vec<PathBuf>,
    /// How long each answer is waited for
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = some_time)]
    timeout: Duration,
    /// How often the request is sent again, the same octets each time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    retries: u8,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// The peer's answer.
pub(super) struct Answer {
    octets: Vec<u8>,
    elapsed: Duration,
}

/// What has come of a request.
pub(super) enum Ended {
    Answered(Answer),
    /// Nobody answered, and what may be the reason.
    Silent(&'static str),
}

/// Whom to ask, or what is wrong with each.
pub(super) struct Whom {
    pub(super) address: Result<SocketAddr, String>,
    pub(super) secret: Result<Secret, String>,
}

impl Whom {
    /// As named by flags; `port`: where the protocol is usually spoken.
    pub(super) fn named(to: &str, secret_file: &Path, port: u16) -> Whom {
        Whom {
            address: resolve(to, port),
            secret: secret(secret_file),
        }
    }
}

/// A peer whose address, secret, dictionary and attributes are known.
pub(super) struct Known<'p> {
    peer: &'p Peer,
    pub(super) address: SocketAddr,
    pub(super) secret: Secret,
    pub(super) dictionary: Dictionary,
    items: Vec<Item>,
}

impl Peer {
    /// Reads what it names.
    ///
    /// # Errors
    /// A sentence for the user: all that is wrong with the flags, a line each.
    pub(super) fn known(&self, whom: Whom) -> Result<Known<'_>, String> {
        let mut wrong = Vec::new();
        let mut or_wrong = |what: Result<(), String>| wrong.extend(what.err());
        let mut address = None;
        or_wrong(whom.address.map(|found| address = Some(found)));
        let mut shared = None;
        or_wrong(whom.secret.map(|found| shared = Some(found)));
        let mut known = None;
        or_wrong(dictionary(&self.dictionary).map(|found| known = Some(found)));
        let mut items = Vec::new();
        for text in &self.attribute {
            // Without a dictionary nothing can be said of them.
            let Some(dictionary) = &known else { break };
            let parsed = parse_list(dictionary, text).map_err(|mistake| format!("--attribute {mistake}"));
            or_wrong(parsed.map(|found| items.extend(found)));
        }
        match (address, shared, known) {
            (Some(address), Some(secret), Some(dictionary)) if wrong.is_empty() => Ok(Known {
                peer: self,
                address,
                secret,
                dictionary,
                items,
            }),
            _ => Err(wrong.join("\nusherd: ")),
        }
    }
}

/// A peer on this machine that a command has started itself.
pub(super) struct Trial {
    peer: Peer,
    secret: Secret,
    dictionary: Dictionary,
    items: Vec<Item>,
}

impl Trial {
    /// # Errors
    /// All that is wrong with the attributes, a line each.
    pub(super) fn new(
        attributes: &[String],
        json: bool,
        secret: Secret,
        dictionary: Dictionary,
    ) -> Result<Trial, String> {
        let (mut items, mut wrong) = (Vec::new(), Vec::new());
        for text in attributes {
            match parse_list(&dictionary, text) {
                Ok(found) => items.extend(found),
                Err(mistake) => wrong.push(format!("--attribute {mistake}")),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\nusherd: "));
        }
        Ok(Trial {
            peer: Peer {
                attribute: Vec::new(),
                dictionary: Vec::new(),
                // As long as the listener's own deadline: whoever is asked may be slow, and that is to be seen.
                timeout: Duration::from_secs(35),
                retries: 0,
                json,
            },
            secret,
            dictionary,
            items,
        })
    }

    /// At its address.
    pub(super) fn known(&self, address: SocketAddr) -> Known<'_> {
        Known {
            peer: &self.peer,
            address,
            secret: Secret::new(self.secret.as_bytes()),
            dictionary: self.dictionary.clone(),
            items: self.items.clone(),
        }
    }
}

impl Known<'_> {
    /// Whether an attribute of this number is among those given.
    pub(super) fn gives(&self, number: u8) -> bool {
        self.items.iter().any(|item| item.path.numbers() == [u32::from(number)])
    }

    /// Whether any attribute is given.
    pub(super) fn gives_any(&self) -> bool {
        !self.items.is_empty()
    }

    /// Adds the attributes that were given. A Message-Authenticator is computed, whatever its value.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), String> {
        let mut salt = salts()?;
        for item in &self.items {
            let written = if item.path.numbers() == [u32::from(number::MESSAGE_AUTHENTICATOR)] {
                writer.message_authenticator().map_err(Into::into)
            } else {
                writer.item(&self.dictionary, item, Some(&self.secret), &mut salt)
            };
            written.map_err(|why| {
                let known = self.dictionary.at(item.path.numbers());
                let name = known.map_or_else(|| format!("Attr-{}", item.path), |known| known.name.to_string());
                format!("{name}: {why}")
            })?;
        }
        Ok(())
    }

    /// Sends the request until somebody who knows the secret answers it with one of these codes.
    ///
    /// # Errors
    /// It cannot be sent.
    pub(super) fn ask(&self, request: &[u8], codes: &[Code]) -> Result<Ended, String> {
        self.ask_while(request, codes, &mut || true)
    }

    /// As [`Known::ask`], as long as there may be an answer; asked again and again while there is none.
    ///
    /// # Errors
    /// It cannot be sent.
    pub(super) fn ask_while(
        &self,
        request: &[u8],
        codes: &[Code],
        may_be: &mut dyn FnMut() -> bool,
    ) -> Result<Ended, String> {
        let broken = |error: std::io::Error| format!("{}: {error}", self.address);
        let packet = Packet::parse(request).map_err(|malformed| malformed.to_string())?;
        let any: SocketAddr = match self.address {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(broken)?;
        socket.connect(self.address).map_err(broken)?;
        let (mut buffer, mut why) = (vec![0; PACKET_BYTES_MAX + 1], "");
        let begun = Instant::now();
        for _ in 0..=self.peer.retries {
            let until = Instant::now() + self.peer.timeout;
            match socket.send(request) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => why = REFUSED,
                other => drop(other.map_err(broken)?),
            }
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                socket.set_read_timeout(Some(left.min(LOOK))).map_err(broken)?;
                let found = match socket.recv(&mut buffer) {
                    Ok(bytes) => buffer.get(..bytes).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        why = REFUSED;
                        continue;
                    }
                    Err(error) if is_nothing_yet(error.kind()) && may_be() => continue,
                    Err(error) if is_nothing_yet(error.kind()) => return Ok(Ended::Silent(SILENCE)),
                    Err(error) => return Err(broken(error)),
                };
                match fault(found, &packet, &self.secret, codes) {
                    None => {
                        return Ok(Ended::Answered(Answer {
                            octets: found.to_vec(),
                            elapsed: begun.elapsed(),
                        }));
                    }
                    Some(fault) => {
                        say(&format!(
                            "usherd: something that {} sent is ignored: {fault}",
                            self.address
                        ));
                        why = IGNORED;
                    }
                }
            }
        }
        Ok(Ended::Silent(if why.is_empty() { SILENCE } else { why }))
    }

    /// Says that there is no answer, and gives the exit code.
    pub(super) fn silent(&self, why: &str) -> Result<ExitCode, String> {
        let times = u32::from(self.peer.retries) + 1;
        let each = values::show_duration(self.peer.timeout);
        let text = format!(
            "no answer from {}, asked {times} times, {each} each: {why}",
            self.address
        );
        if self.peer.json {
            let object = json!({ "to": self.address.to_string(), "answered": false, "reason": why });
            print(format!("{object}\n").as_bytes())?;
        }
        say(&format!("usherd: {text}"));
        Ok(ExitCode::from(SILENT))
    }

    /// The answer as `usherd radius decode` prints it; in JSON with what else there is to say.
    pub(super) fn show(&self, answer: &Answer, request: &Packet<'_>, more: Json) -> Result<String, String> {
        let packet = answer.packet()?;
        let (secret, authenticator) = (Some(&self.secret), Some(request.authenticator()));
        if !self.peer.json {
            return Ok(format!(
                "{}\n",
                to_text(&self.dictionary, &packet, secret, authenticator)?
            ));
        }
        let checked = check(&packet, secret, authenticator);
        let mut object = json!({
            "to": self.address.to_string(),
            "answered": true,
            "milliseconds": answer.elapsed.as_secs_f64() * 1000.0,
            "answer": to_json(&self.dictionary, &packet, secret, authenticator, &checked),
        });
        if let (Json::Object(object), Json::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        Ok(format!("{object}\n"))
    }
}

impl Answer {
    pub(super) fn packet(&self) -> Result<Packet<'_>, String> {
        Packet::parse(&self.octets).map_err(|malformed| malformed.to_string())
    }
}

const REFUSED: &str = "nobody listens on that port";
const IGNORED: &str = "what came was none of its own; it seems to have another secret";
const SILENCE: &str = "it is not reached, does not know this machine as a client, or has another secret";

fn is_nothing_yet(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Why a datagram is not the answer to the request.
fn fault(datagram: &[u8], request: &Packet<'_>, secret: &Secret, codes: &[Code]) -> Option<String> {
    let packet = match Packet::parse(datagram) {
        Ok(packet) => packet,
        Err(malformed) => return Some(malformed.to_string()),
    };
    let authenticator = request.authenticator();
    if packet.identifier() != request.identifier() {
        Some(format!(
            "its identifier is {}, and {} was asked",
            packet.identifier(),
            request.identifier()
        ))
    } else if !codes.contains(&packet.code()) {
        Some(format!("{} is no answer to {}", packet.code(), request.code()))
    } else if !packet.check_response(secret, authenticator) {
        Some("its Authenticator is wrong: another secret would be right".to_string())
    } else if packet.check_message_authenticator(secret, Some(authenticator)) == MessageAuthenticator::Invalid {
        Some("its Message-Authenticator is wrong".to_string())
    } else {
        None
    }
}

/// The address of a peer; of several that a name has, the first.
pub(in crate::cli) fn resolve(text: &str, port: u16) -> Result<SocketAddr, String> {
    let (host, port) = values::host_and_port(text, Some(port)).map_err(|right| format!("{text}: {right}"))?;
    let found = (host.as_str(), port).to_socket_addrs();
    let mut found = found.map_err(|error| format!("{text}: {error}"))?;
    found.next().ok_or_else(|| format!("{text} has no address"))
}

/// A time that is not 0.
pub(in crate::cli) fn some_time(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        Duration::ZERO => Err("0 is no time to wait; 2s would be right".to_string()),
        time => Ok(time),
    }
}
