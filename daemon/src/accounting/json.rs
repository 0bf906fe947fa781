//! A record as a JSON object: what it says in fields that every record has, and its attributes by name
//! (`docs/radius-accounting.md`).
//!
//! Written by hand into a buffer that is used again. Attributes are in the order of the packet; those of one name are
//! together, as a list where they are several.

use std::io::Write;

use sha2::{Digest, Sha256};
use wire::radius::dictionary::Path;
use wire::radius::{Dictionary, Event, Packet, Pair, Value, number};

use super::Record;
use super::moment::{Moment, micros};

const ACCT_INPUT_OCTETS: u8 = 42;
const ACCT_OUTPUT_OCTETS: u8 = 43;
const ACCT_INPUT_GIGAWORDS: u8 = 52;
const ACCT_OUTPUT_GIGAWORDS: u8 = 53;
const ACCT_DELAY_TIME: u8 = 41;

/// What every record says, beside its attributes, in this order.
pub const FIELDS: [&str; 13] = [
    "time",
    "event_time",
    "client",
    "source",
    "destination",
    "nas",
    "status",
    "session",
    "user",
    "session_key",
    "record_key",
    "input_octets",
    "output_octets",
];

/// Appends the whole record as one object.
pub(super) fn write(out: &mut Vec<u8>, dictionary: &Dictionary, record: &Record) {
    let packet = Packet::parse(&record.packet).ok();
    out.push(b'{');
    for name in FIELDS {
        let before = out.len();
        text(out, name.as_bytes());
        out.push(b':');
        if packet
            .as_ref()
            .and_then(|packet| field(out, name, dictionary, record, packet, "Z"))
            .is_none()
        {
            out.truncate(before);
            continue;
        }
        out.push(b',');
    }
    out.extend_from_slice(b"\"attributes\":");
    match packet {
        Some(packet) => attributes(out, dictionary, &packet),
        None => out.extend_from_slice(b"{}"),
    }
    out.push(b'}');
}

/// Appends a call of the helper `sql`: what a record does not have is null, dates are without a zone, UTC.
pub(super) fn write_call(
    out: &mut Vec<u8>,
    dictionary: &Dictionary,
    record: &Record,
    statement: &str,
    parameters: &[String],
) {
    out.extend_from_slice(b"{\"do\":");
    text(out, statement.as_bytes());
    out.extend_from_slice(b",\"parameters\":[");
    let packet = Packet::parse(&record.packet).ok();
    for (at, name) in parameters.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let before = out.len();
        let written = packet.as_ref().and_then(|packet| {
            if FIELDS.contains(&name.as_str()) {
                return field(out, name, dictionary, record, packet, "");
            }
            let definition = dictionary.named(name)?;
            let pair = packet.values(dictionary, definition, None).next()?;
            value(out, &pair, "");
            Some(())
        });
        if written.is_none() {
            out.truncate(before);
            out.extend_from_slice(b"null");
        }
    }
    out.extend_from_slice(b"]}");
}

/// What tells one session from all others: a hash over its id, its NAS and its user. All records of a session have the same.
pub(super) fn session_key(packet: &Packet<'_>, record: &Record) -> [u8; 16] {
    let mut hash = Sha256::new();
    part(&mut hash, packet.find(number::ACCT_SESSION_ID).unwrap_or_default());
    part(&mut hash, nas(packet, record).as_bytes());
    part(&mut hash, packet.find(number::USER_NAME).unwrap_or_default());
    first_half(hash)
}

/// What tells one record from all others, however often its NAS sends it: a hash over the attributes that do not
/// change when it is sent again.
fn record_key(packet: &Packet<'_>, record: &Record) -> [u8; 16] {
    let mut hash = Sha256::new();
    part(&mut hash, record.client.as_bytes());
    for attribute in packet.attributes() {
        let changes = [ACCT_DELAY_TIME, number::MESSAGE_AUTHENTICATOR, number::PROXY_STATE];
        if !changes.contains(&attribute.number) {
            hash.update([attribute.number]);
            part(&mut hash, attribute.value);
        }
    }
    first_half(hash)
}

