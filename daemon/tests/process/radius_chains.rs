//! RADIUS along chains: PAM, a list, and a directory that comes and goes, in each order and with each meaning of "cannot be asked".

use crate::pam::Pam;
use crate::radius::{before, got, got_nothing, radclient};
use crate::slapd::{Slapd, password};
use crate::usherd::{Setup, Usherd, restrict, server};

fn ask(usherd: &Usherd, name: &str, password: &str) -> std::process::Output {
    let attributes = format!("User-Name = \"{name}\", User-Password = \"{password}\"");
    radclient(usherd, "auth", &attributes)
}

fn with_pam(setup: Setup, pam: &Pam) -> Setup {
    let service = format!(
        "[service.login]\nhelper = \"pam\"\nmin = 1\nmax = 2\n{}\n\n[service.login.pam]\nservice = \"matrix\"\n",
        pam.environment()
    );
    setup.section(&service)
}

#[test]
fn pam_judges_passwords_by_the_stack_that_is_named() {
    let pam = Pam::new();
    let usherd = before(with_pam(Setup::new(), &pam), "authenticate = { service = \"login\" }");
    got(&ask(&usherd, "alice", "secret"), "Access-Accept");
    got(&ask(&usherd, "alice", "wrong"), "Access-Reject");
    got(&ask(&usherd, "nobody-here", "secret"), "Access-Reject");
    // A challenge and its response cannot be judged by PAM: nobody is let in.
    let chap = "User-Name = \"alice\", CHAP-Password = \"secret\"";
    got(&radclient(&usherd, "auth", chap), "Access-Reject");
    usherd.stop();
}

/// A list with `ann` and, under another password, `user7`; then slapd.
fn list_and_slapd(slapd: &Slapd, ask: &str, unavailable: &str) -> Usherd {
    let setup = Setup::new().directory("corp", "", &[server(&slapd.url(), "")]);
    let users = "[user.ann]\npassword = \"listed\"\n\n[user.user7]\npassword = \"listed\"\n";
    restrict(&setup.folder.write("users.toml", users));
    before(
        setup,
        &format!(
            "ask = \"{ask}\"\nauthenticate = [{{ users_file = \"users.toml\" }}, {{ directory = \"corp\", unavailable = \
             \"{unavailable}\" }}]"
        ),
    )
}

#[test]
fn the_first_that_knows_a_user_decides_and_who_cannot_be_asked_is_no_verdict() {
    let mut slapd = Slapd::start();
    let usherd = list_and_slapd(&slapd, "first", "silence");
    got(&ask(&usherd, "ann", "listed"), "Access-Accept");
    got(&ask(&usherd, "user8", &password(8)), "Access-Accept");
    got(&ask(&usherd, "user7", "listed"), "Access-Accept");
    got(&ask(&usherd, "user7", &password(7)), "Access-Reject");
    got(&ask(&usherd, "nobody-here", "x"), "Access-Reject");
    slapd.end();
    got(&ask(&usherd, "ann", "listed"), "Access-Accept");
    got(&ask(&usherd, "ann", "wrong"), "Access-Reject");
    got_nothing(&ask(&usherd, "user8", &password(8)));
    usherd.stop();
}

#[test]
fn a_wrong_password_falls_through_and_an_absent_directory_can_be_a_reject() {
    let mut slapd = Slapd::start();
    let usherd = list_and_slapd(&slapd, "fall-through", "reject");
    got(&ask(&usherd, "user7", "listed"), "Access-Accept");
    got(&ask(&usherd, "user7", &password(7)), "Access-Accept");
    got(&ask(&usherd, "user7", "neither"), "Access-Reject");
    slapd.end();
    got(&ask(&usherd, "user7", "listed"), "Access-Accept");
    got(&ask(&usherd, "user7", &password(7)), "Access-Reject");
    usherd.stop();
}

#[test]
fn all_must_say_yes_and_nobody_is_let_in_past_one_that_was_not_asked() {
    let mut slapd = Slapd::start();
    let setup = Setup::new().directory("corp", "", &[server(&slapd.url(), "")]);
    let users = format!(
        "[user.user7]\npassword = \"{}\"\n\n[user.user8]\npassword = \"listed\"\n",
        password(7)
    );
    restrict(&setup.folder.write("users.toml", users));
    let usherd = before(
        setup,
        "ask = \"all\"\nauthenticate = [{ directory = \"corp\", unavailable = \"next\" }, { users_file = \"users.toml\" }]",
    );
    got(&ask(&usherd, "user7", &password(7)), "Access-Accept");
    got(&ask(&usherd, "user8", &password(8)), "Access-Reject");
    got(&ask(&usherd, "user8", "listed"), "Access-Reject");
    got(&ask(&usherd, "user9", &password(9)), "Access-Reject");
    slapd.end();
    got_nothing(&ask(&usherd, "user7", &password(7)));
    usherd.stop();
}
