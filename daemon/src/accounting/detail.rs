//! A record in FreeRADIUS's detail format, as FreeRADIUS 3.2 writes it and reads it again.
//!
//! ```text
//! Fri Nov 27 05:44:19 2026
//! (tab)User-Name = "bob"
//! (tab)Acct-Status-Type = Start
//! (tab)Timestamp = 1795758259
//!
//! ```
//!
//! A blank line ends a record. The first line is in the machine's own time, as FreeRADIUS has it; readers go by `Timestamp`.
//! What is hidden by the shared secret is left hidden.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use wire::radius::text::print_pair;
use wire::radius::{Dictionary, Event, Packet};

use super::Record;
use super::moment::{Moment, micros};

/// What ends a record.
pub(super) const END: &[u8] = b"\n\n";

/// Appends a record. `zone`: the machine's own.
pub(super) fn write(out: &mut Vec<u8>, dictionary: &Dictionary, record: &Record, zone: &TimeZone) {
    let received = micros(record.received);
    // Beyond the years that have zones it is UTC.
    let ahead = Timestamp::from_microsecond(received).map_or(0, |at| zone.to_offset(at).seconds());
    Moment::new(received.saturating_add(i64::from(ahead) * 1_000_000)).write_ctime(out);
    out.push(b'\n');
    if let Ok(packet) = Packet::parse(&record.packet) {
        let mut text = String::new();
        for event in packet.walk(dictionary, None) {
            // Those inside a tlv have names of their own.
            let Event::Pair(pair) = event else { continue };
            text.clear();
            // A String takes whatever is written.
            let _ = print_pair(&mut text, &pair);
            out.push(b'\t');
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        }
    }
    let _ = writeln!(out, "\tTimestamp = {}\n", received.div_euclid(1_000_000));
}
