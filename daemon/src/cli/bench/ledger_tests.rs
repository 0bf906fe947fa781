//! What the ledger takes for right, and each fault that it must see.

use wire::ldap::envelope;
use wire::ldap::message::write_entry;
use wire::ldap::result::{self, code};

use super::ledger::{Asked, DEPTH_MAX, Expected, Fault, Kind, Ledger, Truth, Verdict};
use super::template::Template;

fn truth() -> Truth {
    Truth {
        entry: Some(Expected::Value {
            attribute: "uid".to_owned(),
            rdn: Template::new("uid=user{n}"),
            value: Template::new("user{n}"),
        }),
        identity: Some(Template::new("uid=user{n},dc=example")),
    }
}

fn asked(kind: Kind, n: u32) -> Asked {
    Asked { kind, n, start_ns: 7 }
}

fn receive(ledger: &mut Ledger, bytes: &[u8]) -> Verdict {
    ledger.receive(&envelope::peek(bytes).unwrap(), &truth())
}

fn entry(id: i32, dn: &str, attribute: (&str, &str)) -> Vec<u8> {
    let mut out = Vec::new();
    let values = [attribute.1.as_bytes()];
    write_entry(&mut out, id, dn.as_bytes(), [(attribute.0.as_bytes(), values)]);
    out
}

fn done(id: i32, tag: u8, code: u32) -> Vec<u8> {
    let mut out = Vec::new();
    result::write_result(&mut out, id, tag, code, b"", "");
    out
}

fn search_done(id: i32) -> Vec<u8> {
    done(id, envelope::tag::SEARCH_DONE, code::SUCCESS)
}

fn outcome(verdict: Verdict) -> (u32, bool, bool, bool) {
    let Verdict::Final {
        code,
        fulfilled,
        entry_missing,
        misdelivered,
        ..
    } = verdict
    else {
        panic!("{verdict:?}")
    };
    (code, fulfilled, entry_missing, misdelivered)
}

#[test]
fn the_entry_that_was_asked_for_is_known_by_its_rdn_or_by_its_attribute() {
    let mut ledger = Ledger::new(2);
    let id = ledger.open(asked(Kind::Search, 12)).unwrap();
    assert_eq!(
        receive(&mut ledger, &entry(id, "uid=user12,dc=example", ("cn", "x"))),
        Verdict::Part
    );
    assert_eq!(
        receive(&mut ledger, &entry(id, "cn=x,dc=example", ("UID", "user12"))),
        Verdict::Part
    );
    assert_eq!(outcome(receive(&mut ledger, &search_done(id))), (0, true, false, false));
    assert_eq!(ledger.pending(), 0);
}

#[test]
fn anothers_entry_is_misdelivered() {
    let mut ledger = Ledger::new(2);
    let id = ledger.open(asked(Kind::Search, 12)).unwrap();
    for (dn, uid) in [
        ("uid=user123,dc=example", "user123"),
        ("uid=user1,dc=example", "user1"),
        ("cn=x", "user"),
    ] {
        let verdict = receive(&mut ledger, &entry(id, dn, ("uid", uid)));
        assert_eq!(verdict, Verdict::Faulty(Fault::Misdelivered), "{dn}");
    }
}

#[test]
fn a_success_without_the_entry_is_seen() {
    let mut ledger = Ledger::new(1);
    let id = ledger.open(asked(Kind::Search, 12)).unwrap();
    assert_eq!(outcome(receive(&mut ledger, &search_done(id))), (0, true, true, false));
}

#[test]
fn a_second_result_is_duplicate_and_an_entry_after_the_result_is_late() {
    let mut ledger = Ledger::new(1);
    let id = ledger.open(asked(Kind::Search, 1)).unwrap();
    receive(&mut ledger, &entry(id, "uid=user1", ("uid", "user1")));
    receive(&mut ledger, &search_done(id));
    assert_eq!(
        receive(&mut ledger, &search_done(id)),
        Verdict::Faulty(Fault::Duplicate)
    );
    let late = entry(id, "uid=user1", ("uid", "user1"));
    assert_eq!(receive(&mut ledger, &late), Verdict::Faulty(Fault::Late));
}

#[test]
fn faults_are_seen_even_when_the_slot_serves_another_id() {
    let mut ledger = Ledger::new(1);
    let first = ledger.open(asked(Kind::Search, 1)).unwrap();
    receive(&mut ledger, &search_done(first));
    for n in 0..50 {
        let id = ledger.open(asked(Kind::Search, n)).unwrap();
        receive(&mut ledger, &search_done(id));
    }
    assert_eq!(
        receive(&mut ledger, &search_done(first)),
        Verdict::Faulty(Fault::Duplicate)
    );
}

