//! What the ages of a password mean today (shadow(5)): the rules that pam_unix and nslcd apply.

use wire::nslcd::Pam;

use super::entries::Aging;

/// What is to be decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// Whether the account may be used: it may have been entered without a password.
    Account,
    /// Whether the password may be used: its age counts too.
    Password,
    /// Whether the password may be changed.
    Change,
}

/// The verdict, and what is to be shown. `today`: days since 1970-01-01.
pub(super) fn check(aging: &Aging, today: i64, what: Check) -> (Pam, String) {
    let set = |days: i32| (days >= 0).then_some(i64::from(days));
    if aging.disabled {
        return (Pam::AccountExpired, "the account is disabled".to_owned());
    }
    if let Some(expire) = set(aging.expire).filter(|expire| today >= *expire) {
        return (
            Pam::AccountExpired,
            format!("the account has expired {}", ago(today - expire)),
        );
    }
    match what {
        Check::Account => (Pam::Success, String::new()),
        Check::Password => password(aging, today),
        Check::Change => {
            let Some(left) = set(aging.last_change)
                .zip(set(aging.min))
                .map(|(last, min)| last + min - today)
                .filter(|left| *left > 0)
            else {
                return (Pam::Success, String::new());
            };
            let why = format!("the password cannot be changed for another {left} days");
            (Pam::AuthTokenError, why)
        }
    }
}

fn password(aging: &Aging, today: i64) -> (Pam, String) {
    let set = |days: i32| (days >= 0).then_some(i64::from(days));
    let fine = (Pam::Success, String::new());
    let Some(last) = set(aging.last_change) else {
        return fine;
    };
    if last == 0 {
        return (Pam::NewAuthTokenRequired, "the password must be changed".to_owned());
    }
    let Some(max) = set(aging.max).filter(|_| last <= today) else {
        return fine;
    };
    let left = last + max - today;
    if left > 0 {
        return match set(aging.warn).filter(|warn| left <= *warn) {
            Some(_) => (Pam::Success, format!("the password expires in {left} days")),
            None => fine,
        };
    }
    if let Some(inactive) = set(aging.inactive).filter(|inactive| left + inactive < 0) {
        let why = format!(
            "the password has expired, and the account is locked since {} days",
            -(left + inactive)
        );
        return (Pam::AuthTokenExpired, why);
    }
    (
        Pam::NewAuthTokenRequired,
        format!("the password has expired {}", ago(-left)),
    )
}

fn ago(days: i64) -> String {
    match days {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Aging = Aging {
        last_change: -1,
        min: -1,
        max: -1,
        warn: -1,
        inactive: -1,
        expire: -1,
        disabled: false,
    };

    #[test]
    fn a_password_ages_day_by_day() {
        let aging = Aging {
            last_change: 100,
            max: 30,
            warn: 7,
            inactive: 5,
            min: 2,
            ..NONE
        };
        let of = |today, what| check(&aging, today, what).0;
        assert_eq!(check(&aging, 101, Check::Password), (Pam::Success, String::new()));
        assert!(check(&aging, 123, Check::Password).1.contains("in 7 days"));
        assert_eq!(of(129, Check::Password), Pam::Success);
        assert_eq!(of(130, Check::Password), Pam::NewAuthTokenRequired);
        assert_eq!(of(135, Check::Password), Pam::NewAuthTokenRequired);
        assert_eq!(of(136, Check::Password), Pam::AuthTokenExpired);
        assert_eq!(of(136, Check::Account), Pam::Success);
        assert_eq!(of(101, Check::Change), Pam::AuthTokenError);
        assert_eq!(of(102, Check::Change), Pam::Success);
        assert_eq!(of(50, Check::Password), Pam::Success, "changed in the future");
        assert_eq!(check(&NONE, 1, Check::Password).0, Pam::Success);
        let forced = Aging { last_change: 0, ..NONE };
        assert_eq!(check(&forced, 1, Check::Password).0, Pam::NewAuthTokenRequired);
    }

    #[test]
    fn an_account_that_is_over_is_over_for_everything() {
        let aging = Aging { expire: 200, ..NONE };
        assert_eq!(check(&aging, 199, Check::Password).0, Pam::Success);
        for what in [Check::Account, Check::Password, Check::Change] {
            assert_eq!(check(&aging, 200, what).0, Pam::AccountExpired);
            assert_eq!(check(&Aging { disabled: true, ..NONE }, 0, what).0, Pam::AccountExpired);
        }
    }
}
