//! What PAM's return codes mean (Linux-PAM, `_pam_types.h`), by the step that gave them. docs/pam.md has the same table.
//!
//! Only a code that speaks of the user or the password becomes a verdict; every other one is `unavailable`.

use super::backend::{Failed, Step};
use crate::identity::{Refusal, Status};

/// `PAM_SUCCESS`.
pub(super) const SUCCESS: i32 = 0;
/// `PAM_SYSTEM_ERR`.
pub(super) const SYSTEM_ERR: i32 = 4;
/// `PAM_BUF_ERR`.
pub(super) const BUF_ERR: i32 = 5;
/// `PAM_NEW_AUTHTOK_REQD`.
pub(super) const NEW_AUTHTOK_REQD: i32 = 12;
/// `PAM_CONV_ERR`.
pub(super) const CONV_ERR: i32 = 19;

/// The refusal that a failed step is.
pub(super) fn refusal(failed: &Failed) -> Refusal {
    let changing = failed.step == Some(Step::ChangePassword);
    let (status, words) = match (failed.code, changing) {
        (10, _) => (Status::NotFound, "no such user"),
        (7, false) => (Status::WrongPassword, "wrong password"),
        (7 | 21, true) => (Status::WrongPassword, "the old password is wrong"),
        (13, _) => (Status::Expired, "the account has expired"),
        (27, _) => (Status::PasswordExpired, "the password has expired"),
        (12, _) => (Status::MustChange, "the password must be changed first"),
        (11, _) => (Status::LockedOut, "too many wrong passwords"),
        (6, _) => (Status::Restricted, "not allowed: by time, place or rule"),
        (20, true) => (Status::Restricted, "the new password is refused"),
        (23, true) => (Status::Restricted, "the password was changed too recently"),
        (14, _) => (Status::Denied, "the session cannot be opened or closed"),
        (17, _) => (Status::Denied, "the user's credentials have expired"),
        (19, _) => (Status::Denied, "a question was not answered"),
        _ => {
            let text = &failed.text;
            return Refusal::new(Status::Unavailable, format!("PAM: {text} ({})", failed.code));
        }
    };
    Refusal::new(status, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32, step: Step) -> Status {
        refusal(&Failed {
            step: Some(step),
            code,
            text: "x".into(),
        })
        .status
    }

    #[test]
    fn each_verdict_is_kept_apart() {
        for (code, status) in [
            (7, Status::WrongPassword),
            (10, Status::NotFound),
            (11, Status::LockedOut),
            (12, Status::MustChange),
            (13, Status::Expired),
            (27, Status::PasswordExpired),
            (6, Status::Restricted),
        ] {
            assert_eq!(of(code, Step::Authenticate), status, "{code}");
        }
        assert_eq!(of(20, Step::ChangePassword), Status::Restricted);
        assert_eq!(of(21, Step::ChangePassword), Status::WrongPassword);
    }

    #[test]
    fn what_is_not_known_to_be_a_verdict_is_none() {
        // Missing modules and files, system errors, a back end that is away, services that PAM does not know, and the unknown.
        for code in [
            1, 2, 3, 4, 5, 8, 9, 15, 16, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30, 31, 32, 99, -1,
        ] {
            assert_eq!(of(code, Step::Authenticate), Status::Unavailable, "{code}");
            assert_eq!(of(code, Step::Account), Status::Unavailable, "{code}");
        }
    }
}
