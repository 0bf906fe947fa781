//! `usherd radius decode`: packets in hex to attributes as text or JSON.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use wire::radius::text::{print_head, print_list, print_value};
use wire::radius::{Code, Dictionary, Event, MessageAuthenticator, Packet, Pair, Reveal, Secret, Value};

use super::{Common, lines, octets_of_hex};
use crate::cli::print;

/// `usherd radius decode`.
#[derive(Args, Debug)]
pub struct Decode {
    #[command(flatten)]
    common: Common,
    /// One JSON object for each packet
    #[arg(long)]
    json: bool,
}

/// What the authenticators of a packet say; none: without a secret, or for a reply without its request, nothing.
pub(super) struct Checked {
    authenticator: Option<bool>,
    message_authenticator: Option<MessageAuthenticator>,
}

impl Decode {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let (secret, dictionary) = (self.common.secret()?, self.common.dictionary()?);
        let mut requests: [Option<[u8; 16]>; 256] = [None; 256];
        lines(|line| {
            let octets = octets_of_hex(line)?;
            let packet = Packet::parse(&octets).map_err(|malformed| malformed.to_string())?;
            let slot = requests.get_mut(usize::from(packet.identifier()));
            let request = match slot {
                Some(slot) if packet.code().is_request() => {
                    *slot = Some(*packet.authenticator());
                    None
                }
                slot => self.common.request_authenticator.or(slot.and_then(|slot| *slot)),
            };
            let checked = check(&packet, secret.as_ref(), request.as_ref());
            let mut text = if self.json {
                to_json(&dictionary, &packet, secret.as_ref(), request.as_ref(), &checked).to_string()
            } else {
                to_text(&dictionary, &packet, secret.as_ref(), request.as_ref())?
            };
            text.push('\n');
            print(text.as_bytes())?;
            checked.told()
        })
    }
}

impl Checked {
    fn told(&self) -> Result<(), String> {
        match (self.authenticator, self.message_authenticator) {
            (_, Some(MessageAuthenticator::Invalid)) => {
                Err("the Message-Authenticator is wrong; another secret or another request would be right".to_string())
            }
            (Some(false), _) => {
                Err("the Authenticator is wrong; another secret or another request would be right".to_string())
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn check(packet: &Packet<'_>, secret: Option<&Secret>, request: Option<&[u8; 16]>) -> Checked {
    let code = packet.code();
    let authenticator = match (secret, request) {
        (Some(secret), None) if code.is_signed_request() => Some(packet.check_request(secret)),
        (Some(secret), Some(request)) if !code.is_request() => Some(packet.check_response(secret, request)),
        _ => None,
    };
    let message_authenticator = match secret {
        Some(_) if request.is_none() && !code.is_request() && packet.message_authenticator().is_some() => None,
        Some(secret) => Some(packet.check_message_authenticator(secret, request)),
        None => None,
    };
    Checked {
        authenticator,
        message_authenticator,
    }
}

/// By what hidden values are shown: of a reply only if its request is known.
fn reveal<'a>(packet: &Packet<'a>, secret: Option<&'a Secret>, request: Option<&'a [u8; 16]>) -> Option<Reveal<'a>> {
    let known = request.is_some() || packet.code().is_request();
    secret.filter(|_| known).map(|secret| Reveal {
        secret,
        authenticator: packet.hiding_authenticator(request),
    })
}

pub(super) fn to_text(
    dictionary: &Dictionary,
    packet: &Packet<'_>,
    secret: Option<&Secret>,
    request: Option<&[u8; 16]>,
) -> Result<String, String> {
    let mut text = String::new();
    print_head(&mut text, packet, request).map_err(|error| error.to_string())?;
    if packet.attributes().next().is_some() {
        text.push(' ');
    }
    let walk = packet.walk(dictionary, reveal(packet, secret, request));
    print_list(&mut text, walk).map_err(|error| error.to_string())?;
    Ok(text)
}

pub(super) fn to_json(
    dictionary: &Dictionary,
    packet: &Packet<'_>,
    secret: Option<&Secret>,
    request: Option<&[u8; 16]>,
    checked: &Checked,
) -> Json {
    let mut rows: Vec<Vec<Json>> = vec![Vec::new()];
    let mut names: Vec<String> = Vec::new();
    for event in packet.walk(dictionary, reveal(packet, secret, request)) {
        let object = match event {
            Event::Pair(pair) => pair_json(&pair),
            Event::Open(definition) => {
                rows.push(Vec::new());
                names.push(definition.name.to_string());
                continue;
            }
            Event::Close => {
                let inside = rows.pop().unwrap_or_default();
                json!({ "name": names.pop().unwrap_or_default(), "attributes": inside })
            }
        };
        if let Some(row) = rows.last_mut() {
            row.push(object);
        }
    }
    let mut object = Map::new();
    let mut put = |key: &str, value: Json| drop(object.insert(key.to_string(), value));
    put("code", code_json(packet.code()));
    put("id", packet.identifier().into());
    put("authenticator", hex(packet.authenticator()).into());
    if let Some(request) = request {
        put("request", hex(request).into());
    }
    put(
        "authenticator_valid",
        checked.authenticator.map_or(Json::Null, Json::Bool),
    );
    let said = checked.message_authenticator.map(|said| match said {
        MessageAuthenticator::Absent => "absent",
        MessageAuthenticator::Valid => "valid",
        MessageAuthenticator::Invalid => "invalid",
    });
    put("message_authenticator", said.map_or(Json::Null, Json::from));
    put("attributes", rows.pop().unwrap_or_default().into());
    Json::Object(object)
}

fn code_json(code: Code) -> Json {
    code.to_string().into()
}

fn pair_json(pair: &Pair<'_, '_>) -> Json {
    let mut object = Map::new();
    let mut put = |key: &str, value: Json| drop(object.insert(key.to_string(), value));
    match pair.definition {
        Some(definition) => put("name", (&*definition.name).into()),
        None => put("name", format!("Attr-{}", pair.path).into()),
    }
    if let Some(tag) = pair.tag {
        put("tag", tag.into());
    }
    let value = pair.value();
    let name = value.number().and_then(|number| pair.definition?.value_name(number));
    match (value, name) {
        (Value::Unsigned(number), Some(name)) => {
            put("value", name.into());
            put("number", number.into());
        }
        (Value::Unsigned(number), None) => put("value", number.into()),
        (Value::Signed(number), _) => put("value", number.into()),
        (Value::Time(seconds), _) => put("value", seconds.into()),
        (Value::Text(octets), _) => {
            put("value", String::from_utf8_lossy(octets).into());
            if std::str::from_utf8(octets).is_err() {
                put("octets", hex(octets).into());
            }
        }
        _ => {
            let mut text = String::new();
            // A String takes whatever is written.
            let _ = print_value(&mut text, pair);
            put("value", text.into());
        }
    }
    Json::Object(object)
}

fn hex(octets: &[u8]) -> String {
    Value::Octets(octets).to_string()
}
