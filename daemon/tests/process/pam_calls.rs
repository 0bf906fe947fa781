//! The helper `pam` against real PAM stacks: pam_matrix for users and passwords, pam_debug for every code a module can give.

use std::time::Duration;

use serde_json::{Value, json};

use crate::pam::Pam;
use crate::proc::{run_with, shown};
use crate::usherd::BINARY;

fn by_hand(pam: &Pam, stack: &str, request: &Value) -> Value {
    let variables = pam.variables();
    let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let args = ["helper", "pam", "--service", stack, "--call", &request.to_string()];
    let output = run_with(BINARY, &args, &environment, Duration::from_secs(20));
    assert!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    // pam_wrapper itself speaks on standard output where something is amiss.
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("{}", shown(&output)))
}

fn authenticate(name: &str, password: &str) -> Value {
    json!({"do": "authenticate", "name": name, "password": password})
}

fn change(name: &str, old: &str, new: &str) -> Value {
    json!({"do": "change-password", "name": name, "old_password": old, "new_password": new})
}

type Ask<'a> = &'a dyn Fn(&str, &Value) -> Value;

/// With the stack `matrix` of the fixture.
fn passwords_are_told_apart(ask: Ask<'_>) {
    assert_eq!(
        ask("matrix", &authenticate("alice", "secret")),
        json!({"status": "ok", "name": "alice"})
    );
    for (request, expected) in [
        (authenticate("alice", "wrong"), "wrong-password"),
        (authenticate("alice", ""), "wrong-password"),
        // pam_matrix says of a user it does not know that the password is wrong; of one of another stack, that it may not.
        (authenticate("nobody", "x"), "wrong-password"),
        (authenticate("bob", "hush"), "restricted"),
        // A question that nobody answers.
        (json!({"do": "authenticate", "name": "alice"}), "denied"),
        (json!({"do": "account", "name": "alice"}), "ok"),
        (json!({"do": "ping"}), "ok"),
        (json!({"do": "passwd", "name": "alice"}), "unsupported"),
        (change("alice", "wrong", "fresh"), "wrong-password"),
        (authenticate("alice", "secret"), "ok"),
        (change("alice", "secret", "fresh"), "ok"),
        (authenticate("alice", "secret"), "wrong-password"),
        (authenticate("alice", "fresh"), "ok"),
    ] {
        let answer = ask("matrix", &request);
        assert_eq!(answer["status"], expected, "{request}: {answer}");
        assert!(expected == "ok" || answer["message"].is_string(), "{answer}");
    }
    let open = ask("matrix", &json!({"do": "open-session", "name": "alice"}));
    assert_eq!(
        open,
        json!({"status": "ok", "session": "matrix", "environment": {"HOMEDIR": "/home/alice"}})
    );
}

/// What a module's code becomes: the step at which it is given, the code as pam_debug names it, the status.
const CODES: &[(&str, &str, &str)] = &[
    ("auth", "success", "ok"),
    ("auth", "auth_err", "wrong-password"),
    ("auth", "user_unknown", "not-found"),
    ("auth", "maxtries", "locked-out"),
    ("auth", "perm_denied", "restricted"),
    ("auth", "authinfo_unavail", "unavailable"),
    ("auth", "cred_insufficient", "unavailable"),
    ("auth", "system_err", "unavailable"),
    ("auth", "service_err", "unavailable"),
    ("auth", "abort", "unavailable"),
    ("acct", "new_authtok_reqd", "must-change"),
    ("acct", "acct_expired", "expired"),
    ("acct", "authtok_expired", "password-expired"),
    ("acct", "perm_denied", "restricted"),
    ("acct", "auth_err", "wrong-password"),
    ("acct", "system_err", "unavailable"),
];

fn codes_become_statuses(pam: &Pam, ask: Ask<'_>) {
    for (step, code, expected) in CODES {
        pam.stack(
            "debug",
            &format!("auth required pam_debug.so {step}={code}\naccount required pam_debug.so {step}={code}"),
        );
        let answer = ask("debug", &authenticate("alice", "secret"));
        assert_eq!(answer["status"], **expected, "{step}={code}: {answer}");
    }
    let answer = ask("no-such-stack", &authenticate("alice", "secret"));
    assert_ne!(
        answer["status"], "ok",
        "a service without a file is refused by `other`: {answer}"
    );
    pam.stack("broken", "auth required pam_that_is_not_there.so");
    assert_eq!(ask("broken", &authenticate("alice", "secret"))["status"], "unavailable");
}

#[test]
fn a_pam_helper_by_hand_answers_rightly() {
    let pam = Pam::new();
    passwords_are_told_apart(&|stack, request| by_hand(&pam, stack, request));
    codes_become_statuses(&pam, &|stack, request| by_hand(&pam, stack, request));
}
