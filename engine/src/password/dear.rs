//! Stored passwords that are dear to compare on purpose. All of them are bounded: a value that asks for more work or memory
//! than its bound is *unknown*, because whoever may write a stored password must not be able to stop a server.
//!
//! Known besides what [`super::verify`] knows: `{CRYPT}` with DES, `$1$`, `$apr1$`, bcrypt (`$2a$`, `$2b$`, `$2y$`) and yescrypt
//! (`$y$`); `{PBKDF2}`, `{PBKDF2-SHA1}`, `{PBKDF2-SHA256}`, `{PBKDF2-SHA512}` as OpenLDAP and 389 Directory Server write them, and the
//! older `{PBKDF2_SHA256}` of the latter; `{ARGON2}`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use yescrypt::PasswordVerifier as _;

use super::{Verdict, des_crypt, md5_crypt, same, scheme};

/// Rounds of PBKDF2.
const PBKDF2_ROUNDS_MAX: u32 = 1_000_000;
/// The cost of bcrypt: 2 to the power of this.
const BCRYPT_COST_MAX: u32 = 13;
/// Memory of argon2 and yescrypt, in KiB.
const MEMORY_KIB_MAX: u64 = 128 << 10;
/// Memory times passes of argon2, in KiB.
const ARGON2_WORK_MAX: u64 = 1 << 20;
/// A longer password never matches: some of these grow with its length.
const PASSWORD_BYTES_MAX: usize = 256;

pub(super) fn is_dear(scheme: &[u8]) -> bool {
    matches!(scheme, b"CRYPT" | b"ARGON2") || scheme.starts_with(b"PBKDF2")
}

pub(super) fn verify(stored: &[u8], offered: &[u8]) -> Verdict {
    let Some((scheme, rest)) = scheme(stored) else {
        return super::verify(stored, offered);
    };
    let scheme = scheme.to_ascii_uppercase();
    if !is_dear(&scheme) {
        return super::verify(stored, offered);
    }
    if offered.len() > PASSWORD_BYTES_MAX {
        return Verdict::NoMatch;
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return Verdict::Unknown;
    };
    let compared = match scheme.as_slice() {
        b"CRYPT" => crypt(text, stored, offered),
        b"ARGON2" => argon2(text, offered),
        b"PBKDF2_SHA256" => pbkdf2_packed(text, offered),
        b"PBKDF2" | b"PBKDF2-SHA1" => pbkdf2(text, offered, pbkdf2::pbkdf2_hmac::<Sha1>),
        b"PBKDF2-SHA256" => pbkdf2(text, offered, pbkdf2::pbkdf2_hmac::<Sha256>),
        b"PBKDF2-SHA512" => pbkdf2(text, offered, pbkdf2::pbkdf2_hmac::<Sha512>),
        _ => None,
    };
    match compared {
        Some(true) => Verdict::Match,
        Some(false) => Verdict::NoMatch,
        None => Verdict::Unknown,
    }
}

fn crypt(text: &str, stored: &[u8], offered: &[u8]) -> Option<bool> {
    if text.starts_with("$1$") || text.starts_with("$apr1$") {
        return md5_crypt::verify(text, offered);
    }
    if text.starts_with("$2") {
        let cost: u32 = text.split('$').nth(2)?.parse().ok()?;
        if cost > BCRYPT_COST_MAX {
            return None;
        }
        return bcrypt::verify(offered, text).ok();
    }
    if let Some(settings) = text.strip_prefix("$y$") {
        return yescrypt(text, settings, offered);
    }
    if text.starts_with('$') {
        return match super::verify(stored, offered) {
            Verdict::Match => Some(true),
            Verdict::NoMatch => Some(false),
            Verdict::Unknown => None,
        };
    }
    des_crypt::verify(text.as_bytes(), offered)
}

