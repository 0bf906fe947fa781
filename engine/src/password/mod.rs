//! Stored passwords: `{SCHEME}` and base64 (RFC 2307, and what directories added to it), or the password itself.
//!
//! [`verify`] compares in line. It knows: `{SHA}` `{SSHA}` `{MD5}` `{SMD5}` `{SHA256}` `{SSHA256}` `{SHA384}` `{SSHA384}` `{SHA512}`
//! `{SSHA512}`, `{NT}` (MD4 of UTF-16, in hexadecimal digits), and `{CRYPT}` with SHA-256 (`$5$`) or SHA-512 (`$6$`) of at most
//! [`CRYPT_ROUNDS_MAX`] rounds, whose usual 5,000 take milliseconds. A [`Check`] knows more and may take longer: it is to be run
//! where nobody waits behind it. Any other scheme never matches.

mod check;
mod dear;
mod des_crypt;
mod md5_crypt;
pub mod nt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha_crypt::PasswordVerifier as _;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

pub use check::{Check, Cost};

/// More rounds of a `{CRYPT}` hash are refused: one bind must not hold a worker for longer than some ten milliseconds.
pub const CRYPT_ROUNDS_MAX: u32 = 20_000;

/// What comparing told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the password.
    Match,
    /// It is not.
    NoMatch,
    /// The stored value is in a scheme that is not known here, or is malformed: nobody knows.
    Unknown,
}

/// Compares what was offered with what is stored, in time that does not depend on where they differ.
#[must_use]
pub fn verify(stored: &[u8], offered: &[u8]) -> Verdict {
    let Some((scheme, rest)) = scheme(stored) else {
        return verdict(same(stored, offered));
    };
    let hashed = match scheme.to_ascii_uppercase().as_slice() {
        b"SHA" => digest::<Sha1>(rest, offered, false),
        b"SSHA" => digest::<Sha1>(rest, offered, true),
        b"MD5" => digest::<Md5>(rest, offered, false),
        b"SMD5" => digest::<Md5>(rest, offered, true),
        b"SHA256" => digest::<Sha256>(rest, offered, false),
        b"SSHA256" => digest::<Sha256>(rest, offered, true),
        b"SHA384" => digest::<Sha384>(rest, offered, false),
        b"SSHA384" => digest::<Sha384>(rest, offered, true),
        b"SHA512" => digest::<Sha512>(rest, offered, false),
        b"SSHA512" => digest::<Sha512>(rest, offered, true),
        b"CRYPT" => crypt(rest, offered),
        b"NT" | b"NTHASH" | b"X-NTHASH" => nt_hash(rest, offered),
        b"CLEAR" | b"CLEARTEXT" => Some(same(rest, offered)),
        _ => None,
    };
    hashed.map_or(Verdict::Unknown, verdict)
}

/// How long comparing with this takes.
#[must_use]
pub fn cost(stored: &[u8]) -> Cost {
    let dear = scheme(stored).is_some_and(|(scheme, _)| dear::is_dear(&scheme.to_ascii_uppercase()));
    if dear { Cost::Dear } else { Cost::Cheap }
}

/// The password itself, where it is stored so; none: only a hash of it is.
#[must_use]
pub fn clear(stored: &[u8]) -> Option<&[u8]> {
    match scheme(stored) {
        None => Some(stored),
        Some((scheme, rest)) => {
            let clear = scheme.eq_ignore_ascii_case(b"CLEAR") || scheme.eq_ignore_ascii_case(b"CLEARTEXT");
            clear.then_some(rest)
        }
    }
}

/// The NT hash (MS-CHAP's password hash) of a stored password, where it can be known.
#[must_use]
pub fn nt_hash_of(stored: &[u8]) -> Option<nt::Hash> {
    if let Some(clear) = clear(stored) {
        return nt::hash(clear);
    }
    let (scheme, rest) = scheme(stored)?;
    let known = [b"NT".as_slice(), b"NTHASH", b"X-NTHASH"];
    known.iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    nt::from_hex(rest)
}

/// A `{SSHA}` value, as the demo's people have.
#[must_use]
pub fn ssha(password: &[u8], salt: [u8; 8]) -> String {
    let digest = Sha1::new().chain_update(password).chain_update(salt).finalize();
    format!("{{SSHA}}{}", STANDARD.encode([digest.as_slice(), &salt].concat()))
}

/// A `{SSHA512}` value: what a new password is stored as.
#[must_use]
pub(crate) fn ssha512(password: &[u8], salt: &[u8]) -> String {
    let digest = Sha512::new().chain_update(password).chain_update(salt).finalize();
    format!("{{SSHA512}}{}", STANDARD.encode([digest.as_slice(), salt].concat()))
}

/// `{SCHEME}` and what is behind it.
fn scheme(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = stored.strip_prefix(b"{")?;
    let end = inside.iter().position(|b| *b == b'}')?;
    let (scheme, rest) = inside.split_at_checked(end)?;
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.');
    let named = !scheme.is_empty() && scheme.iter().all(legal);
    named.then_some((scheme, rest.get(1..).unwrap_or_default()))
}

