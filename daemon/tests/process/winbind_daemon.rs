//! The helper `winbind` as the daemon runs it: every status through a pool, and what becomes of the pool when winbindd is gone, or stuck.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use usherd_sdk::client::{CallError, Client};
use wire::rpc::ErrorCode;

use crate::calls::service;
use crate::proc::{alone, wait_for};
use crate::usherd::{Setup, Usherd};
use crate::winbind::{DOMAIN, PASSWORD, Winbind};
use crate::winbind_calls::{
    authenticate, encrypted_changes_are_told_apart, look_ups_answer, passwords_are_told_apart,
    responses_bring_a_session_key,
};

fn start(winbind: &Winbind, lines: &str) -> Usherd {
    Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&format!(
            "[service.winbind]\nhelper = \"winbind\"\n{}\n{lines}\n\n[service.upper]\nhelper = \"exec\"\nprogram = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]\n",
            winbind.environment()
        ))
        .start()
}

pub(crate) fn connect(usherd: &Usherd) -> Client {
    Client::connect(&format!("unix:{}", usherd.unix("rpc").display())).expect("the daemon listens")
}

/// The answer to an identity call.
pub(crate) fn ask(client: &Client, service: &str, request: &Value) -> Value {
    let answer = client.call(service, request.to_string().as_bytes());
    let answer = answer.unwrap_or_else(|error| panic!("{request}: {error}"));
    serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer)))
}

#[test]
fn every_status_comes_through_the_daemon() {
    let mut winbind = Winbind::start();
    let usherd = start(&winbind, "min = 2\nmax = 4");
    let client = connect(&usherd);
    passwords_are_told_apart(&|request| ask(&client, "winbind", request));
    responses_bring_a_session_key(&|request| ask(&client, "winbind", request));
    encrypted_changes_are_told_apart(&|request| ask(&client, "winbind", request));
    look_ups_answer(&|request| ask(&client, "winbind", request));
    // The same helpers, before, while and after it is away.
    winbind.kill();
    for _ in 0..8 {
        for request in [
            authenticate("alice", "wrong"),
            json!({"do": "passwd", "name": "BOX\\nobody"}),
        ] {
            assert_eq!(ask(&client, "winbind", &request)["status"], "unavailable", "{request}");
        }
    }
    winbind.revive();
    wait_for("winbind answers again", Duration::from_secs(5), || {
        let answer = ask(&client, "winbind", &authenticate("alice", PASSWORD));
        assert!(
            answer["status"] == "ok" || answer["status"] == "unavailable",
            "{answer}"
        );
        (answer["status"] == "ok").then_some(())
    });
    assert_eq!(service(&usherd, "winbind")["starts"], 2, "no helper was lost over it");
    usherd.stop();
}

#[test]
fn a_domain_that_hangs_stops_nothing_else_and_the_pool_recovers_by_itself() {
    let _machine = alone();
    let winbind = Winbind::start();
    let usherd = start(
        &winbind,
        "min = 2\nmax = 4\nrequest_timeout = \"1500ms\"\ngrace = \"1s\"",
    );
    let client = connect(&usherd);
    assert_eq!(
        ask(&client, "winbind", &authenticate("alice", PASSWORD))["status"],
        "ok"
    );
    winbind.signal_domain_child(DOMAIN, "STOP");
    let begun = Instant::now();
    let stuck: Vec<_> = (0..3)
        .map(|_| {
            let request = authenticate("alice", PASSWORD).to_string();
            client.request("winbind").send(request.as_bytes()).expect("it is sent")
        })
        .collect();
    let mut others = 0;
    while begun.elapsed() < Duration::from_millis(1200) {
        let one = Instant::now();
        assert_eq!(ask(&client, "winbind", &json!({"do": "ping"}))["status"], "ok");
        assert_eq!(client.call("upper", b"beside").expect("another service"), b"BESIDE");
        assert!(
            one.elapsed() < Duration::from_millis(500),
            "somebody waited: {:?}",
            one.elapsed()
        );
        others += 1;
    }
    assert!(others > 3, "{others}");
    for reply in stuck {
        match reply.wait() {
            Err(CallError::Refused {
                code: ErrorCode::Deadline,
                ..
            }) => {}
            other => panic!("the deadline was due: {other:?}"),
        }
    }
    let took = begun.elapsed();
    assert!((1400..2500).contains(&took.as_millis()), "{took:?}");
    winbind.signal_domain_child(DOMAIN, "CONT");
    wait_for("the pool is as before", Duration::from_secs(10), || {
        let request = authenticate("alice", PASSWORD).to_string();
        let answer = client.call("winbind", request.as_bytes()).ok()?;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        // It may not be reached yet; it must never be another verdict.
        assert!(
            answer["status"] == "ok" || answer["status"] == "unavailable",
            "{answer}"
        );
        (answer["status"] == "ok").then_some(())
    });
    usherd.until("nobody is busy, and enough are there", |status| {
        let all = status["services"].as_array().expect("services");
        all.iter().any(|one| {
            one["name"] == "winbind" && one["busy"] == 0 && one["queued"] == 0 && one["running"].as_u64() >= Some(2)
        })
    });
    usherd.stop();
}