/// With its length: where it ends cannot be shifted.
fn part(hash: &mut Sha256, octets: &[u8]) {
    hash.update((octets.len() as u64).to_be_bytes());
    hash.update(octets);
}

fn first_half(hash: Sha256) -> [u8; 16] {
    let mut first = [0; 16];
    first.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    first
}

/// The address of the NAS: what it says, else where the packet came from.
fn nas(packet: &Packet<'_>, record: &Record) -> String {
    let mut address = record.from.ip().to_canonical();
    for attribute in packet.attributes() {
        let octets = attribute.value;
        match attribute.number {
            number::NAS_IP_ADDRESS => {
                if let Ok(octets) = <[u8; 4]>::try_from(octets) {
                    return std::net::Ipv4Addr::from(octets).to_string();
                }
            }
            number::NAS_IPV6_ADDRESS => {
                if let Ok(octets) = <[u8; 16]>::try_from(octets) {
                    address = std::net::Ipv6Addr::from(octets).into();
                }
            }
            _ => {}
        }
    }
    address.to_string()
}

/// Appends the value of a field. None: the record has none, and what was appended is to be taken back.
fn field(
    out: &mut Vec<u8>,
    field: &str,
    dictionary: &Dictionary,
    record: &Record,
    packet: &Packet<'_>,
    zone: &str,
) -> Option<()> {
    match field {
        "time" => time(out, micros(record.received), zone),
        "event_time" => time(out, event_time(packet, record), zone),
        "client" => text(out, record.client.as_bytes()),
        "source" => text(out, record.from.to_string().as_bytes()),
        "destination" => text(out, record.to?.to_string().as_bytes()),
        "nas" => text(out, nas(packet, record).as_bytes()),
        "status" => attribute(out, dictionary, packet, number::ACCT_STATUS_TYPE)?,
        "session" => attribute(out, dictionary, packet, number::ACCT_SESSION_ID)?,
        "user" => attribute(out, dictionary, packet, number::USER_NAME)?,
        "session_key" => hex_text(out, &session_key(packet, record)),
        "record_key" => hex_text(out, &record_key(packet, record)),
        "input_octets" => octets(out, packet, ACCT_INPUT_OCTETS, ACCT_INPUT_GIGAWORDS)?,
        "output_octets" => octets(out, packet, ACCT_OUTPUT_OCTETS, ACCT_OUTPUT_GIGAWORDS)?,
        _ => return None,
    }
    Some(())
}

fn attribute(out: &mut Vec<u8>, dictionary: &Dictionary, packet: &Packet<'_>, number: u8) -> Option<()> {
    let definition = dictionary.numbered(number.into())?;
    value(out, &packet.values(dictionary, definition, None).next()?, "Z");
    Some(())
}

/// A number of 32 bits.
fn integer(packet: &Packet<'_>, number: u8) -> Option<u32> {
    Some(u32::from_be_bytes(packet.find(number)?.try_into().ok()?))
}

/// Octets counted in 32 bits, and how often that ran over (RFC 2869 section 5.1).
fn octets(out: &mut Vec<u8>, packet: &Packet<'_>, low: u8, high: u8) -> Option<()> {
    let low = u64::from(integer(packet, low)?);
    let high = u64::from(integer(packet, high).unwrap_or(0));
    // A Vec takes whatever is written.
    let _ = write!(out, "{}", high << 32 | low);
    Some(())
}

/// When what is recorded happened: as the NAS says, or before the record was received by as long as it was delayed.
fn event_time(packet: &Packet<'_>, record: &Record) -> i64 {
    match integer(packet, number::EVENT_TIMESTAMP) {
        Some(seconds) => i64::from(seconds) * 1_000_000,
        None => {
            let delay = integer(packet, ACCT_DELAY_TIME).unwrap_or(0);
            micros(record.received).saturating_sub(i64::from(delay) * 1_000_000)
        }
    }
}

