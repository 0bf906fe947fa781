//! `usherd bench ldap` over TLS: what it offers, and that it counts whole and resumed handshakes.

use std::process::Output;
use std::time::Duration;

use serde_json::Value as Json;

use crate::certificates::certificates;
use crate::proc::{run, shown};
use crate::slapd::{PEOPLE, Slapd};
use crate::usherd::{BINARY, Setup, Usherd, listener_tls, server};

fn usherd(slapd: &Slapd) -> Usherd {
    let lines = format!("directory = \"corp\"\n{}", listener_tls());
    Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldaps", "127.0.0.1:0", &lines)
        .start()
}

fn started(usherd: &Usherd, more: &[&str]) -> Output {
    let url = format!("ldaps://127.0.0.1:{}", usherd.port(0));
    let password = usherd.folder.write("users.secret", "password-{n}");
    let (bind_dn, ca) = (
        format!("uid=user{{n}},{PEOPLE}"),
        certificates().ca().display().to_string(),
    );
    let args = [
        "bench",
        "ldap",
        &url,
        "--ca-file",
        &ca,
        "--bind-dn",
        &bind_dn,
        "--password-file",
        &password,
        "--range",
        "1..9",
        "--warmup",
        "0ms",
        "--quiet",
        "--json",
    ];
    run(BINARY, &[&args[..], more].concat(), Duration::from_secs(60))
}

/// Handshakes of 640 visits by 64 connections, which are on both workers: whole ones, and resumed ones.
fn shaken(usherd: &Usherd, more: &[&str]) -> (u64, u64) {
    let visits = ["--mode", "connect", "--connections", "64", "--operations", "640"];
    let output = started(usherd, &[&visits, more].concat());
    let report: Json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
    assert!(
        output.status.success() && report["results"]["success"] == 640,
        "{report}"
    );
    let of = |name: &str| report[name].as_u64().expect("a number");
    (of("handshakes_full"), of("handshakes_resumed"))
}

#[test]
fn connections_come_back_to_their_sessions_unless_they_are_not_to() {
    let slapd = Slapd::start();
    let usherd = usherd(&slapd);
    let (whole, resumed) = shaken(&usherd, &[]);
    // Those that are begun before there was a ticket, 64 or some more. A worker that knew only what it began itself would make
    // whole ones of some 250.
    assert!(
        (1..=150).contains(&whole) && (490..=704).contains(&resumed),
        "{whole} whole, {resumed} resumed"
    );
    let (whole, resumed) = shaken(&usherd, &["--no-resumption"]);
    assert!(
        resumed == 0 && (640..=704).contains(&whole),
        "{whole} whole, {resumed} resumed"
    );
    let (whole, _) = shaken(&usherd, &["--tls-suite", "TLS13_CHACHA20_POLY1305_SHA256"]);
    assert!(whole >= 1);
    usherd.stop();
}

#[test]
fn a_suite_that_is_not_there_or_flags_of_tls_without_it_are_refused_by_name() {
    let slapd = Slapd::start();
    let usherd = usherd(&slapd);
    let said = shown(&started(&usherd, &["--mode", "bind", "--tls-suite", "ROT13"]));
    assert!(
        said.contains("--tls-suite ROT13: none of TLS13_AES_256_GCM_SHA384, "),
        "{said}"
    );
    for flag in [&["--no-resumption"][..], &["--tls-suite", "TLS13_AES_128_GCM_SHA256"]] {
        let args = ["bench", "ldap", "ldap://127.0.0.1:1", "--mode", "connect"];
        let output = run(BINARY, &[&args[..], flag].concat(), Duration::from_secs(10));
        let said = shown(&output);
        assert!(
            !output.status.success() && said.contains(&format!("{} is for ldaps://", flag[0])),
            "{said}"
        );
    }
    usherd.stop();
}
