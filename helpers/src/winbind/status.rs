//! What winbind's codes mean: `wbcErr` for everything, NTSTATUS for logons and password changes.
//!
//! Only a code of which it is known to speak of the user or the password becomes a verdict. Every other one, known or not, is
//! `unavailable`: a domain controller out of reach must never look like a wrong password.

use super::backend::{Failure, Reject};
use crate::identity::{Refusal, Status};

/// `WBC_ERR_SUCCESS`.
pub(super) const SUCCESS: u32 = 0;
/// `WBC_ERR_DOMAIN_NOT_FOUND`: also every look-up that found nothing.
pub(super) const DOMAIN_NOT_FOUND: u32 = 7;
/// `WBC_ERR_AUTH_ERROR`.
pub(super) const AUTH_ERROR: u32 = 10;
/// `WBC_ERR_PWD_CHANGE_FAILED`.
pub(super) const PASSWORD_CHANGE_FAILED: u32 = 13;

const NOT_IMPLEMENTED: u32 = 1;
/// `WBC_ERR_INVALID_SID`.
pub(super) const INVALID_SID: u32 = 4;
const INVALID_PARAM: u32 = 5;
const NOT_AVAILABLE: u32 = 6;
const UNKNOWN_USER: u32 = 11;
const UNKNOWN_GROUP: u32 = 12;

/// NTSTATUS (MS-ERREF 2.3) of a logon or a password change that speak of the user.
const VERDICTS: &[(u32, Status, &str)] = &[
    (0xC000_0064, Status::NotFound, "no such user"),
    (0xC000_006A, Status::WrongPassword, "wrong password"),
    (0xC000_006D, Status::Denied, "wrong name or password"),
    (0xC000_0072, Status::Disabled, "the account is disabled"),
    (0xC000_0193, Status::Expired, "the account has expired"),
    (0xC000_0071, Status::PasswordExpired, "the password has expired"),
    (0xC000_0224, Status::MustChange, "the password must be changed first"),
    (0xC000_0234, Status::LockedOut, "locked after too many wrong passwords"),
    (
        0xC000_006E,
        Status::Restricted,
        "the account's restrictions do not allow it",
    ),
    (0xC000_006F, Status::Restricted, "not at this time"),
    (0xC000_0070, Status::Restricted, "not from this workstation"),
    (0xC000_015B, Status::Restricted, "not by this kind of logon"),
    (0xC000_0198, Status::Restricted, "an account of a trust between domains"),
    (0xC000_0199, Status::Restricted, "an account of a workstation"),
    (0xC000_019A, Status::Restricted, "an account of a server"),
    (
        0xC000_0413,
        Status::Restricted,
        "the authentication firewall does not allow it",
    ),
    (
        0xC000_006B,
        Status::Restricted,
        "the new password has characters that are not allowed",
    ),
    (
        0xC000_006C,
        Status::Restricted,
        "the new password does not meet the domain's policy",
    ),
    (0xC000_025A, Status::Restricted, "the new password is too short"),
    (0xC000_025B, Status::Restricted, "the password was changed too recently"),
    (0xC000_025C, Status::Restricted, "the new password was used before"),
];

/// `NT_STATUS_ACCESS_DENIED`: who asks may not, or who wants a new password may not have one.
const ACCESS_DENIED: u32 = 0xC000_0022;

/// Responses go through a pipe of their own.
const UNPRIVILEGED: &str = "winbindd does not answer on its privileged pipe: is it running, and does this helper run as root or in the \
                            group winbindd_priv?";

/// winbindd refuses every such change where it keeps passwords for offline logons, which it could not renew.
const UNCHANGEABLE: &str =
    "this password may not be changed (nor any other by MS-CHAP while smb.conf says winbind offline logon = yes)";

/// What was attempted, where a code's meaning depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    /// A look-up.
    Lookup,
    /// A logon with a password.
    Password,
    /// A logon with a response to a challenge.
    Response,
    /// A password change.
    Change,
    /// The same with passwords that winbindd cannot read.
    EncryptedChange,
    /// The end of a logon.
    Logoff,
}

/// The answer that a failure is.
pub(super) fn answer(failure: &Failure, attempt: Attempt) -> Refusal {
    match failure {
        Failure::Library {
            code: NOT_AVAILABLE, ..
        } if attempt == Attempt::Response => Refusal::new(Status::Unavailable, UNPRIVILEGED),
        Failure::Library { code, text } => library(*code, text),
        Failure::Logon {
            nt_status,
            text,
            reject,
        } => logon(*nt_status, text, *reject, attempt),
        Failure::TooLong { what } => Refusal::new(
            Status::Invalid,
            format!("`{what}` has more than 255 bytes, which winbind does not take"),
        ),
        Failure::Missing(function) => Refusal::new(
            Status::Unsupported,
            format!(
                "this machine's libwbclient has no {function}: it is too old for this request, and for nothing else"
            ),
        ),
        Failure::Unreadable(what) => Refusal::new(
            Status::Unavailable,
            format!("winbind gave what cannot be passed on: {what}"),
        ),
    }
}

fn library(code: u32, text: &str) -> Refusal {
    match code {
        DOMAIN_NOT_FOUND | UNKNOWN_USER | UNKNOWN_GROUP => Refusal::new(Status::NotFound, "winbind knows none"),
        INVALID_SID => Refusal::new(Status::Invalid, "`sid` is no SID: S-1-5-21-… would be one"),
        INVALID_PARAM => Refusal::new(Status::Invalid, "winbind does not take this"),
        NOT_IMPLEMENTED => Refusal::new(Status::Unsupported, "this winbind cannot do that"),
        NOT_AVAILABLE => Refusal::new(
            Status::Unavailable,
            "winbindd does not answer: it is not running, is stuck, or its socket cannot be reached",
        ),
        _ => Refusal::new(Status::Unavailable, format!("winbind: {text} ({code})")),
    }
}

