//! The words of a dictionary's lines: numbers, names, formats, types and flags.

use super::{Definition, Format, Hiding};
use crate::radius::value::{DataType, unsigned};

/// Octets of a name, at most.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// What was found, and what would be right.
pub(super) type Wrong = (String, String);

pub(super) fn wrong<T>(found: impl Into<String>, right: impl Into<String>) -> Result<T, Wrong> {
    Err((found.into(), right.into()))
}

pub(super) fn number_of(text: &str) -> Option<u32> {
    unsigned(text, u32::MAX.into()).and_then(|number| u32::try_from(number).ok())
}

pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'/');
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        let right = format!("at most {NAME_BYTES_MAX} letters, digits, hyphens, underscores, dots and slashes");
        return wrong(format!("name {shown}"), right);
    }
    Ok(())
}

pub(super) fn parse_format(text: &str) -> Result<Format, Wrong> {
    let parts: Option<Vec<&str>> = text.strip_prefix("format=").map(|parts| parts.split(',').collect());
    let (number, length, continuation) = match parts.as_deref() {
        Some(&[number, length]) => (number, length, false),
        Some(&[number, length, "c"]) => (number, length, true),
        _ => ("", "", false),
    };
    let format = match (number, length) {
        ("1" | "2" | "4", "0" | "1" | "2") => Format {
            number_octets: number.parse().unwrap_or(1),
            length_octets: length.parse().unwrap_or(1),
            continuation,
        },
        _ => {
            return wrong(
                text,
                "format=T,L or format=T,L,c with 1, 2 or 4 for T and 0, 1 or 2 for L",
            );
        }
    };
    if continuation && length == "0" {
        return wrong(text, "a length where the value may go on in the next attribute");
    }
    Ok(format)
}

pub(super) fn read_type(definition: &mut Definition, text: &str) -> Result<(), Wrong> {
    let (name, length) = match text.split_once('[') {
        Some((name, length)) => (name, length.strip_suffix(']')),
        None => (text, Some("")),
    };
    let Some(data_type) = DataType::named(name) else {
        let right = "string, octets, integer, integer64, byte, short, signed, date, ipaddr, ipv6addr, ipv6prefix, ipv4prefix, \
                     combo-ip, ifid, ether, abinary, tlv, vsa, extended, long-extended or evs";
        return wrong(format!("type {name}"), right);
    };
    definition.data_type = data_type;
    definition.length = match length {
        Some("") => None,
        Some(length) => match unsigned(length, 253).and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length > 0 && matches!(data_type, DataType::Octets | DataType::Text) => Some(length),
            _ => {
                return wrong(
                    format!("type {text}"),
                    "a length of 1 to 253 in brackets, of octets or string",
                );
            }
        },
        None => return wrong(format!("type {text}"), "a ] at its end"),
    };
    Ok(())
}

pub(super) fn read_flags(definition: &mut Definition, flags: &str) -> Result<(), Wrong> {
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        match flag.to_ascii_lowercase().as_str() {
            "has_tag"
                if matches!(
                    definition.data_type,
                    DataType::Text | DataType::Octets | DataType::Integer
                ) =>
            {
                definition.has_tag = true
            }
            "has_tag" => {
                return wrong(
                    format!("has_tag at a {}", definition.data_type),
                    "tags only at string, octets and integer",
                );
            }
            "encrypt=1" => definition.hiding = Some(Hiding::Password),
            "encrypt=2" => definition.hiding = Some(Hiding::Salted),
            "encrypt=3" => definition.hiding = Some(Hiding::Ascend),
            "concat" if definition.data_type == DataType::Octets => definition.concat = true,
            "concat" => return wrong(format!("concat at a {}", definition.data_type), "concat only at octets"),
            "array" => definition.array = true,
            "virtual" | "internal" => definition.internal = true,
            "secret" => definition.secret = true,
            _ => {
                let right = "has_tag, encrypt=1, encrypt=2, encrypt=3, concat, array, virtual, internal or secret";
                return wrong(format!("flag {flag}"), right);
            }
        }
    }
    Ok(())
}