#[test]
fn an_id_never_used_or_a_result_of_another_type_is_misdelivered() {
    let mut ledger = Ledger::new(4);
    let id = ledger.open(asked(Kind::Search, 1)).unwrap();
    assert_eq!(
        receive(&mut ledger, &search_done(id + 1)),
        Verdict::Faulty(Fault::Misdelivered)
    );
    assert_eq!(
        receive(&mut ledger, &search_done(70_000)),
        Verdict::Faulty(Fault::Misdelivered)
    );
    let bind = done(id, envelope::tag::BIND_RESPONSE, 0);
    assert_eq!(outcome(receive(&mut ledger, &bind)), (0, false, false, true));
    let bind = ledger.open(asked(Kind::Bind, 1)).unwrap();
    let stray = entry(bind, "uid=user1", ("uid", "user1"));
    assert_eq!(receive(&mut ledger, &stray), Verdict::Faulty(Fault::Misdelivered));
}

#[test]
fn a_comparison_must_come_out_as_it_is() {
    let mut ledger = Ledger::new(4);
    let tag = envelope::tag::COMPARE_RESPONSE;
    for (holds, code, misdelivered) in [
        (true, code::COMPARE_TRUE, false),
        (false, code::COMPARE_FALSE, false),
        (true, code::COMPARE_FALSE, true),
        (false, code::COMPARE_TRUE, true),
    ] {
        let id = ledger.open(asked(Kind::Compare { holds }, 1)).unwrap();
        let verdict = outcome(receive(&mut ledger, &done(id, tag, code)));
        assert_eq!(verdict, (code, true, false, misdelivered));
    }
    let id = ledger.open(asked(Kind::Compare { holds: true }, 1)).unwrap();
    let verdict = outcome(receive(&mut ledger, &done(id, tag, code::UNAVAILABLE)));
    assert_eq!(verdict, (code::UNAVAILABLE, false, false, false));
}

#[test]
fn who_am_i_must_say_the_bound_identity() {
    let mut ledger = Ledger::new(4);
    for (said, misdelivered) in [
        ("dn:uid=user5,dc=example", false),
        ("dn:uid=user6,dc=example", true),
        ("", true),
        ("u:user5", true),
    ] {
        let id = ledger.open(asked(Kind::WhoAmI, 5)).unwrap();
        let mut out = Vec::new();
        result::write_extended(&mut out, id, code::SUCCESS, "", None, Some(said.as_bytes()));
        assert_eq!(outcome(receive(&mut ledger, &out)).3, misdelivered, "{said:?}");
    }
}

#[test]
fn what_was_abandoned_may_still_answer_but_only_about_itself() {
    let mut ledger = Ledger::new(2);
    let id = ledger.open(asked(Kind::Search, 3)).unwrap();
    assert!(ledger.abandon(id));
    assert!(!ledger.abandon(id));
    assert_eq!(ledger.pending(), 0);
    assert_eq!(
        receive(&mut ledger, &entry(id, "uid=user3", ("uid", "user3"))),
        Verdict::AfterAbandon
    );
    let other = entry(id, "uid=user4", ("uid", "user4"));
    assert_eq!(receive(&mut ledger, &other), Verdict::Faulty(Fault::Misdelivered));
    assert_eq!(receive(&mut ledger, &search_done(id)), Verdict::AfterAbandon);
    assert_eq!(
        receive(&mut ledger, &search_done(id)),
        Verdict::Faulty(Fault::Duplicate)
    );
}

#[test]
fn ids_wrap_and_pass_over_what_is_pending() {
    let mut ledger = Ledger::new(2);
    let kept = ledger.open(asked(Kind::Search, 1)).unwrap();
    let mut seen_again = false;
    for n in 0..200_000 {
        let id = ledger.open(asked(Kind::Search, n)).unwrap();
        assert!(id != kept && (1..=65_536).contains(&id));
        seen_again |= n > 65_536 && id == 2;
        assert_eq!(outcome(receive(&mut ledger, &search_done(id))).0, 0);
    }
    assert!(seen_again);
    assert_eq!(ledger.pending(), 1);
    assert_eq!(outcome(receive(&mut ledger, &search_done(kept))).0, 0);
}

#[test]
fn depth_is_bounded_by_slots_that_wait() {
    let mut ledger = Ledger::new(DEPTH_MAX);
    for n in 0..DEPTH_MAX {
        assert!(ledger.open(asked(Kind::Search, n)).is_some());
    }
    assert_eq!(ledger.pending(), DEPTH_MAX);
    assert_eq!(ledger.clear(), DEPTH_MAX);
    assert_eq!(ledger.pending(), 0);
}

#[test]
fn an_unsolicited_notification_is_a_notice() {
    let mut out = Vec::new();
    result::write_notice_of_disconnection(&mut out, code::UNAVAILABLE, "");
    assert_eq!(
        receive(&mut Ledger::new(1), &out),
        Verdict::Notice {
            code: code::UNAVAILABLE
        }
    );
}
