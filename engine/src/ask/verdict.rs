//! What the end of a bind says about a password: the result code, the password policy's control
//! (draft-behera-ldap-password-policy), and what Active Directory writes into its diagnostic message.
//!
//! A code that is no judgement of the password (busy, a policy that wants TLS, an error) is *unavailable*, never a verdict.

use super::Final;
use wire::ber::{self, Reader};
use wire::ldap::control::{self, oid};
use wire::ldap::result::code;

/// The password is right; what else is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bound {
    /// It must be changed before anything else.
    pub must_change: bool,
    /// Seconds until it expires, where it is close.
    pub expires_secs: Option<u32>,
    /// It has expired, and may be used so many times more.
    pub grace: Option<u32>,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Right.
    Right(Bound),
    /// Wrong.
    Wrong,
    /// Right, but expired.
    PasswordExpired,
    /// Right, but to be changed first, and the server lets nobody in before.
    MustChange,
    /// Too many wrong passwords.
    LockedOut,
    /// The account is disabled.
    Disabled,
    /// The account has expired.
    Expired,
    /// Not now, or not from here.
    Restricted,
    /// Refused without a nearer reason.
    Denied,
    /// Nobody has judged.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Policy {
    expires_secs: Option<u32>,
    grace: Option<u32>,
    error: Option<i32>,
}

/// Reads the end of a bind.
pub fn bind_verdict(end: &Final<'_>) -> Verdict {
    let policy = policy(end.controls);
    if end.code == code::SUCCESS {
        return Verdict::Right(Bound {
            must_change: policy.error == Some(2),
            expires_secs: policy.expires_secs,
            grace: policy.grace,
        });
    }
    let refused = match end.code {
        code::INVALID_CREDENTIALS | code::INAPPROPRIATE_AUTHENTICATION | code::NO_SUCH_OBJECT => Verdict::Wrong,
        code::UNWILLING_TO_PERFORM | code::CONSTRAINT_VIOLATION | code::INSUFFICIENT_ACCESS_RIGHTS => Verdict::Denied,
        _ => return Verdict::Unavailable,
    };
    match policy.error {
        Some(0) => return Verdict::PasswordExpired,
        Some(1) => return Verdict::LockedOut,
        Some(2) => return Verdict::MustChange,
        _ => {}
    }
    active_directory(end.diagnostic).unwrap_or(refused)
}

/// `80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 532, v1db1`: the number is a Windows error.
fn active_directory(diagnostic: &[u8]) -> Option<Verdict> {
    let text = std::str::from_utf8(diagnostic).ok()?;
    let (_, data) = text.split_once("AcceptSecurityContext error, data ")?;
    let number = data.split([',', ' ']).next()?;
    Some(match number {
        "525" | "52e" => Verdict::Wrong,
        "530" | "531" => Verdict::Restricted,
        "532" => Verdict::PasswordExpired,
        "533" => Verdict::Disabled,
        "701" => Verdict::Expired,
        "773" => Verdict::MustChange,
        "775" => Verdict::LockedOut,
        _ => return None,
    })
}

fn policy(controls: &[u8]) -> Policy {
    control::controls(controls)
        .flatten()
        .find(|found| found.oid == oid::PASSWORD_POLICY.as_bytes())
        .and_then(|found| read_policy(found.value?))
        .unwrap_or_default()
}

fn read_policy(value: &[u8]) -> Option<Policy> {
    let mut fields = Reader::inside(value, ber::tag::SEQUENCE).ok()?;
    let mut policy = Policy::default();
    if let Some(warning) = fields.take_optional(0xA0).ok()? {
        let mut warning = Reader::new(warning);
        let number = |content| ber::integer(content).ok().and_then(|number| u32::try_from(number).ok());
        if let Some(content) = warning.take_optional(0x80).ok()? {
            policy.expires_secs = number(content);
        } else if let Some(content) = warning.take_optional(0x81).ok()? {
            policy.grace = number(content);
        }
    }
    if let Some(content) = fields.take_optional(0x81).ok()? {
        policy.error = ber::integer(content).ok();
    }
    Some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end<'a>(code: u32, diagnostic: &'a str, controls: &'a [u8]) -> Final<'a> {
        Final {
            code,
            diagnostic: diagnostic.as_bytes(),
            controls,
        }
    }

    fn with_policy(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        control::write_control(&mut out, "1.2.3", false, Some(b"x"));
        control::write_control(&mut out, oid::PASSWORD_POLICY, false, Some(value));
        out
    }

    #[test]
    fn a_policy_s_words_are_told_apart() {
        let of = |code, value: &[u8]| bind_verdict(&end(code, "", &with_policy(value)));
        assert_eq!(of(0, b"\x30\x00"), Verdict::Right(Bound::default()));
        let must = Bound {
            must_change: true,
            ..Bound::default()
        };
        assert_eq!(of(0, b"\x30\x03\x81\x01\x02"), Verdict::Right(must));
        let soon = Bound {
            expires_secs: Some(600),
            ..Bound::default()
        };
        assert_eq!(of(0, b"\x30\x06\xa0\x04\x80\x02\x02\x58"), Verdict::Right(soon));
        let grace = Bound {
            grace: Some(3),
            ..Bound::default()
        };
        assert_eq!(of(0, b"\x30\x05\xa0\x03\x81\x01\x03"), Verdict::Right(grace));
        assert_eq!(of(49, b"\x30\x03\x81\x01\x00"), Verdict::PasswordExpired);
        assert_eq!(of(49, b"\x30\x03\x81\x01\x01"), Verdict::LockedOut);
        assert_eq!(of(19, b"\x30\x03\x81\x01\x01"), Verdict::LockedOut);
        assert_eq!(of(49, b"\x30\x00"), Verdict::Wrong);
        assert_eq!(of(49, b"\x31"), Verdict::Wrong, "what cannot be read says nothing");
        assert_eq!(of(52, b"\x30\x03\x81\x01\x01"), Verdict::Unavailable);
    }

    #[test]
    fn active_directory_s_numbers_are_told_apart() {
        let of = |data: &str| {
            let text =
                format!("80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data {data}, v2580");
            bind_verdict(&end(49, &text, b""))
        };
        for (data, verdict) in [
            ("52e", Verdict::Wrong),
            ("525", Verdict::Wrong),
            ("531", Verdict::Restricted),
            ("532", Verdict::PasswordExpired),
            ("533", Verdict::Disabled),
            ("701", Verdict::Expired),
            ("773", Verdict::MustChange),
            ("775", Verdict::LockedOut),
            ("999", Verdict::Wrong),
        ] {
            assert_eq!(of(data), verdict, "{data}");
        }
    }

    #[test]
    fn what_is_no_judgement_is_none() {
        for code in [1, 2, 3, 8, 10, 11, 13, 51, 52, 80, 999] {
            assert_eq!(bind_verdict(&end(code, "", b"")), Verdict::Unavailable, "{code}");
        }
        assert_eq!(bind_verdict(&end(53, "", b"")), Verdict::Denied);
    }
}
