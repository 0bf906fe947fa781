//! The attributes by which FreeRADIUS's lists give a password, as stored passwords ([`crate::password`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::password::{self, Cost, Verdict, nt};

/// Whether an attribute of this name gives a password.
pub(super) fn is_password(name: &str) -> bool {
    scheme(name).is_some() || WHOLE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

const WHOLE: [&str; 4] = [
    "Cleartext-Password",
    "Password-With-Header",
    "Crypt-Password",
    "NT-Password",
];

/// The scheme, the octets of its digest, and whether a salt stands behind it.
fn scheme(name: &str) -> Option<(&'static str, usize, bool)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "md5-password" => ("MD5", 16, false),
        "smd5-password" => ("SMD5", 16, true),
        "sha-password" | "sha1-password" => ("SHA", 20, false),
        "ssha-password" | "ssha1-password" => ("SSHA", 20, true),
        "sha2-256-password" => ("SHA256", 32, false),
        "sha2-384-password" => ("SHA384", 48, false),
        "sha2-512-password" => ("SHA512", 64, false),
        "ssha2-256-password" => ("SSHA256", 32, true),
        "ssha2-384-password" => ("SSHA384", 48, true),
        "ssha2-512-password" => ("SSHA512", 64, true),
        // Which one it is, its length says.
        "sha2-password" => ("SHA2", 0, false),
        _ => return None,
    })
}

/// What is stored for a value of such an attribute. Err: what would be right.
pub(super) fn stored(name: &str, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let has_header = name.eq_ignore_ascii_case("Password-With-Header");
    if name.eq_ignore_ascii_case("Cleartext-Password") || (has_header && !value.starts_with(b"{")) {
        // What looks like a scheme or a hash is a part of this password.
        let looks_stored = value.starts_with(b"{") || is_crypt(value);
        let scheme: &[u8] = if looks_stored { b"{CLEARTEXT}" } else { b"" };
        return Ok(Zeroizing::new([scheme, value].concat()));
    }
    if has_header {
        return with_scheme(value);
    }
    if name.eq_ignore_ascii_case("Crypt-Password") {
        return known([b"{CRYPT}", value].concat(), "what crypt(3) gives");
    }
    if name.eq_ignore_ascii_case("NT-Password") {
        let hash = nt::from_hex(value).ok_or("32 hexadecimal digits")?;
        let mut stored = Zeroizing::new(b"{NT}".to_vec());
        for octet in hash.as_bytes() {
            stored.extend_from_slice(format!("{octet:02X}").as_bytes());
        }
        return Ok(stored);
    }
    let Some((scheme, octets, is_salted)) = scheme(name) else {
        return Err("an attribute that gives a password".to_owned());
    };
    let fits = |found: usize| match octets {
        0 => matches!(found, 32 | 48 | 64),
        octets if is_salted => found > octets,
        octets => found == octets,
    };
    let decoded = hex(value)
        .filter(|decoded| fits(decoded.len()))
        .or_else(|| STANDARD.decode(value).ok().map(Zeroizing::new))
        .filter(|decoded| fits(decoded.len()))
        .ok_or_else(|| match octets {
            0 => "base64 or hexadecimal digits of 32, 48 or 64 octets".to_owned(),
            octets if is_salted => format!("base64 or hexadecimal digits of {octets} octets and a salt"),
            octets => format!("base64 or hexadecimal digits of {octets} octets"),
        })?;
    let bits = decoded.len() * 8;
    let scheme = if octets == 0 {
        format!("SHA{bits}")
    } else {
        scheme.to_owned()
    };
    let text = Zeroizing::new(STANDARD.encode(&*decoded));
    Ok(Zeroizing::new(format!("{{{scheme}}}{}", &*text).into_bytes()))
}

/// Whether it begins as what crypt(3) gives: `$6$…`.
fn is_crypt(value: &[u8]) -> bool {
    const IDS: [&[u8]; 15] = [
        b"1",
        b"2a",
        b"2b",
        b"2x",
        b"2y",
        b"5",
        b"6",
        b"7",
        b"y",
        b"gy",
        b"md5",
        b"sha1",
        b"argon2i",
        b"argon2d",
        b"argon2id",
    ];
    let mut parts = value.splitn(3, |octet| *octet == b'$');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(b""), Some(id), Some(_)) => IDS.contains(&id),
        _ => false,
    }
}

/// A password as our own lists have it: a scheme in braces and its value, what crypt(3) gives, or the password itself.
///
/// # Errors
/// What would be right: nobody can be compared with this one.
pub fn with_scheme(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    if is_crypt(value) {
        return known([b"{CRYPT}", value].concat(), "what crypt(3) gives");
    }
    let right =
        "a scheme that is known, like {SSHA}, and its value; {CLEARTEXT} before a password that begins with a brace";
    known(value.to_vec(), right)
}

/// Only what can be compared; what is dear to compare is not tried here.
fn known(stored: Vec<u8>, right: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let stored = Zeroizing::new(stored);
    if password::cost(&stored) == Cost::Cheap && password::verify(&stored, b"") == Verdict::Unknown {
        return Err(right.to_owned());
    }
    Ok(stored)
}

fn hex(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits = value.strip_prefix(b"0x").unwrap_or(value);
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |octet: u8| {
        char::from(octet)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = digits.chunks_exact(2).map(|pair| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}
