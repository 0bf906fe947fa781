//! Servers that lie: what one says counts for what it is asked itself, and for nothing and nobody else.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::ber::{elements, int, seq, text, tlv};
use crate::client::{Client, PATIENCE, message};
use crate::fake;
use crate::load::Load;
use crate::ops::{self, present};
use crate::recorder::{Account, Recorder, authzid, entry, scripted};
use crate::slapd::{Slapd, USHERD};
use crate::usherd::{Setup, server};

const ADA: &str = "uid=ada,dc=example,dc=com";
const ROOT: &str = "cn=root,dc=example,dc=com";
const ACCOUNTS: &[Account] = &[
    Account {
        typed: ADA,
        password: "p-ada",
        is: ADA,
        sasl: "ada",
    },
    Account {
        typed: ROOT,
        password: "p-root",
        is: ROOT,
        sasl: "root",
    },
];

pub(crate) fn extended(id: i64, code: i64, value: Option<&[u8]>) -> Vec<u8> {
    let mut fields = vec![int(0x0A, code), text(""), text("")];
    fields.extend(value.map(|value| tlv(0x8B, value)));
    message(id, &seq(ops::EXTENDED_RESPONSE, &fields))
}

/// Answers as it should, and besides: results once more, results of what was never asked here (and perhaps elsewhere), and
/// results of nothing at all.
fn chatterbox(id: i64, tag: u8, op: &[u8], who: &mut String, spoken: &AtomicUsize) -> Vec<u8> {
    let shown = if tag == 0x60 {
        elements(op)[2].1.to_vec()
    } else {
        Vec::new()
    };
    if shown == b"wrong" {
        who.clear();
        return fake::result(id, ops::BIND_RESPONSE, 49, "");
    }
    if tag == 0x63 && elements(op)[6].0 != 0xA3 {
        // A probe.
        return fake::result(id, ops::SEARCH_DONE, 0, "");
    }
    let right = fake::answer(id, tag, op, who);
    // While a connection is made, a message that nobody asked for ends it.
    if right.is_empty() || (who == USHERD.0 && tag == 0x60) {
        return right;
    }
    let mut all = Vec::new();
    let turn = spoken.fetch_add(1, Ordering::Relaxed);
    for of in [id + 1_000, id + 4_000, id - 1, id / 2, i64::from(i32::MAX), 0] {
        if of < 0 || (of > 0 && of == id) {
            continue;
        }
        all.extend(match (turn + usize::try_from(of).unwrap_or_default()) % 5 {
            0 => fake::result(of, ops::SEARCH_DONE, 0, ""),
            1 => fake::entry(of, "user1"),
            2 => fake::result(of, ops::BIND_RESPONSE, 0, ""),
            3 => extended(of, 0, Some(authzid(ROOT).as_bytes())),
            _ => fake::result(of, 0x6F, 6, ""),
        });
    }
    all.extend(&right);
    // Once more: its result, and an entry behind it.
    all.extend(right);
    all.extend(fake::entry(id, "user2"));
    all
}

#[test]
fn results_that_nobody_asked_for_reach_nobody_and_bind_nobody() {
    let slapd = Slapd::start();
    let spoken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&spoken);
    let url = scripted(String::new, move |who, id, tag, op, _| {
        chatterbox(id, tag, op, who, &count)
    });
    let servers = [
        server(&url, "connections = 2,"),
        server(&slapd.url(), "connections = 2,"),
    ];
    let usherd = Setup::corp("policy = \"round-robin\"", &servers).start();
    usherd.until("both are up", |status| {
        let servers = &status["directories"][0]["servers"];
        servers[0]["state"] == "up" && servers[1]["state"] == "up"
    });
    let load = Load {
        abandoned: 50,
        rebinds: 50,
        ..Load::new(&[usherd.plain(0)], 8, 8)
    };
    let tally = load.run(6_000, &AtomicBool::new(false));
    tally.assert_untroubled();
    let spoken = spoken.load(Ordering::Relaxed);
    assert!(spoken > 1_000, "it had too little to say: {spoken}");
    eprintln!(
        "{} operations beside {spoken} answers with lies around them",
        tally.operations
    );
    usherd.stop();
}

/// What a server says when it is asked who a client is that has just bound as ada.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Says(&'static [u8]),
    Fails,
    NoValue,
    /// It answers as if another bind had succeeded.
    AnotherKind,
    /// First the truth, then a lie.
    Twice,
}