fn yescrypt(text: &str, settings: &str, offered: &[u8]) -> Option<bool> {
    let params = settings.split('$').next()?;
    // Flavour, N and r, one character each: what follows would be more passes or lanes, which nobody uses.
    if params.len() != 3 {
        return None;
    }
    let parsed: yescrypt::Params = params.parse().ok()?;
    if parsed.n().checked_mul(u64::from(parsed.r()))? / 8 > MEMORY_KIB_MAX {
        return None;
    }
    let hash = yescrypt::PasswordHashRef::new(text).ok()?;
    match yescrypt::Yescrypt::default().verify_password(offered, hash) {
        Ok(()) => Some(true),
        Err(yescrypt::password_hash::Error::PasswordInvalid) => Some(false),
        Err(_) => None,
    }
}

/// `$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH`
fn argon2(text: &str, offered: &[u8]) -> Option<bool> {
    let mut fields = text.strip_prefix('$')?.split('$');
    let algorithm = Algorithm::new(fields.next()?).ok()?;
    let mut field = fields.next()?;
    let version = match field.strip_prefix("v=") {
        Some(version) => {
            field = fields.next()?;
            Version::try_from(version.parse::<u32>().ok()?).ok()?
        }
        None => Version::V0x10,
    };
    let (mut memory, mut passes, mut lanes) = (None, None, None);
    for setting in field.split(',') {
        let (name, value) = setting.split_once('=')?;
        let value: u32 = value.parse().ok()?;
        match name {
            "m" => memory = Some(value),
            "t" => passes = Some(value),
            "p" => lanes = Some(value),
            _ => return None,
        }
    }
    let (memory, passes, lanes) = (memory?, passes?, lanes?);
    let work = u64::from(memory).checked_mul(u64::from(passes))?;
    if u64::from(memory) > MEMORY_KIB_MAX || work > ARGON2_WORK_MAX || lanes > 64 {
        return None;
    }
    let salt = STANDARD_NO_PAD.decode(fields.next()?.trim_end_matches('=')).ok()?;
    let hash = STANDARD_NO_PAD.decode(fields.next()?.trim_end_matches('=')).ok()?;
    if fields.next().is_some() || hash.len() > 128 {
        return None;
    }
    let params = Params::new(memory, passes, lanes, Some(hash.len())).ok()?;
    let mut made = vec![0; hash.len()];
    let context = Argon2::new(algorithm, version, params);
    context.hash_password_into(offered, &salt, &mut made).ok()?;
    Some(same(&hash, &made))
}

/// `ROUNDS$SALT$HASH`, in the base64 of passlib: `.` for `+`, no padding.
fn pbkdf2(text: &str, offered: &[u8], derive: fn(&[u8], &[u8], u32, &mut [u8])) -> Option<bool> {
    let mut fields = text.split('$');
    let rounds: u32 = fields.next()?.parse().ok()?;
    let decode = |field: &str| {
        STANDARD_NO_PAD
            .decode(field.trim_end_matches('=').replace('.', "+"))
            .ok()
    };
    let (salt, hash) = (decode(fields.next()?)?, decode(fields.next()?)?);
    if fields.next().is_some() {
        return None;
    }
    derived(&salt, &hash, rounds, offered, derive)
}

/// Rounds (4 octets), salt (64) and hash (256), altogether in base64.
fn pbkdf2_packed(text: &str, offered: &[u8]) -> Option<bool> {
    let packed = STANDARD.decode(text).ok()?;
    let (rounds, rest) = packed.split_first_chunk::<4>()?;
    let (salt, hash) = rest.split_at_checked(64)?;
    derived(
        salt,
        hash,
        u32::from_be_bytes(*rounds),
        offered,
        pbkdf2::pbkdf2_hmac::<Sha256>,
    )
}

fn derived(
    salt: &[u8],
    hash: &[u8],
    rounds: u32,
    offered: &[u8],
    derive: fn(&[u8], &[u8], u32, &mut [u8]),
) -> Option<bool> {
    let legal = !hash.is_empty() && hash.len() <= 256 && (1..=PBKDF2_ROUNDS_MAX).contains(&rounds);
    if !legal || u64::from(rounds) * (hash.len() as u64).div_ceil(20) > u64::from(PBKDF2_ROUNDS_MAX) * 4 {
        return None;
    }
    let mut made = vec![0; hash.len()];
    derive(offered, salt, rounds, &mut made);
    Some(same(hash, &made))
}