fn time(out: &mut Vec<u8>, micros: i64, zone: &str) {
    out.push(b'"');
    Moment::new(micros).write(out);
    out.extend_from_slice(zone.as_bytes());
    out.push(b'"');
}

fn hex_text(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(b'"');
    for octet in octets {
        let _ = write!(out, "{octet:02x}");
    }
    out.push(b'"');
}

/// All values of one name.
struct Named {
    path: Path,
    tag: Option<u8>,
    name: String,
    values: Vec<u8>,
    count: usize,
}

fn attributes(out: &mut Vec<u8>, dictionary: &Dictionary, packet: &Packet<'_>) {
    // The top, and what is inside the tlvs that are open.
    let mut rows: Vec<Vec<Named>> = vec![Vec::new()];
    let mut open = Vec::new();
    for event in packet.walk(dictionary, None) {
        match event {
            Event::Open(definition) => {
                open.push(definition);
                rows.push(Vec::new());
            }
            Event::Pair(pair) => {
                let name = || match (pair.definition, pair.tag) {
                    (Some(definition), Some(tag)) => format!("{}:{tag}", definition.name),
                    (Some(definition), None) => definition.name.to_string(),
                    (None, _) => format!("Attr-{}", pair.path),
                };
                // What has not its form is not mixed with what has: no tag is as high.
                let tag = pair.definition.map_or(Some(u8::MAX), |_| pair.tag);
                if let Some(row) = rows.last_mut() {
                    add(row, pair.path, tag, name, |values| value(values, &pair, "Z"));
                }
            }
            Event::Close => {
                let inside = rows.pop().unwrap_or_default();
                if let (Some(row), Some(definition)) = (rows.last_mut(), open.pop()) {
                    let name = || definition.name.to_string();
                    add(row, definition.path, None, name, |values| object(values, &inside));
                }
            }
        }
    }
    object(out, &rows.pop().unwrap_or_default());
}

/// Adds a value to those of its name.
fn add(
    row: &mut Vec<Named>,
    path: Path,
    tag: Option<u8>,
    name: impl FnOnce() -> String,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if let Some(named) = row.iter_mut().find(|named| named.path == path && named.tag == tag) {
        named.values.push(b',');
        named.count += 1;
        return write(&mut named.values);
    }
    let mut values = Vec::new();
    write(&mut values);
    row.push(Named {
        path,
        tag,
        name: name(),
        values,
        count: 1,
    });
}

fn object(out: &mut Vec<u8>, row: &[Named]) {
    out.push(b'{');
    for (at, named) in row.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, named.name.as_bytes());
        out.push(b':');
        let list = named.count > 1;
        if list {
            out.push(b'[');
        }
        out.extend_from_slice(&named.values);
        if list {
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// Numbers as numbers or by their names, dates in RFC 3339, octets in hex, everything else as text.
fn value(out: &mut Vec<u8>, pair: &Pair<'_, '_>, zone: &str) {
    let known = pair.value();
    let name = known.number().and_then(|number| pair.definition?.value_name(number));
    let _ = match (known, name) {
        (Value::Unsigned(_), Some(name)) => {
            text(out, name.as_bytes());
            Ok(())
        }
        (Value::Unsigned(number), None) => write!(out, "{number}"),
        (Value::Signed(number), _) => write!(out, "{number}"),
        (Value::Time(seconds), _) => {
            time(out, i64::from(seconds) * 1_000_000, zone);
            Ok(())
        }
        (Value::Text(octets), _) if std::str::from_utf8(octets).is_ok() => {
            text(out, octets);
            Ok(())
        }
        (Value::Text(octets), _) => {
            // What looks like a text and is none is told apart from a text that looks like octets.
            write!(out, "{{\"octets\":\"{}\"}}", Value::Octets(octets))
        }
        // Nothing in these is escaped.
        (other, _) => write!(out, "\"{other}\""),
    };
}

/// A string of what should be UTF-8; what is not becomes U+FFFD.
fn text(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(b'"');
    for c in String::from_utf8_lossy(octets).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