fn logon(nt_status: u32, text: &str, reject: Option<Reject>, attempt: Attempt) -> Refusal {
    if nt_status == ACCESS_DENIED {
        return match attempt {
            Attempt::Change => Refusal::new(Status::Restricted, "this password may not be changed"),
            Attempt::EncryptedChange => Refusal::new(Status::Restricted, UNCHANGEABLE),
            Attempt::Response => Refusal::new(Status::Unavailable, UNPRIVILEGED),
            Attempt::Logoff => Refusal::new(
                Status::Unavailable,
                "winbindd lets only root, or the user, end a logon: does this helper run as root?",
            ),
            _ => Refusal::new(Status::Unavailable, "the domain controller refuses this machine"),
        };
    }
    match VERDICTS.iter().find(|(number, ..)| *number == nt_status) {
        Some((_, Status::Restricted, words)) if matches!(attempt, Attempt::Change | Attempt::EncryptedChange) => {
            Refusal::new(
                Status::Restricted,
                reject.map_or_else(|| (*words).to_owned(), |reject| rejected(reject, words)),
            )
        }
        Some((_, status, words)) => Refusal::new(*status, *words),
        None => Refusal::new(Status::Unavailable, format!("{text} (NTSTATUS {nt_status:#010x})")),
    }
}

/// Why a new password was not taken, in words that help to choose another.
fn rejected(reject: Reject, words: &str) -> String {
    let policy = match (reject.min_length, reject.history) {
        (0, 0) => String::new(),
        (length, 0) => format!(" (at least {length} characters)"),
        (0, history) => format!(" (not one of the last {history})"),
        (length, history) => format!(" (at least {length} characters, not one of the last {history})"),
    };
    let why = match reject.reason {
        1 => "the new password is too short",
        2 => "the new password was used before",
        3 => "the new password contains the user's name",
        4 => "the new password contains the full name",
        5 => "the new password is too simple",
        7 => "the new password is refused by the domain's filter",
        8 => "the new password is too long",
        _ => words,
    };
    format!("{why}{policy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nt_status: u32, attempt: Attempt) -> Status {
        let text = "NT_STATUS_X".to_owned();
        answer(
            &Failure::Logon {
                nt_status,
                text,
                reject: None,
            },
            attempt,
        )
        .status
    }

    #[test]
    fn each_verdict_is_kept_apart() {
        for (nt_status, status) in [
            (0xC000_0064, Status::NotFound),
            (0xC000_006A, Status::WrongPassword),
            (0xC000_0072, Status::Disabled),
            (0xC000_0193, Status::Expired),
            (0xC000_0071, Status::PasswordExpired),
            (0xC000_0224, Status::MustChange),
            (0xC000_0234, Status::LockedOut),
            (0xC000_006F, Status::Restricted),
        ] {
            assert_eq!(of(nt_status, Attempt::Password), status, "{nt_status:#x}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_a_verdict_is_none() {
        // No logon servers, timeouts, trust broken, no memory, pipe gone, and every number that nobody has thought of.
        let named = [
            0xC000_005E,
            0xC000_00B5,
            0xC000_0233,
            0xC000_018D,
            0xC000_0017,
            0xC000_014B,
            0xC000_00DF,
            1,
        ];
        let known = |number: &u32| VERDICTS.iter().any(|(verdict, ..)| verdict == number);
        for nt_status in named
            .into_iter()
            .chain((0xC000_0000..0xC000_1000).filter(|number| !known(number)))
        {
            for attempt in [Attempt::Password, Attempt::Response, Attempt::Lookup] {
                assert_eq!(of(nt_status, attempt), Status::Unavailable, "{nt_status:#x}");
            }
        }
        for code in [2, 3, 6, 8, 9, 10, 14, u32::MAX] {
            let failure = Failure::Library { code, text: "x".into() };
            assert_eq!(answer(&failure, Attempt::Lookup).status, Status::Unavailable, "{code}");
        }
    }

    #[test]
    fn access_denied_depends_on_what_was_attempted() {
        assert_eq!(of(ACCESS_DENIED, Attempt::Change), Status::Restricted);
        let text = String::new();
        let failure = Failure::Logon {
            nt_status: ACCESS_DENIED,
            text,
            reject: None,
        };
        let said = answer(&failure, Attempt::Response);
        assert_eq!(said.status, Status::Unavailable);
        assert!(said.message.contains("winbindd_priv"));
    }

    #[test]
    fn a_function_that_is_missing_is_named_and_no_verdict() {
        let said = answer(&Failure::Missing("wbcCtxUnixIdsToSids"), Attempt::Lookup);
        assert_eq!(said.status, Status::Unsupported);
        assert!(said.message.contains("no wbcCtxUnixIdsToSids"), "{}", said.message);
        assert_eq!(of(ACCESS_DENIED, Attempt::Logoff), Status::Unavailable);
    }

    #[test]
    fn a_refused_password_is_told_why() {
        let reject = Some(Reject {
            reason: 1,
            min_length: 7,
            history: 24,
        });
        let failure = Failure::Logon {
            nt_status: 0xC000_006C,
            text: String::new(),
            reject,
        };
        assert_eq!(
            answer(&failure, Attempt::Change).message,
            "the new password is too short (at least 7 characters, not one of the last 24)"
        );
    }
}
