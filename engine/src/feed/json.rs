//! An event as one line of JSON.
//!
//! Written by hand into a buffer that is used again: every entry of a refresh passes here, and a value goes from the
//! kept bytes to the line in one copy where nothing in it must be escaped. What each field means is in [`Event`]; a value
//! is a string where it is UTF-8 without control characters, else `{"base64": …}`, and a redacted attribute has the one
//! value `{"redacted": true}`. Fields that an event does not have are left out; `attributes`, `changed` and `before` are
//! objects and lists, never null.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::event::{Attributes, Event, Op, Uuid};
use crate::core::calendar;

/// Appends the event as one JSON object and a line feed. `feed` is the feed's name.
pub fn write_line(out: &mut Vec<u8>, feed: &str, event: &Event<'_>) {
    write(out, feed, event);
    out.push(b'\n');
}

/// Appends the event as one JSON object. `feed` is the feed's name.
pub fn write(out: &mut Vec<u8>, feed: &str, event: &Event<'_>) {
    out.extend_from_slice(b"{\"seq\":");
    number(out, event.seq);
    out.extend_from_slice(b",\"feed\":");
    text(out, feed.as_bytes());
    out.extend_from_slice(b",\"shard\":");
    number(out, u64::from(event.shard));
    out.extend_from_slice(b",\"op\":\"");
    out.extend_from_slice(event.op.name().as_bytes());
    out.push(b'"');
    if !event.op.is_feed_wide() {
        entry(out, event);
    }
    if let Some(csn) = event.csn {
        out.extend_from_slice(b",\"csn\":");
        text(out, csn.as_bytes());
    }
    if let Some(counts) = &event.counts {
        let counted = [
            (&b",\"entries\":"[..], counts.entries),
            (b",\"added\":", counts.added),
            (b",\"modified\":", counts.modified),
            (b",\"moved\":", counts.moved),
            (b",\"deleted\":", counts.deleted),
            (b",\"unchanged\":", counts.unchanged),
        ];
        for (key, count) in counted {
            out.extend_from_slice(key);
            number(out, count);
        }
    }
    out.extend_from_slice(b",\"time\":\"");
    write_time(out, event.time_ms);
    out.extend_from_slice(b"\"}");
}

fn entry(out: &mut Vec<u8>, event: &Event<'_>) {
    out.extend_from_slice(b",\"uuid\":\"");
    write_uuid(out, &event.uuid);
    out.extend_from_slice(b"\",\"dn\":");
    text(out, event.dn.as_bytes());
    if let Some(old_dn) = event.old_dn {
        out.extend_from_slice(b",\"old_dn\":");
        text(out, old_dn.as_bytes());
    }
    if event.op != Op::Delete {
        out.extend_from_slice(b",\"attributes\":");
        attributes(out, event.attributes);
    }
    if matches!(event.op, Op::Modify | Op::Move) {
        out.extend_from_slice(b",\"changed\":[");
        list(out, event.changed, text);
        out.push(b']');
    }
    if let Some(before) = event.before {
        out.extend_from_slice(b",\"before\":");
        attributes(out, before);
    }
}

fn attributes(out: &mut Vec<u8>, attributes: Attributes<'_>) {
    out.push(b'{');
    list(out, attributes, |out, attribute| {
        text(out, attribute.name);
        if attribute.redacted.is_some() {
            out.extend_from_slice(b":[{\"redacted\":true}]");
        } else {
            out.extend_from_slice(b":[");
            list(out, attribute.values, value);
            out.push(b']');
        }
    });
    out.push(b'}');
}

fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    for (place, item) in items.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn value(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        return quoted(out, value);
    }
    let printable = !value.iter().any(|byte| *byte < 0x20 || *byte == 0x7F);
    if printable && std::str::from_utf8(value).is_ok() {
        string(out, value);
    } else {
        out.extend_from_slice(b"{\"base64\":\"");
        write_base64(out, value);
        out.extend_from_slice(b"\"}");
    }
}

/// A JSON string of bytes that should be UTF-8; what is not becomes U+FFFD.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        quoted(out, bytes);
    } else if std::str::from_utf8(bytes).is_ok() {
        string(out, bytes);
    } else {
        string(out, String::from_utf8_lossy(bytes).as_bytes());
    }
}

/// Whether this is printable ASCII in which nothing is escaped, as most of a directory is. Looked at to the end in any case,
/// because that way many bytes are looked at together.
fn is_plain(bytes: &[u8]) -> bool {
    let all = bytes
        .iter()
        .map(|byte| matches!(byte, 0x20..0x7F) & (*byte != b'"') & (*byte != b'\\'));
    all.fold(true, |all, plain| all & plain)
}

fn quoted(out: &mut Vec<u8>, plain: &[u8]) {
    out.reserve(plain.len() + 2);
    out.push(b'"');
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// A JSON string of bytes that are UTF-8.
fn string(out: &mut Vec<u8>, mut utf8: &[u8]) {
    out.push(b'"');
    loop {
        let plain = utf8
            .iter()
            .position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))
            .unwrap_or(utf8.len());
        let (before, rest) = utf8.split_at_checked(plain).unwrap_or((utf8, &[]));
        out.extend_from_slice(before);
        let [escaped, rest @ ..] = rest else { break };
        match escaped {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            control => {
                out.extend_from_slice(b"\\u00");
                hex(out, *control);
            }
        }
        utf8 = rest;
    }
    out.push(b'"');
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    let room = bytes.len().div_ceil(3).saturating_mul(4);
    out.resize(start.saturating_add(room), 0);
    // The room is what padded base64 takes, so that it always fits.
    let written = out
        .get_mut(start..)
        .and_then(|place| STANDARD.encode_slice(bytes, place).ok())
        .unwrap_or(0);
    out.truncate(start + written);
}

/// Appends the uuid as text (RFC 9562 section 4): `6ba7b810-9dad-11d1-80b4-00c04fd430c8`.
pub fn write_uuid(out: &mut Vec<u8>, uuid: &Uuid) {
    let mut text = [b'-'; 36];
    let places = text.iter_mut().zip(0_usize..);
    let places = places.filter(|(_, at)| !matches!(at, 8 | 13 | 18 | 23));
    let nibbles = uuid.iter().flat_map(|octet| [octet >> 4, octet & 0xF]);
    for ((place, _), nibble) in places.zip(nibbles) {
        *place = digit(nibble);
    }
    out.extend_from_slice(&text);
}

/// Appends the moment as RFC 3339 has it, in UTC with milliseconds. Years outside 0 to 9999 cannot be written so, and
/// are brought to the nearest moment that can.
pub fn write_time(out: &mut Vec<u8>, time_ms: i64) {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let time_ms = time_ms.clamp(FIRST, LAST);
    let (days, ms) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000));
    let (year, month, day) = calendar::date(days);
    let seconds = ms / 1000;
    for (number, width, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (seconds / 3600, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (ms % 1000, 3, b'Z'),
    ] {
        digits(out, number, width);
        out.push(end);
    }
}

fn digits(out: &mut Vec<u8>, number: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = u8::try_from(number / 10_i64.pow(place) % 10).unwrap_or(0);
        out.push(b'0' + digit);
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    // Writing into a Vec does not fail.
    let _ = write!(out, "{number}");
}

fn hex(out: &mut Vec<u8>, octet: u8) {
    out.extend_from_slice(&[digit(octet >> 4), digit(octet & 0xF)]);
}

fn digit(nibble: u8) -> u8 {
    match nibble {
        0..10 => b'0' + nibble,
        _ => b'a' - 10 + nibble,
    }
}
