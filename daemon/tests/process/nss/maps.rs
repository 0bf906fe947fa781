//! Every map that the module knows, by `getent`, and every action of the protocol, by hand.

use std::time::{Duration, Instant};

use wire::nslcd::{self, Key, Map, Pam, Request, Who};

use super::raw::{asked, sent};
use super::{Accounts, BIS, before, inside, stdout};
use crate::proc::shown;
use crate::usherd::{Setup, Usherd};

#[test]
fn getent_finds_every_map_by_name_by_number_and_as_a_whole() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    // Of a name and its alias the entry's own is the first, whichever was asked for.
    let service = "usherd-test 7777/tcp utest";
    let network = "lab 192.0.2.0 laboratory";
    let protocol = "usherd-proto 254 UP";
    let rpc = "usherd-rpc 400001 urpc";
    for (what, expected) in [
        ("aliases postmaster", "postmaster: alice@example.com, bob@example.com"),
        ("aliases nobody-here", ""),
        ("aliases", "postmaster: alice@example.com, bob@example.com"),
        ("ethers gate.example.com", "0:1b:44:11:3a:b7 gate.example.com"),
        ("ethers 00:1b:44:11:3a:b7", "0:1b:44:11:3a:b7 gate"),
        ("ethers 00:00:00:00:00:01", ""),
        ("networks lab", network),
        ("networks laboratory", network),
        ("networks 192.0.2.0", network),
        ("networks 198.51.100.0", ""),
        ("networks", network),
        ("protocols usherd-proto", protocol),
        ("protocols UP", protocol),
        ("protocols 254", protocol),
        ("rpc usherd-rpc", rpc),
        ("rpc urpc", rpc),
        ("rpc 400001", rpc),
        ("rpc 400002", ""),
        ("services usherd-test", service),
        ("services utest/tcp", service),
        ("services 7777", service),
        ("services 7777/udp", ""),
        (
            "ahostsv4 gate.example.com",
            "192.0.2.7 STREAM gate.example.com 192.0.2.7 DGRAM 192.0.2.7 RAW",
        ),
        ("hosts 192.0.2.7", "192.0.2.7 gate.example.com gate"),
        ("hosts 2001:db8::7", "2001:db8::7 gate.example.com gate"),
        ("hosts 192.0.2.8", ""),
        (
            "netgroup trusted",
            "trusted (gate.example.com,alice,) ( ,bob,example.com)",
        ),
        ("netgroup strangers", ""),
    ] {
        let output = inside(&usherd, &format!("getent {what}"));
        let said = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(said, expected, "getent {what}: {}", shown(&output));
        let status = if expected.is_empty() { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(status), "getent {what}: {}", shown(&output));
    }
    for (map, ours) in [
        ("passwd", "alice:*:10001:"),
        ("group", "builders:*:20001:"),
        ("shadow", "alice:*:19000:"),
        ("hosts", "gate.example.com gate"),
        ("services", "usherd-test           7777/tcp utest"),
        ("protocols", "usherd-proto          254 UP"),
        ("rpc", "usherd-rpc      400001  urpc"),
    ] {
        let said = stdout(&inside(&usherd, &format!("getent {map}")));
        assert!(said.contains(ours), "getent {map}: no {ours:?} in {said}");
    }
    usherd.stop();
}

/// The header `nslcd.h` of nss-pam-ldapd 0.9, all of its actions: what is asked, and how.
const ACTIONS: [(u32, &[u32]); 14] = [
    (0x01, &[1]),             // config: get
    (0x02, &[1, 8]),          // alias: by name, all
    (0x03, &[1, 2, 8]),       // ether: by name, by ether, all
    (0x04, &[1, 2, 6, 8]),    // group: by name, by gid, by member, all
    (0x05, &[1, 2, 8]),       // host: by name, by address, all
    (0x06, &[1, 8]),          // netgroup: by name, all
    (0x07, &[1, 2, 8]),       // network: by name, by address, all
    (0x08, &[1, 2, 8]),       // passwd: by name, by uid, all
    (0x09, &[1, 2, 8]),       // protocol: by name, by number, all
    (0x0a, &[1, 2, 8]),       // rpc: by name, by number, all
    (0x0b, &[1, 2, 8]),       // service: by name, by number, all
    (0x0c, &[1, 8]),          // shadow: by name, all
    (0x0d, &[1, 2, 3, 4, 5]), // pam: authc, authz, sess_o, sess_c, pwmod
    (0x0e, &[1, 1]),          // usermod: with a change, and without
];

