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

/// A question about what the fixture has, and the same about what it has not.
type Pair = (Vec<u8>, Vec<u8>);

fn written(request: Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    bytes
}

fn look(map: Map, known: Key<'_>, absent: Key<'_>) -> Pair {
    let ask = |key| written(Request::Look { map, key });
    (ask(known), ask(absent))
}

/// By name, by number or address, and all.
fn three(map: Map, name: &[u8], known: Key<'_>, absent: Key<'_>) -> [Pair; 3] {
    let by_name = look(map, Key::Name(name), Key::Name(b"nobody-here"));
    [by_name, look(map, known, absent), look(map, Key::All, Key::All)]
}

/// One of each action.
fn questions() -> Vec<Pair> {
    let ask = |question: fn(bool) -> Vec<u8>| (question(true), question(false));
    let mut all = vec![ask(|known| written(Request::ConfigGet(if known { 1 } else { 99 })))];
    let two = |map, name| three(map, name, Key::All, Key::All).into_iter().take(2);
    all.extend(two(Map::Alias, b"postmaster"));
    let card = [0, 0x1b, 0x44, 0x11, 0x3a, 0xb7];
    all.extend(three(Map::Ether, b"gate", Key::Ether(card), Key::Ether([1; 6])));
    let mut groups = three(Map::Group, b"builders", Key::Id(20_001), Key::Id(7)).to_vec();
    groups.insert(2, look(Map::Group, Key::Member(b"alice"), Key::Member(b"nobody-here")));
    all.extend(groups);
    let nowhere = Key::Address(10, &[7; 16]);
    all.extend(three(Map::Host, b"gate", Key::Address(2, &[192, 0, 2, 7]), nowhere));
    all.extend(two(Map::Netgroup, b"trusted"));
    all.extend(three(Map::Network, b"lab", Key::Address(2, &[192, 0, 2, 0]), nowhere));
    all.extend(three(Map::Passwd, b"alice", Key::Id(10_001), Key::Id(77_777)));
    all.extend(three(Map::Protocol, b"UP", Key::Id(254), Key::Id(77_777)));
    all.extend(three(Map::Rpc, b"urpc", Key::Id(400_001), Key::Id(77_777)));
    let service = |protocol: &'static [u8]| Key::ServiceName(b"utest", protocol);
    all.push(look(Map::Service, service(b"tcp"), service(b"udp")));
    let port = |port| Key::ServicePort(port, b"tcp");
    all.push(look(Map::Service, port(7777), port(7778)));
    all.push(look(Map::Service, Key::All, Key::All));
    all.extend(two(Map::Shadow, b"alice"));
    all.extend(PAM.map(ask));
    // A shell, and nothing at all.
    all.push(ask(|known| user_modify(known, b"\0\0\0\x08\0\0\0\x07/bin/ed")));
    all.push(ask(|known| user_modify(known, b"")));
    all
}

fn who(known: bool) -> Who<'static> {
    Who {
        user: if known { b"alice" } else { b"nobody-here" },
        service: b"test",
        ..Who::default()
    }
}

/// Of PAM's actions, in the order of the header; true: about a user who is there.
const PAM: [fn(bool) -> Vec<u8>; 5] = [
    |known| {
        written(Request::Authc {
            who: who(known),
            password: b"alice-pw",
        })
    },
    |known| written(Request::Authz(who(known))),
    |known| written(Request::SessionOpen(who(known))),
    |known| {
        written(Request::SessionClose {
            who: who(known),
            session: b"one",
        })
    },
    |known| {
        written(Request::PasswordModify {
            who: who(known),
            as_root: false,
            old: b"alice-pw",
            new: b"alice-pw2",
        })
    },
];

fn user_modify(known: bool, changes: &[u8]) -> Vec<u8> {
    let user = who(known).user;
    let string = |text: &[u8]| [&u32::try_from(text.len()).expect("short").to_be_bytes(), text].concat();
    [
        b"\0\0\0\x02\0\x0e\0\x01".as_slice(),
        &string(user),
        b"\0\0\0\0",
        &string(b"alice-pw"),
        changes,
        b"\0\0\0\0",
    ]
    .concat()
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