/// What usherd is to take ada for after each.
const LIES: [(Lie, &str); 11] = [
    (
        Lie::Says(b"dn:uid=ada,dc=example,dc=com"),
        "dn:uid=ada,dc=example,dc=com",
    ),
    (
        Lie::Says(b"dn:cn=root,dc=example,dc=com"),
        "dn:cn=root,dc=example,dc=com",
    ),
    (Lie::Says(b""), ""),
    (Lie::Says(b"u:root"), "u:root"),
    (Lie::Says(b"root"), "root"),
    (Lie::Says(b"dn:"), "dn:"),
    (Lie::Says(b"dn:cn=a\0b\r\nc"), "dn:cn=a\0b\r\nc"),
    (Lie::Fails, "dn:uid=ada,dc=example,dc=com"),
    (Lie::NoValue, "dn:uid=ada,dc=example,dc=com"),
    (Lie::AnotherKind, "dn:uid=ada,dc=example,dc=com"),
    (Lie::Twice, "dn:uid=ada,dc=example,dc=com"),
];

fn lie(lie: Lie, id: i64) -> Vec<u8> {
    match lie {
        Lie::Says(whom) => extended(id, 0, Some(whom)),
        Lie::Fails => extended(id, 53, Some(authzid(ROOT).as_bytes())),
        Lie::NoValue => extended(id, 0, None),
        Lie::AnotherKind => fake::result(id, ops::BIND_RESPONSE, 0, ""),
        Lie::Twice => [
            extended(id, 0, Some(authzid(ADA).as_bytes())),
            extended(id, 0, Some(authzid(ROOT).as_bytes())),
        ]
        .concat(),
    }
}

/// Operations that a server saw: number of the entry, bound as, proxied authorization controls.
type Heard = Arc<Mutex<Vec<(String, String, Vec<String>)>>>;

/// Takes every bind, and lies about whom it took.
fn liar(now: &Arc<AtomicUsize>, heard: &Heard) -> String {
    let (now, heard) = (Arc::clone(now), Arc::clone(heard));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    scripted(String::new, move |who, id, tag, op, controls| match tag {
        0x60 => {
            *who = said(elements(op)[1].1);
            fake::result(id, ops::BIND_RESPONSE, 0, "")
        }
        0x77 => lie(LIES[now.load(Ordering::SeqCst)].0, id),
        0x63 => {
            let claims = elements(controls).into_iter().map(|(_, control)| elements(control));
            let claims = claims.filter(|parts| parts[0].1 == ops::OID_PROXIED.as_bytes());
            let claims = claims.map(|parts| said(parts[2].1)).collect();
            heard
                .lock()
                .expect("no panic")
                .push((said(elements(op)[0].1), who.clone(), claims));
            fake::result(id, ops::SEARCH_DONE, 0, "")
        }
        _ => Vec::new(),
    })
}

#[test]
fn what_a_server_says_of_a_client_counts_in_its_own_directory_and_nowhere_else() {
    let recorder = Recorder::start(ACCOUNTS);
    let (now, heard) = (Arc::new(AtomicUsize::new(0)), Heard::default());
    let url = liar(&now, &heard);
    let usherd = Setup::corp("whoami_cache = \"0s\"", &[server(&url, "")])
        .directory("safe", "", &[server(&recorder.url, "")])
        .listen("ldap", "127.0.0.1:0", "directory = \"safe\"")
        .start();
    let tokens = AtomicU64::new(1);
    let mut due = Vec::new();
    let search = |client: &mut Client| {
        let token = tokens.fetch_add(1, Ordering::Relaxed);
        let answer = client.one(&ops::search(&entry(token), ops::BASE, &present("cn"), &[]));
        assert_eq!(answer.code(), 0, "{answer:?}");
        token
    };
    for (number, (lie, expected)) in LIES.iter().enumerate() {
        now.store(number, Ordering::SeqCst);
        let mut at_liar = Client::bound(&usherd.plain(0), ADA, "p-ada");
        let token = search(&mut at_liar);
        let found = heard
            .lock()
            .expect("no panic")
            .iter()
            .find(|(dn, ..)| *dn == entry(token))
            .cloned();
        let (_, bound_as, claims) = found.expect("it was asked");
        assert_eq!(
            (bound_as.as_str(), claims),
            (USHERD.0, vec![(*expected).to_owned()]),
            "{lie:?}"
        );
        assert_eq!(at_liar.whoami(), *expected, "{lie:?}");
        // The same name, where nobody lies.
        let mut safe = Client::bound(&usherd.plain(1), ADA, "p-ada");
        assert_eq!(safe.whoami(), authzid(ADA), "{lie:?}");
        due.push(search(&mut safe));
        // And the liar's next client is nobody.
        assert_eq!(Client::connect(&usherd.plain(0)).whoami(), "");
    }
    for (token, seen) in recorder.all() {
        assert!(due.contains(&token));
        assert_eq!(seen.proxied, [authzid(ADA)]);
    }
    usherd.stop();
}

