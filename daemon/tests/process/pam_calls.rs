//! The helper `pam` against real PAM stacks: pam_matrix for users and passwords, pam_debug for every code a module can give.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use usherd_sdk::client::CallError;
use wire::rpc::ErrorCode;

use crate::pam::Pam;
use crate::proc::{alone, run_with, shown, wait_for};
use crate::usherd::{BINARY, Setup, Usherd};
use crate::winbind_daemon::connect;

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
        (json!({"do": "initgroups", "name": "alice"}), "unsupported"),
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

/// A stack for each of them; written before a helper starts, because pam_wrapper reads them once.
fn stacks(pam: &Pam) -> Vec<String> {
    let mut names: Vec<String> = CODES
        .iter()
        .map(|(step, code, _)| {
            let name = format!("{step}-{code}");
            let module = format!("pam_debug.so {step}={code}");
            pam.stack(&name, &format!("auth required {module}\naccount required {module}"));
            name
        })
        .collect();
    pam.stack("broken", "auth required pam_that_is_not_there.so");
    names.extend(["broken".to_owned(), "no-such-stack".to_owned()]);
    names
}

fn codes_become_statuses(ask: Ask<'_>) {
    for (step, code, expected) in CODES {
        let answer = ask(&format!("{step}-{code}"), &authenticate("alice", "secret"));
        assert_eq!(answer["status"], **expected, "{step}={code}: {answer}");
    }
    let answer = ask("no-such-stack", &authenticate("alice", "secret"));
    assert_ne!(
        answer["status"], "ok",
        "a service without a file is refused by `other`: {answer}"
    );
    assert_eq!(ask("broken", &authenticate("alice", "secret"))["status"], "unavailable");
}

#[test]
fn a_pam_helper_by_hand_answers_rightly() {
    let pam = Pam::new();
    passwords_are_told_apart(&|stack, request| by_hand(&pam, stack, request));
    stacks(&pam);
    codes_become_statuses(&|stack, request| by_hand(&pam, stack, request));
}

fn start(pam: &Pam, services: &str) -> Usherd {
    let environment = pam.environment();
    Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&services.replace("ENVIRONMENT", &environment))
        .start()
}

/// A service with one of the fixture's stacks.
fn service_of(stack: &str) -> String {
    format!("[service.{stack}]\nhelper = \"pam\"\nENVIRONMENT\n[service.{stack}.pam]\nservice = \"{stack}\"\n\n")
}

/// Programs that pam_exec has started, each in a session of its own, so that they outlive the helper that is killed; ended when dropped.
struct Sleepers(String);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if line.split(|byte| *byte == 0).nth(1) == Some(self.0.as_bytes()) {
                let pid = process.file_name().to_string_lossy().into_owned();
                run_with("/bin/kill", &["-KILL", pid.as_str()], &[], Duration::from_secs(5));
            }
        }
    }
}

#[test]
fn a_hundred_seconds_of_sleep_in_every_helper_of_one_service_is_not_noticed_by_another() {
    let _machine = alone();
    let pam = Pam::new();
    let sleepers = Sleepers(format!("100.{:06}", std::process::id()));
    pam.stack(
        "slow",
        &format!(
            "auth required pam_exec.so quiet /bin/sleep {}\naccount required pam_permit.so",
            sleepers.0
        ),
    );
    let slow = service_of("slow").replace(
        "ENVIRONMENT",
        "ENVIRONMENT\nmax = 4\nrequest_timeout = \"3s\"\ngrace = \"300ms\"",
    );
    let usherd = start(&pam, &(slow + &service_of("matrix")));
    let client = connect(&usherd);
    let account = json!({"do": "account", "name": "alice"}).to_string();
    let percentile = || {
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                client.call("matrix", account.as_bytes()).expect("another service");
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[197]
    };
    let before = percentile();
    let request = authenticate("alice", "secret").to_string();
    let begun = Instant::now();
    let stuck: Vec<_> = (0..10)
        .map(|_| client.request("slow").send(request.as_bytes()).expect("it is sent"))
        .collect();
    usherd.until("all of its helpers sleep", |status| {
        let all = status["services"].as_array().expect("services");
        all.iter().any(|one| one["name"] == "slow" && one["busy"] == 4)
    });
    let meanwhile = percentile();
    assert!(
        begun.elapsed() < Duration::from_millis(2900),
        "they slept all the while"
    );
    assert!(
        meanwhile < before * 4 + Duration::from_millis(20),
        "p99 {before:?} before, {meanwhile:?} meanwhile"
    );
    for reply in stuck {
        match reply.wait() {
            Err(CallError::Refused {
                code: ErrorCode::Deadline | ErrorCode::QueueTimeout,
                ..
            }) => {}
            other => panic!("the deadline was due: {other:?}"),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    pam.stack("slow", "auth required pam_permit.so\naccount required pam_permit.so");
    wait_for(
        "the service works again, with helpers that are new",
        Duration::from_secs(10),
        || {
            let answer = client.call("slow", request.as_bytes()).ok()?;
            String::from_utf8_lossy(&answer).contains("ok").then_some(())
        },
    );
    usherd.stop();
}