fn digest<D: Digest>(encoded: &[u8], offered: &[u8], salted: bool) -> Option<bool> {
    let stored = STANDARD.decode(encoded).ok()?;
    let (digest, salt) = stored.split_at_checked(<D as Digest>::output_size())?;
    if salt.is_empty() == salted {
        return None;
    }
    let offered = D::new().chain_update(offered).chain_update(salt).finalize();
    Some(same(digest, &offered))
}

fn nt_hash(stored: &[u8], offered: &[u8]) -> Option<bool> {
    let stored = nt::from_hex(stored)?;
    Some(nt::hash(offered).is_some_and(|offered| same(stored.as_bytes(), offered.as_bytes())))
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn verdict(same: bool) -> Verdict {
    if same { Verdict::Match } else { Verdict::NoMatch }
}

/// More octets of an offered password never match a `{CRYPT}` hash: its cost grows with their square.
const CRYPT_PASSWORD_BYTES_MAX: usize = 256;

fn crypt(stored: &[u8], offered: &[u8]) -> Option<bool> {
    let stored = std::str::from_utf8(stored).ok()?;
    let settings = stored.strip_prefix("$5$").or_else(|| stored.strip_prefix("$6$"))?;
    if let Some(rounds) = settings.strip_prefix("rounds=") {
        let rounds: u32 = rounds.split('$').next()?.parse().ok()?;
        if rounds > CRYPT_ROUNDS_MAX {
            return None;
        }
    }
    if offered.len() > CRYPT_PASSWORD_BYTES_MAX {
        return Some(false);
    }
    match sha_crypt::ShaCrypt::default().verify_password(offered, stored) {
        Ok(()) => Some(true),
        Err(sha_crypt::password_hash::Error::PasswordInvalid) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python's hashlib and crypt, slappasswd, and `openssl passwd`, all for the password "secret".
    const STORED: &[&str] = &[
        "secret",
        "{CLEARTEXT}secret",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA==",
        "{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==",
        "{SMD5}jeVtrcP2L12WvyhYmcQhjE5hQ2w1Njc4",
        "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
        "{SSHA256}HOtg3CZn8FQvErMX1doYwz4hVl1uLRQgaaj8tFlU3WxOYUNsNTY3OA==",
        "{SHA384}WKd1ukESvjAFrkQHznV9iP2nHUBJe7gCbsrFTU4//HIyzo3jq1rLMK45dg/ufFPt",
        "{SSHA384}H/CORL8us+/I8I4NFqioMnrzkZTTVZd3FGU5obpHfdEUiPL8IL8Ufj07hgcAJ+XoTmFDbDU2Nzg=",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
        "{SSHA512}OkkeNBx1CBwz6gThYAYFY20JTRaGaOGWZMVzwtw4IHZylbnx2o2NwIfBrPhFAjrXKfy5LYqQQidEgQJGSXChU05hQ2w1Njc4",
        "{SSHA}onsyk175I2mF21ATeEuwCM+bb6DXdEMb",
        "{SMD5}kNoQbPweg+Ujyk2DdqTDnkD50+Q=",
        "{CRYPT}$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
        "{CRYPT}$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
        "{CRYPT}$6$rounds=1500$saltstring$DYxiAL6pInuC7cpDDp11RE5qrxBKUMMhSn7rQ/Z0PgTvsMrU91oDKLoqizIkTXzEv8kos5UNom790rtM3JKYd.",
    ];

    #[test]
    fn every_scheme_tells_right_from_wrong() {
        for stored in STORED {
            assert_eq!(verify(stored.as_bytes(), b"secret"), Verdict::Match, "{stored}");
            assert_eq!(verify(stored.as_bytes(), b"Secret"), Verdict::NoMatch, "{stored}");
            assert_eq!(verify(stored.as_bytes(), b""), Verdict::NoMatch, "{stored}");
            let lower = stored.replacen("{S", "{s", 1);
            assert_eq!(verify(lower.as_bytes(), b"secret"), Verdict::Match, "{lower}");
        }
        assert_eq!(
            verify(ssha(b"secret", *b"12345678").as_bytes(), b"secret"),
            Verdict::Match
        );
    }

    #[test]
    fn what_nobody_can_check_never_matches() {
        for stored in [
            "{ARGON2}$argon2id$v=19$m=7168,t=5,p=1$c2FsdHNhbHQ$x",
            "{CRYPT}xyKNqYQyMHHLA", // a Check would know
            "{CRYPT}$6$rounds=20001$saltsalt$x",
            "{SSHA}!!!",
            "{SSHA}c2hvcnQ=",
            "{SHA}",
        ] {
            assert_eq!(verify(stored.as_bytes(), b"secret"), Verdict::Unknown, "{stored}");
        }
    }

    #[test]
    fn braces_alone_are_a_plain_password() {
        assert_eq!(verify(b"{", b"{"), Verdict::Match);
        assert_eq!(verify(b"{}x", b"{}x"), Verdict::Match);
        assert_eq!(verify(b"{not a scheme}x", b"{not a scheme}x"), Verdict::Match);
        assert_eq!(verify(b"", b""), Verdict::Match);
    }

    #[test]
    fn a_long_password_costs_nothing() {
        let stored = STORED.iter().find(|s| s.starts_with("{CRYPT}$6$")).unwrap();
        assert_eq!(verify(stored.as_bytes(), &vec![b'x'; 4 << 20]), Verdict::NoMatch);
    }
}