#[test]
fn without_an_answer_to_who_that_is_nobody_is_bound() {
    let heard: Heard = Arc::default();
    let searches = Arc::clone(&heard);
    let url = scripted(String::new, move |_, id, tag, op, _| match tag {
        0x60 => fake::result(id, ops::BIND_RESPONSE, 0, ""),
        0x63 => {
            let base = String::from_utf8_lossy(elements(op)[0].1).into_owned();
            searches
                .lock()
                .expect("no panic")
                .push((base, String::new(), Vec::new()));
            fake::result(id, ops::SEARCH_DONE, 0, "")
        }
        _ => Vec::new(),
    });
    // Asked before the client has its answer, the server says nothing, and the bind fails.
    let asks_first = Setup::corp("operation_timeout = \"1s\"\nwhoami_wait = \"0s\"", &[server(&url, "")]);
    let usherd = asks_first.start();
    let mut client = Client::connect(&usherd.plain(0));
    assert_ne!(client.one(&ops::bind(ADA, "p-ada")).code(), 0);
    assert_eq!(client.whoami(), "");
    client.expect_silence(Duration::from_millis(300));
    usherd.stop();
    // Asked when it matters, the client is somebody of whom nobody knows who it is: it does nothing, and is told.
    let usherd = Setup::corp("operation_timeout = \"1s\"", &[server(&url, "")]).start();
    for op in [ops::whoami(), ops::search(&entry(1), ops::BASE, &present("cn"), &[])] {
        let mut client = Client::bound(&usherd.plain(0), ADA, "p-ada");
        client.send(&op);
        let last = client.until_closed(PATIENCE);
        assert!(last.len() == 1 && last[0].is_disconnection(), "{last:?}");
    }
    let seen = heard.lock().expect("no panic").clone();
    assert!(seen.iter().all(|(base, ..)| base.is_empty()), "probes alone: {seen:?}");
    usherd.stop();
}

/// The answer to a bind whose client has gone comes when another client's bind is on its way, and says success.
#[test]
fn a_success_that_comes_too_late_is_nobody_else_s() {
    let arrived: Arc<AtomicBool> = Arc::default();
    let noticed = Arc::clone(&arrived);
    // What is kept of a connection: the id of the bind that it owes an answer.
    let url = scripted(
        || None,
        move |owed: &mut Option<i64>, id, tag, op, _| match tag {
            0x60 => {
                let (name, password) = (elements(op)[1].1.to_vec(), elements(op)[2].1.to_vec());
                if name == ROOT.as_bytes() {
                    *owed = Some(id);
                    noticed.store(true, Ordering::SeqCst);
                    return Vec::new();
                }
                let late = owed.take().map(|id| fake::result(id, ops::BIND_RESPONSE, 0, ""));
                let code = if password == b"wrong" { 49 } else { 0 };
                [late.unwrap_or_default(), fake::result(id, ops::BIND_RESPONSE, code, "")].concat()
            }
            0x77 => extended(id, 0, Some(authzid(ROOT).as_bytes())),
            0x63 => fake::result(id, ops::SEARCH_DONE, 0, ""),
            _ => Vec::new(),
        },
    );
    let usherd = Setup::corp("", &[server(&url, "bind_connections_max = 1,")])
        .server("workers = 1")
        .start();
    for says_so in [true, false] {
        arrived.store(false, Ordering::SeqCst);
        let mut first = Client::connect(&usherd.plain(0));
        first.send(&ops::bind(ROOT, "p-root"));
        crate::proc::wait_for("its bind is at the server", Duration::from_secs(5), || {
            arrived.load(Ordering::SeqCst).then_some(())
        });
        // With a word or without: its bind connection is free at once, and is another one by then.
        if says_so {
            first.send(&ops::unbind());
        }
        drop(first);
        let mut second = Client::connect(&usherd.plain(0));
        assert_eq!(second.one(&ops::bind(ADA, "wrong")).code(), 49);
        assert_eq!(second.whoami(), "");
        second.expect_silence(Duration::from_millis(200));
    }
    usherd.stop();
}

/// An answer of another kind than was asked for is no answer: nobody is bound by it, and who asked hears of a lost connection.
#[test]
fn an_answer_of_another_kind_binds_nobody() {
    let url = scripted(String::new, |_, id, tag, _, _| match tag {
        0x60 => fake::result(id, ops::BIND_RESPONSE, 0, ""),
        0x63 | 0x66 => fake::result(id, ops::BIND_RESPONSE, 0, ""),
        0x77 => extended(id, 0, Some(authzid(ROOT).as_bytes())),
        _ => Vec::new(),
    });
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&url, "")]).start();
    let mut client = Client::connect(&usherd.plain(0));
    for op in [
        ops::search(ROOT, ops::BASE, &present("cn"), &[]),
        ops::modify(ROOT, &[(ops::REPLACE, "cn", &["x"])]),
    ] {
        let answer = client.one(&op);
        assert!(matches!(answer.code(), 52 | 80), "{answer:?}");
        assert_eq!(client.whoami(), "");
    }
    usherd.stop();
}
