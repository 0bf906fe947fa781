//! winbindd behind the modules and behind saslauthd: every status, a domain that hangs, a winbindd that is gone.

use std::time::{Duration, Instant};

use super::{getent, inside, pam, stdout};
use crate::proc::{alone, run, shown, wait_for};
use crate::usherd::{Setup, Usherd};
use crate::winbind::{DOMAIN, PASSWORD, Winbind};

/// A daemon whose accounts are winbindd's; `lines` are further settings of the service.
fn before(winbind: &Winbind, lines: &str) -> Usherd {
    Setup::new()
        .section(&format!(
            "[service.winbind]\nhelper = \"winbind\"\n{lines}\n{}\n\
             [service.winbind.winbind]\ndomain = \"{DOMAIN}\"\nuse_default_domain = true\n",
            winbind.environment()
        ))
        .listen("nslcd", "unix:socket", "service = \"winbind\"")
        .listen("saslauthd", "unix:mux", "service = \"winbind\"")
        .start()
}

#[test]
fn winbind_answers_the_modules_and_sasl() {
    let mut winbind = Winbind::start();
    let usherd = before(&winbind, "max = 4");
    for key in ["alice", "5001"] {
        let output = inside(&usherd, &format!("getent passwd {key}"));
        // The person's name is there only once winbindd has learnt it.
        let line = stdout(&output).replace("alice of the test", "");
        assert_eq!(
            line,
            "alice:*:5001:100::/home/BOX/alice:/bin/false\n",
            "{}",
            shown(&output)
        );
    }
    getent(&usherd, "passwd nobody-here", "");
    let output = inside(&usherd, "id -G alice");
    assert!(stdout(&output).starts_with("100"), "{}", shown(&output));
    let tell =
        |user: &str, operations: &str, password: &str, said: &str| pam(&usherd, user, operations, &[password], said);
    tell(
        "alice",
        "authenticate acct_mgmt open_session close_session",
        PASSWORD,
        "session has successfully been closed",
    );
    tell("alice", "authenticate", "wrong", "Authentication failure");
    tell("nobody-here", "authenticate", "x", "User not known");
    tell("carol", "authenticate", PASSWORD, "User account has expired");
    tell("dave", "authenticate acct_mgmt", PASSWORD, "new one required");
    for _ in 0..3 {
        tell("erin", "authenticate", "wrong", "Authentication failure");
    }
    tell(
        "erin",
        "authenticate",
        PASSWORD,
        "Have exhausted maximum number of retries",
    );
    let change = |old: &str, new: &str| {
        let typed = format!("printf '{old}\\n{new}\\n{new}\\n'");
        let command =
            format!("{typed} | setpriv --reuid=5006 --regid=100 --clear-groups pamtester usherd frank chauthtok 2>&1");
        stdout(&inside(&usherd, &command))
    };
    assert!(change("wrong", "Another-456").contains("Authentication failure"));
    // What the policy refuses is told apart from a wrong password.
    assert!(change(PASSWORD, "x").contains("Authentication token manipulation error"));
    assert!(change(PASSWORD, "Another-456").contains("altered successfully"));
    tell("frank", "authenticate", "Another-456", "successfully authenticated");
    let sasl = |password: &str| {
        let socket = usherd.unix("mux").display().to_string();
        let args = ["-f", &socket, "-u", "alice", "-p", password, "-s", "imap"];
        stdout(&run("/usr/sbin/testsaslauthd", &args, Duration::from_secs(20)))
    };
    assert!(sasl(PASSWORD).contains("0: OK"));
    assert!(sasl("wrong").contains("0: NO"));
    winbind.kill();
    for password in [PASSWORD, "wrong"] {
        tell("alice", "authenticate", password, "cannot retrieve authentication info");
        let said = sasl(password);
        assert!(!said.contains("0: OK") && !said.contains("0: NO"), "{said}");
    }
    usherd.stop();
}

#[test]
fn while_a_domain_hangs_nobody_is_refused_and_the_modules_are_answered_again_afterwards() {
    let _machine = alone();
    let winbind = Winbind::start();
    let usherd = before(
        &winbind,
        "min = 2\nmax = 4\nrequest_timeout = \"1500ms\"\ngrace = \"500ms\"",
    );
    pam(
        &usherd,
        "alice",
        "authenticate",
        &[PASSWORD],
        "successfully authenticated",
    );
    winbind.signal_domain_child(DOMAIN, "STOP");
    for password in [PASSWORD, "wrong"] {
        let begun = Instant::now();
        let said = "cannot retrieve authentication info";
        pam(&usherd, "alice", "authenticate", &[password], said);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "told at the deadline: {took:?}");
    }
    // "Unavailable" is status 2 to getent as well; that nobody was found would be an answer with an end.
    let begun = Instant::now();
    let output = inside(&usherd, "getent passwd nobody-here");
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    winbind.signal_domain_child(DOMAIN, "CONT");
    wait_for("the domain answers again", Duration::from_secs(20), || {
        let typed = format!("printf '{PASSWORD}\\n' | pamtester usherd alice authenticate 2>&1");
        let said = stdout(&inside(&usherd, &typed));
        let verdict = ["Authentication failure", "User not known", "Permission denied"];
        assert!(!verdict.iter().any(|word| said.contains(word)), "{said}");
        said.contains("successfully authenticated").then_some(())
    });
    pam(&usherd, "alice", "authenticate", &["wrong"], "Authentication failure");
    usherd.stop();
}
