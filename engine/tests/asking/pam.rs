//! PAM's questions to a directory: every verdict, and none where nobody was asked.

use engine::ask::template::Template;
use engine::session::nss_pam::Settings;
use engine::session::nss_pam::maps::{AUTHORIZE_PLACES, Schema};
use wire::nslcd::{self, Pam, Request, Who};

use crate::world::{World, answered, maps, settings};

fn who(user: &str) -> Who<'_> {
    Who {
        user: user.as_bytes(),
        service: b"login",
        ..Who::default()
    }
}

fn authc<'a>(user: &'a str, password: &'a str) -> Request<'a> {
    Request::Authc {
        who: who(user),
        password: password.as_bytes(),
    }
}

fn check(request: &Request<'_>, settings: &Settings, write: impl FnOnce(&mut Vec<u8>)) {
    let mut world = World::new();
    let found = world.ask(request, settings, 1000);
    let expected = answered(request, write);
    assert_eq!(
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(&expected),
        "{request:?}"
    );
    for number in 0..world.asked {
        let mut world = World::new();
        world.fails = Some(number);
        let broken = world.ask(request, settings, 1000);
        assert_eq!(
            broken,
            expected[..8],
            "a verdict although question {number} failed: {request:?}"
        );
    }
}

#[test]
fn passwords_are_right_or_wrong() {
    let settings = settings(maps(Schema::Rfc2307));
    check(&authc("alice", "secret"), &settings, |out| {
        nslcd::authc(out, Pam::Success, b"alice", Pam::Success, b"");
    });
    // The module is told the name as the directory has it.
    check(&authc("ALICE", "secret"), &settings, |out| {
        nslcd::authc(out, Pam::Success, b"alice", Pam::Success, b"");
    });
    check(&authc("alice", "Secret"), &settings, |out| {
        nslcd::authc(out, Pam::AuthError, b"alice", Pam::Success, b"");
    });
    check(&authc("alice", ""), &settings, |out| {
        nslcd::authc(out, Pam::AuthError, b"alice", Pam::Success, b"");
    });
    for unknown in ["nobody", "*", "alice)(uid=*", "odd name:"] {
        check(&authc(unknown, "secret"), &settings, |_| {});
    }
    for password in ["one", "two"] {
        check(&authc("twin", password), &settings, |out| {
            let why = b"more than one entry has this name";
            nslcd::authc(out, Pam::AuthError, b"twin", Pam::PermissionDenied, why);
        });
    }
}

#[test]
fn ages_count_where_the_password_is_right() {
    let settings = settings(maps(Schema::Rfc2307));
    check(&authc("bob", "builder"), &settings, |out| {
        let why = b"the password has expired 910 days ago";
        nslcd::authc(out, Pam::Success, b"bob", Pam::NewAuthTokenRequired, why);
    });
    check(&authc("bob", "wrong"), &settings, |out| {
        nslcd::authc(out, Pam::AuthError, b"bob", Pam::Success, b"");
    });
    check(&authc("old", "older"), &settings, |out| {
        let why = b"the account has expired 1000 days ago";
        nslcd::authc(out, Pam::Success, b"old", Pam::AccountExpired, why);
    });
    check(&Request::Authz(who("old")), &settings, |out| {
        nslcd::verdict(out, Pam::AccountExpired, b"the account has expired 1000 days ago");
    });
    check(&Request::Authz(who("bob")), &settings, |out| {
        nslcd::verdict(out, Pam::Success, b"");
    });
    check(&Request::Authz(who("nobody")), &settings, |_| {});
}

#[test]
fn filters_decide_who_is_let_in() {
    let mut some = maps(Schema::Rfc2307);
    some.hostname = "gate".to_owned();
    for text in [
        "(&(objectClass=posixGroup)(memberUid=$username))",
        "(&(uid=$uid)(!(cn=$service)))",
    ] {
        some.authorize.push(Template::dollars(text, &AUTHORIZE_PLACES).unwrap());
    }
    let settings = settings(some);
    check(&Request::Authz(who("alice")), &settings, |out| {
        nslcd::verdict(out, Pam::Success, b"");
    });
    check(&Request::Authz(who("bob")), &settings, |out| {
        let why = b"the directory does not let this user in here";
        nslcd::verdict(out, Pam::PermissionDenied, why);
    });
}

#[test]
fn passwords_are_not_changed_without_the_old_one() {
    let change = |user, as_root, old: &'static str, new: &'static str| Request::PasswordModify {
        who: who(user),
        as_root,
        old: old.as_bytes(),
        new: new.as_bytes(),
    };
    let some = settings(maps(Schema::Rfc2307));
    check(&change("alice", false, "wrong", "new"), &some, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, b"the old password is wrong");
    });
    check(&change("alice", false, "", "new"), &some, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, b"the old password is empty");
    });
    check(&change("alice", false, "secret", ""), &some, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, b"the new password is empty");
    });
    check(&change("nobody", false, "secret", "new"), &some, |_| {});
    let only_root = b"only root may change the passwords of others, and only where that is set";
    check(&change("alice", true, "", "new"), &some, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, only_root);
    });
    let mut rooted = maps(Schema::Rfc2307);
    rooted.root_changes_passwords = true;
    let rooted = settings(rooted);
    // Not root (uid 1000), though it is set.
    check(&change("alice", true, "", "new"), &rooted, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, only_root);
    });
    let administrator = Request::Authc {
        who: Who::default(),
        password: b"",
    };
    for (uid, settings, verdict) in [
        (0, &rooted, Pam::Success),
        (1000, &rooted, Pam::PermissionDenied),
        (0, &some, Pam::PermissionDenied),
    ] {
        let found = World::new().ask(&administrator, settings, uid);
        let expected = answered(&administrator, |out| nslcd::authc(out, verdict, b"", verdict, b""));
        assert_eq!(found, expected);
    }
    let mut prohibited = settings(maps(Schema::Rfc2307));
    prohibited.password_prohibited = Some("ask the help desk".to_owned());
    check(&change("alice", false, "secret", "new"), &prohibited, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, b"ask the help desk");
    });
    check(&Request::ConfigGet(1), &prohibited, |out| {
        nslcd::text(out, b"ask the help desk")
    });
}

#[test]
fn sessions_have_a_number_and_personal_data_stays() {
    let settings = settings(maps(Schema::Rfc2307));
    check(&Request::SessionOpen(who("alice")), &settings, |out| {
        nslcd::text(out, b"usherd-0000000000000007");
    });
    let close = Request::SessionClose {
        who: who("alice"),
        session: b"usherd-0000000000000007",
    };
    check(&close, &settings, nslcd::nothing);
}
