//! The fixtures themselves: if one of these fails, the peer is not what the other tests take it for.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::client::{Client, Gone};
use crate::load::Load;
use crate::ops;
use crate::proc::wait_for;
use crate::slapd::{EDITOR, PEOPLE, Slapd, USHERD, code_dn, password, user};

#[test]
fn slapd_answers_on_all_its_transports() {
    let slapd = Slapd::start();
    for target in [slapd.plain(), slapd.start_tls(), slapd.ldaps(), slapd.ldapi()] {
        let mut client = Client::bound(&target, &user(7), &password(7));
        assert_eq!(client.whoami(), format!("dn:{}", user(7)));
        let found = client.call(&ops::search(
            PEOPLE,
            ops::SUB,
            &ops::equal("uid", "user42"),
            &["description"],
        ));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].values("description"), ["token-42"]);
        assert_eq!(found[1].code(), 0);
    }
}

#[test]
fn slapd_lets_usherd_act_for_others_and_only_usherd() {
    let slapd = Slapd::start();
    let op = |who: &str| {
        let control = (ops::OID_PROXIED, true, Some(format!("dn:{who}").into_bytes()));
        crate::client::with_controls(&ops::whoami(), &[control])
    };
    let mut usherd = Client::bound(&slapd.plain(), USHERD.0, USHERD.1);
    let answer = usherd.one(&op(&user(3)));
    assert_eq!(
        answer.response_value().as_deref(),
        Some(format!("dn:{}", user(3)).as_bytes()),
        "{answer:?}"
    );
    let mut other = Client::bound(&slapd.plain(), &user(3), &password(3));
    assert_eq!(other.one(&op(&user(4))).code(), 123, "authorizationDenied");
}

#[test]
fn slapd_has_slow_and_failing_names() {
    let slapd = Slapd::start();
    let mut client = Client::connect(&slapd.plain());
    let start = std::time::Instant::now();
    let slow = client.call(&ops::search(
        &code_dn("slow1"),
        ops::BASE,
        &ops::present("objectClass"),
        &[],
    ));
    assert_eq!(slow.last().map(crate::client::Message::code), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(client.one(&ops::compare(&code_dn("busy"), "cn", "x")).code(), 51);
    assert_eq!(client.one(&ops::compare(&code_dn("which"), "cn", "x")).code(), 32);
    assert_eq!(client.one(&ops::bind(&code_dn("slowbad"), "x")).code(), 49);
    assert_eq!(
        client.try_call(&ops::compare(&code_dn("severed"), "cn", "x")),
        Err(Gone::Closed)
    );
}

#[test]
fn the_mirror_passes_changes_on_in_both_directions_also_after_a_kill() {
    let mut pair = Slapd::mirror();
    let change = |slapd: &Slapd, number: usize, value: &str| {
        let mut client = Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1);
        let answer = client.one(&ops::modify(&user(number), &[(ops::REPLACE, "title", &[value])]));
        assert_eq!(answer.code(), 0, "{answer:?}");
    };
    let arrives = |slapd: &Slapd, number: usize, value: &str| {
        let mut client = Client::connect(&slapd.plain());
        wait_for("the change arrives", Duration::from_secs(10), || {
            let found = client.call(&ops::search(&user(number), ops::BASE, &ops::present("uid"), &["title"]));
            (found[0].values("title") == [value]).then_some(())
        });
    };
    change(&pair[0], 11, "forth");
    arrives(&pair[1], 11, "forth");
    change(&pair[1], 12, "back");
    arrives(&pair[0], 12, "back");
    pair[0].kill();
    change(&pair[1], 13, "while away");
    pair[0].revive();
    arrives(&pair[0], 13, "while away");
}

#[test]
fn the_load_finds_nothing_wrong_with_slapd_itself() {
    let slapd = Slapd::start();
    let load = Load {
        rebinds: 5,
        writes: 50,
        ..Load::new(&[slapd.plain(), slapd.ldaps(), slapd.ldapi()], 8, 8)
    };
    let tally = load.run(5_000, &AtomicBool::new(false));
    assert_eq!(
        (tally.misdelivered, tally.unanswered, tally.disconnections),
        (0, 0, 0),
        "{tally:#?}"
    );
    assert!(
        tally.reads > 4_000 && tally.binds >= 8 && tally.operations >= 5_000,
        "{tally:#?}"
    );
}
