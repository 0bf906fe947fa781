//! Accounts and ages of passwords.

use engine::session::nss_pam::maps::{Schema, Sid, parse_sid};
use wire::nslcd::{self, Key, Map, Passwd, Request, Shadow};

use crate::world::{World, answered, maps, passwd, settings};

const ALICE: Passwd<'static> = Passwd {
    name: b"alice",
    password: b"*",
    uid: 1001,
    gid: 2001,
    gecos: b"Alice A",
    home: b"/home/a",
    shell: b"/bin/bash",
};
const BOB: Passwd<'static> = Passwd {
    name: b"bob",
    password: b"*",
    uid: 1002,
    gid: 2001,
    gecos: b"Bob B",
    home: b"/home/bob",
    shell: b"/bin/sh",
};

#[test]
fn accounts_are_found_by_name_and_number() {
    let mut world = World::new();
    let settings = settings(maps(Schema::Rfc2307));
    for key in [Key::Name(b"alice"), Key::Id(1001)] {
        let request = passwd(key);
        let expected = answered(&request, |out| nslcd::passwd(out, &ALICE));
        assert_eq!(world.ask(&request, &settings, 1), expected);
    }
    // What is missing has defaults; a second name is a name; by number all names are told.
    let robert = Passwd {
        name: b"robert",
        home: b"/home/robert",
        ..BOB
    };
    let request = passwd(Key::Name(b"robert"));
    let expected = answered(&request, |out| nslcd::passwd(out, &robert));
    assert_eq!(world.ask(&request, &settings, 1), expected);
    let request = passwd(Key::Id(1002));
    let expected = answered(&request, |out| {
        nslcd::passwd(out, &BOB);
        nslcd::passwd(out, &robert);
    });
    assert_eq!(world.ask(&request, &settings, 1), expected);
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut world = World::new();
    let settings = settings(maps(Schema::Rfc2307));
    for key in [
        Key::Name(b"nobody"),
        Key::Name(b"ALICE"),
        Key::Name(b""),
        Key::Name(b"*"),
        Key::Name(b"alice)(uid=*"),
        Key::Name(b"odd name:"),
        Key::Name(b"unfinished"),
        Key::Id(4_000_000_000),
    ] {
        let request = passwd(key);
        assert_eq!(
            world.ask(&request, &settings, 1),
            answered(&request, |_| {}),
            "{request:?}"
        );
    }
}

#[test]
fn small_numbers_are_not_seen_and_case_is_ignored_where_that_is_set() {
    let mut world = World::new();
    let mut some = maps(Schema::Rfc2307);
    some.uid_min = 1000;
    some.ignore_case = true;
    let settings = settings(some);
    for key in [Key::Name(b"old"), Key::Id(5)] {
        let request = passwd(key);
        assert_eq!(world.ask(&request, &settings, 1), answered(&request, |_| {}));
    }
    let request = passwd(Key::Name(b"ALICE"));
    let expected = answered(&request, |out| nslcd::passwd(out, &ALICE));
    assert_eq!(world.ask(&request, &settings, 1), expected);
}

#[test]
fn all_accounts_are_told_unless_that_is_forbidden() {
    let mut world = World::new();
    let request = passwd(Key::All);
    let out = world.ask(&request, &settings(maps(Schema::Rfc2307)), 1);
    let accounts = out
        .windows(5)
        .filter(|bytes| bytes[..4] == [0, 0, 0, 1] && bytes[4] == b'*')
        .count();
    assert_eq!(accounts, 6, "alice, bob, robert, old and the twins");
    let mut quiet = maps(Schema::Rfc2307);
    quiet.enumerate = false;
    assert_eq!(world.ask(&request, &settings(quiet), 1), answered(&request, |_| {}));
    assert_eq!(world.asked, 0);
}

#[test]
fn an_answer_larger_than_allowed_is_not_ended() {
    let mut world = World::new();
    let mut small = settings(maps(Schema::Rfc2307));
    small.answer_bytes_max = 100;
    let request = passwd(Key::All);
    let out = world.ask(&request, &small, 1);
    assert_ne!(out[out.len() - 4..], [0, 0, 0, 2]);
}

#[test]
fn only_root_sees_ages_and_nobody_sees_hashes() {
    let mut world = World::new();
    let settings = settings(maps(Schema::Rfc2307));
    let request = Request::Look {
        map: Map::Shadow,
        key: Key::Name(b"alice"),
    };
    let line = Shadow {
        name: b"alice",
        password: b"*",
        last_change: 19_990,
        min: -1,
        max: 90,
        warn: -1,
        inactive: -1,
        expire: -1,
        flag: -1,
    };
    let expected = answered(&request, |out| nslcd::shadow(out, &line));
    assert_eq!(world.ask(&request, &settings, 0), expected);
    assert_eq!(world.ask(&request, &settings, 1000), answered(&request, |_| {}));
    assert_eq!(world.asked, 0, "nothing is asked for others");
}

#[test]
fn several_bases_are_searched_in_order_and_a_missing_one_holds_nothing() {
    let mut world = World::new();
    let mut some = maps(Schema::Rfc2307);
    for (_, place) in &mut some.places {
        place.bases = vec![
            "ou=nowhere,dc=example,dc=com".to_owned(),
            "uid=alice,dc=example,dc=com".to_owned(),
            "dc=example,dc=com".to_owned(),
        ];
    }
    let settings = settings(some);
    let request = passwd(Key::Name(b"alice"));
    let expected = answered(&request, |out| nslcd::passwd(out, &ALICE));
    assert_eq!(world.ask(&request, &settings, 1), expected);
    assert_eq!(world.asked, 2, "found in the second, the third is not asked");
    let request = passwd(Key::Name(b"bob"));
    assert!(world.ask(&request, &settings, 1).len() > 12);
    assert_eq!(world.asked, 3);
}

#[test]
fn no_failure_looks_like_an_answer() {
    for request in [
        passwd(Key::Name(b"bob")),
        passwd(Key::Name(b"nobody")),
        passwd(Key::All),
    ] {
        let settings = settings(maps(Schema::Rfc2307));
        let whole = World::new().ask(&request, &settings, 1);
        let mut world = World::new();
        world.fails = Some(0);
        let broken = world.ask(&request, &settings, 1);
        assert!(
            broken.len() < whole.len() && !broken[8..].ends_with(&[0, 0, 0, 2]),
            "{request:?}"
        );
    }
}

#[test]
fn windows_numbers_are_looked_up_by_identifier() {
    let mut windows = maps(Schema::ActiveDirectory);
    windows.set_sid(Sid {
        domain: parse_sid("S-1-5-21-1-2-3").unwrap(),
        offset: 100_000,
    });
    assert_eq!(windows.names.uid, "objectSid");
    let mut world = World::new();
    let settings = settings(windows);
    // Below the offset there is nobody, and nobody is asked.
    let request = passwd(Key::Id(5));
    assert_eq!(world.ask(&request, &settings, 1), answered(&request, |_| {}));
    assert_eq!(world.asked, 0);
    let request = passwd(Key::Id(100_500));
    assert_eq!(world.ask(&request, &settings, 1), answered(&request, |_| {}));
    assert_eq!(world.asked, 1);
}