/// One question of each action about what the fixture has, and one about what it has not.
fn questions() -> Vec<(Vec<u8>, Vec<u8>)> {
    let who = |user: &'static str| Who {
        user: user.as_bytes(),
        service: b"test",
        ..Who::default()
    };
    let mut all = Vec::new();
    let mut ask = |of: &dyn Fn(bool) -> Vec<u8>| all.push((of(true), of(false)));
    let written = |request: Request<'_>| {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        bytes
    };
    ask(&|known| written(Request::ConfigGet(if known { 1 } else { 99 })));
    let mut look = |map: Map, known: Key<'static>, absent: Key<'static>| {
        ask(&|there| {
            written(Request::Look {
                map,
                key: if there { known } else { absent },
            })
        });
    };
    let absent = Key::Name(b"nobody-here");
    look(Map::Alias, Key::Name(b"postmaster"), absent);
    look(Map::Alias, Key::All, Key::All);
    look(Map::Ether, Key::Name(b"gate"), absent);
    look(
        Map::Ether,
        Key::Ether([0, 0x1b, 0x44, 0x11, 0x3a, 0xb7]),
        Key::Ether([1; 6]),
    );
    look(Map::Ether, Key::All, Key::All);
    look(Map::Group, Key::Name(b"builders"), absent);
    look(Map::Group, Key::Id(20_001), Key::Id(7));
    look(Map::Group, Key::Member(b"alice"), Key::Member(b"nobody-here"));
    look(Map::Group, Key::All, Key::All);
    for map in [Map::Host, Map::Network] {
        let (name, address): (&[u8], &[u8]) = match map {
            Map::Host => (b"gate", &[192, 0, 2, 7]),
            _ => (b"lab", &[192, 0, 2, 0]),
        };
        look(map, Key::Name(name), absent);
        look(map, Key::Address(2, address), Key::Address(10, &[7; 16]));
        look(map, Key::All, Key::All);
        if map == Map::Host {
            look(Map::Netgroup, Key::Name(b"trusted"), absent);
            look(Map::Netgroup, Key::All, Key::All);
        }
    }
    for (map, name, number) in [
        (Map::Passwd, b"alice".as_slice(), 10_001),
        (Map::Protocol, b"UP", 254),
        (Map::Rpc, b"urpc", 400_001),
    ] {
        look(map, Key::Name(name), absent);
        look(map, Key::Id(number), Key::Id(77_777));
        look(map, Key::All, Key::All);
    }
    look(
        Map::Service,
        Key::ServiceName(b"utest", b"tcp"),
        Key::ServiceName(b"utest", b"udp"),
    );
    look(
        Map::Service,
        Key::ServicePort(7777, b""),
        Key::ServicePort(7778, b"tcp"),
    );
    look(Map::Service, Key::All, Key::All);
    look(Map::Shadow, Key::Name(b"alice"), absent);
    look(Map::Shadow, Key::All, Key::All);
    let name = |known| who(if known { "alice" } else { "nobody-here" });
    ask(&|known| {
        written(Request::Authc {
            who: name(known),
            password: b"alice-pw",
        })
    });
    ask(&|known| written(Request::Authz(name(known))));
    ask(&|known| written(Request::SessionOpen(name(known))));
    ask(&|known| {
        written(Request::SessionClose {
            who: name(known),
            session: b"one",
        })
    });
    ask(&|known| {
        written(Request::PasswordModify {
            who: name(known),
            as_root: false,
            old: b"alice-pw",
            new: b"alice-pw2",
        })
    });
    // Shells, and nothing at all: USERMOD_END ends both.
    for changes in [b"\0\0\0\x08\0\0\0\x07/bin/ed\0\0\0\0".as_slice(), b"\0\0\0\0"] {
        ask(&|known| {
            let user = if known { "alice" } else { "nobody-here" };
            let mut bytes = b"\0\0\0\x02\0\x0e\0\x01".to_vec();
            for text in [user.as_bytes(), b"alice-pw"] {
                bytes.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
                bytes.extend(text);
                if text == user.as_bytes() {
                    bytes.extend(0_u32.to_be_bytes());
                }
            }
            bytes.extend(changes);
            bytes
        });
    }
    all
}

/// What comes back is whole: version, action, results, end; and comes soon. Whether there is a result.
fn whole(usherd: &Usherd, question: &[u8]) -> bool {
    let begun = Instant::now();
    let answer = sent(usherd, question);
    let late = begun.elapsed() > Duration::from_secs(5);
    assert!(!late, "{question:?} took {:?}", begun.elapsed());
    assert_eq!(answer.get(..8), question.get(..8), "{question:?}: {answer:?}");
    assert!(
        answer.ends_with(&nslcd::RESULT_END.to_be_bytes()),
        "{question:?}: {answer:?}"
    );
    answer.len() > 12
}

#[test]
fn every_action_of_the_protocol_has_a_whole_answer() {
    let accounts = Accounts::start();
    let usherd = before(&accounts, BIS);
    let questions = questions();
    let asked_for: Vec<u32> = questions
        .iter()
        .map(|(known, _)| u32::from_be_bytes(known[4..8].try_into().expect("an action")))
        .collect();
    let header = ACTIONS
        .iter()
        .flat_map(|(what, how)| how.iter().map(move |how| what << 16 | how));
    assert_eq!(
        asked_for,
        header.collect::<Vec<u32>>(),
        "each action, in the order of the header"
    );
    for (known, absent) in &questions {
        assert!(whole(&usherd, known), "nothing came for {known:?}");
        // Sessions, settings and refusals are answered whoever is meant; all of a map is all of it.
        let always = known == absent || matches!(known[5], 13 if known[7] == 3 || known[7] == 4) || known[5] == 14;
        assert_eq!(whole(&usherd, absent), always, "{absent:?}");
    }
    usherd.stop();
}

#[test]
fn a_service_that_has_only_accounts_answers_every_action_too() {
    let setup = Setup::new();
    let program = setup.folder.write("answers.py", include_str!("answers.py"));
    let usherd = setup
        .section(&format!(
            "[service.people]\nhelper = \"exec\"\nprogram = [\"/usr/bin/python3\", \"{program}\"]\n"
        ))
        .listen("nslcd", "unix:socket", "service = \"people\"")
        .start();
    for (known, absent) in questions() {
        if known[5] != 13 || known[7] != 1 {
            whole(&usherd, &known);
        }
        whole(&usherd, &absent);
    }
    // The one that is left out above: here the password decides, and this one is no status.
    let request = Request::Authc {
        who: Who {
            user: b"dora",
            service: b"test",
            ..Who::default()
        },
        password: b"ok",
    };
    let mut right = Vec::new();
    nslcd::begin(&mut right, request.action());
    nslcd::authc(&mut right, Pam::Success, b"dora", Pam::Success, b"");
    nslcd::end(&mut right);
    assert_eq!(asked(&usherd, &request), right);
    usherd.stop();
}
