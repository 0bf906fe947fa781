//! What becomes of requests with certain controls, and of extended operations: refused, or kept to one connection where the
//! server keeps state for them (paged results, transactions), many clients at once.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, tlv};
use crate::client::{Client, Message, PATIENCE, with_controls};
use crate::ops::{self, present};
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

const PAGED: &str = "1.2.840.113556.1.4.319";
const SORT: &str = "1.2.840.113556.1.4.473";
const VLV: &str = "2.16.840.1.113730.3.4.9";
const TXN_START: &str = "1.3.6.1.1.21.1";
const TXN_SPEC: &str = "1.3.6.1.1.21.2";
const TXN_END: &str = "1.3.6.1.1.21.3";

fn two(lines: &str, server_lines: &str) -> ([Slapd; 2], Usherd) {
    let slapds = [Slapd::start(), Slapd::start()];
    let servers: Vec<String> = slapds.iter().map(|slapd| server(&slapd.url(), server_lines)).collect();
    let usherd = Setup::corp(lines, &servers).start();
    (slapds, usherd)
}

/// One page; the cookie of the next is handed back.
pub(crate) fn page(
    client: &mut Client,
    size: i64,
    cookie: &[u8],
    filter: &[u8],
    more: &[(&str, bool, Option<Vec<u8>>)],
) -> (Vec<Message>, i64, Vec<u8>) {
    let op = ops::search(PEOPLE, ops::ONE, filter, &["uid"]);
    let value = seq(0x30, &[int(0x02, size), tlv(0x04, cookie)]);
    let mut controls = vec![(PAGED, true, Some(value))];
    controls.extend_from_slice(more);
    let mut messages = client.call(&with_controls(&op, &controls));
    let done = messages.pop().expect("a result");
    (messages, done.code(), cookie_of(&done))
}

fn cookie_of(done: &Message) -> Vec<u8> {
    let whole = seq(0x30, std::slice::from_ref(&done.body));
    let parts = elements(elements(&whole)[0].1);
    let Some((_, controls)) = parts.iter().find(|(tag, _)| *tag == 0xA0) else {
        return Vec::new();
    };
    for (_, control) in elements(controls) {
        let fields = elements(control);
        if fields[0].1 == PAGED.as_bytes() {
            let value = fields.last().expect("a value").1;
            return elements(elements(value)[0].1)[1].1.to_vec();
        }
    }
    Vec::new()
}

/// All pages; how many they were, and the names.
pub(crate) fn all_pages(client: &mut Client, size: i64, filter: &[u8]) -> (usize, BTreeSet<String>) {
    let (mut names, mut cookie, mut pages) = (BTreeSet::new(), Vec::new(), 0);
    loop {
        let (entries, code, next) = page(client, size, &cookie, filter, &[]);
        assert_eq!(code, 0, "page {pages}");
        pages += 1;
        for entry in entries.iter().filter(|message| message.tag == ops::SEARCH_ENTRY) {
            let uid = entry.values("uid").remove(0);
            assert!(names.insert(uid.clone()), "{uid} came twice");
        }
        if next.is_empty() {
            return (pages, names);
        }
        cookie = next;
    }
}

/// Users whose number begins so: 111 with one digit of two.
fn beginning(digits: &str) -> Vec<u8> {
    ops::pieces("uid", &format!("user{digits}*"))
}

#[test]
fn twenty_clients_page_at_once_through_two_servers_and_each_gets_all_of_it() {
    // Fewer connections of this kind than clients: the others wait their turn.
    let (_slapds, usherd) = two("isolated_max = 4", "");
    let target = usherd.plain(0);
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let target = target.clone();
            thread::spawn(move || {
                let mut client = Client::bound(&target, &user(n + 1), &password(n + 1));
                let digits = format!("{}", 11 + n);
                let (pages, names) = all_pages(&mut client, 5, &beginning(&digits));
                assert!(pages >= 19, "{pages} pages");
                assert_eq!(names.len(), 111, "of user{digits}…");
                assert!(names.iter().all(|name| name.starts_with(&format!("user{digits}"))));
                assert_eq!(client.whoami(), format!("dn:{}", user(n + 1)));
            })
        })
        .collect();
    for client in clients {
        client.join().expect("all pages");
    }
    usherd.stop();
}

#[test]
fn who_keeps_to_a_connection_or_a_server_is_counted_as_long_as_he_does() {
    let rules = "[directory.corp.restrict]\ncontrol = { \"1.2.3.4\" = \"backend\", \"1.2.3.5\" = \"connection\" }";
    let slapd = Slapd::start();
    let usherd = Setup::corp("isolated_max = 4", &[server(&slapd.url(), "")])
        .section(rules)
        .server("admin = \"127.0.0.1:0\"")
        .start();
    let kept = |wanted: [u64; 3]| {
        let status = usherd.until(&format!("{wanted:?}"), |status| {
            let of = |by: &str| {
                let counts = status["directories"][0]["kept"].as_array().into_iter().flatten();
                counts
                    .clone()
                    .find(|one| one["label"] == by)
                    .map(|one| one["count"].clone())
            };
            ["isolate", "connection", "backend"].map(of) == wanted.map(|count| Some(count.into()))
        });
        status["directories"][0]["servers"][0]["isolated"]
            .as_u64()
            .unwrap_or(u64::MAX)
    };
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&usherd.plain(0))).collect();
    kept([0, 0, 0]);
    let (_, _, cookie) = page(&mut clients[0], 10, b"", &beginning("11"), &[]);
    assert!(kept([1, 0, 0]) >= 1, "its connection");
    for (client, oid) in [(1, "1.2.3.4"), (2, "1.2.3.5")] {
        let op = ops::search(BASE, ops::BASE, &present("objectClass"), &[]);
        clients[client].call(&with_controls(&op, &[(oid, false, None)]));
    }
    kept([1, 1, 1]);
    let (_, code, cookie) = page(&mut clients[0], 0, &cookie, &beginning("11"), &[]);
    assert_eq!((code, cookie.len()), (0, 0));
    kept([0, 1, 1]);
    clients[1].bind(&user(1), &password(1));
    drop(clients.pop());
    kept([0, 0, 0]);
    usherd.stop();
}

#[test]
fn a_connection_kept_for_pages_is_given_back_by_the_last_page_abandon_rebind_leave_and_rest() {
    let (_slapds, usherd) = two(
        "isolated_max = 1\nisolated_idle_timeout = \"1s\"\noperation_timeout = \"20s\"",
        "",
    );
    // One worker holds one connection to each of two servers at most; four clients take them all, in whatever way they end.
    let begin = |client: &mut Client| page(client, 10, b"", &beginning("1"), &[]);
    let target = usherd.plain(0);
    for round in 0..6 {
        let mut kept: Vec<Client> = (0..4).map(|_| Client::connect(&target)).collect();
        for (n, client) in kept.iter_mut().enumerate() {
            let (entries, code, cookie) = begin(client);
            assert_eq!(
                (entries.len(), code, cookie.is_empty()),
                (10, 0, false),
                "round {round}, client {n}"
            );
            match (round + n) % 4 {
                0 => client.bind(&user(1), &password(1)),
                1 => {
                    // Leave without a word.
                    *client = Client::connect(&target);
                }
                2 => {
                    // The client says that it wants no more (RFC 2696 section 3).
                    let (_, code, cookie) = page(client, 0, &cookie, &beginning("1"), &[]);
                    assert_eq!((code, cookie.len()), (0, 0));
                }
                _ => {} // It rests.
            }
        }
    }
    usherd.stop();
}

#[test]
fn who_lost_the_connection_amid_its_pages_is_told_and_starts_anew() {
    let mut slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let mut client = Client::connect(&usherd.plain(0));
    let (_, _, cookie) = page(&mut client, 10, b"", &beginning("1"), &[]);
    slapd.revive();
    let (_, code, _) = page(&mut client, 10, &cookie, &beginning("1"), &[]);
    assert_eq!(code, 52);
    let end = Instant::now() + PATIENCE;
    while client.one(&ops::compare(&user(1), "uid", "user1")).code() != 6 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(all_pages(&mut client, 10, &beginning("11")).1.len(), 111);
    usherd.stop();
}

#[test]
fn what_is_refused_is_refused_on_every_operation() {
    const NAMED: &str = "1.2.3.4.5.6";
    let rules = format!(
        "restrict = {{ control = {{ \"{NAMED}\" = \"reject\", \"{PAGED}\" = \"reject\" }}, extended = {{ \"{}\" = \"reject\", \"1.1\" = \"reject\", \"{TXN_START}\" = \"ignore\" }} }}",
        ops::OID_PASSWORD_MODIFY
    );
    let slapd = Slapd::start();
    let usherd = Setup::corp(&rules, &[server(&slapd.url(), "")]).start();
    let mut client = Client::bound(&usherd.plain(0), EDITOR.0, EDITOR.1);
    let entry = format!("cn=refused,{BASE}");
    let requests = [
        ops::search(&user(1), ops::BASE, &present("uid"), &[]),
        ops::compare(&user(1), "uid", "user1"),
        ops::add(&entry, &[("objectClass", &["device"]), ("cn", &["refused"])]),
        ops::modify(&user(1), &[(ops::REPLACE, "title", &["refused"])]),
        ops::delete(&user(2)),
        ops::rename(&user(3), "uid=refused", true, None),
        ops::extended("1.2.3.4", None),
        ops::whoami(),
    ];
    for op in &requests {
        for critical in [false, true] {
            let answer = client.one(&with_controls(op, &[(NAMED, critical, None)]));
            assert_eq!(answer.code(), 53, "{answer:?}");
        }
    }
    // Not so without it, or with another.
    let other = [("1.2.3.4.5.7", false, None)];
    assert_eq!(client.call(&with_controls(&requests[0], &other)).len(), 2);
    assert_eq!(client.one(&requests[1]).code(), 6);
    // Extended operations by their own name, and all that are not named.
    assert_eq!(client.one(&ops::password_modify(None, None, Some("new"))).code(), 53);
    assert_eq!(client.one(&ops::extended("1.2.3.4", None)).code(), 53);
    assert_ne!(
        client.one(&ops::extended(TXN_START, None)).code(),
        53,
        "named, and let through"
    );
    assert_eq!(
        client.whoami(),
        format!("dn:{}", EDITOR.0),
        "answered here, and not named"
    );
    // A refused bind leaves nobody.
    let bind = with_controls(&ops::bind(&user(1), &password(1)), &[(NAMED, false, None)]);
    assert_eq!(client.one(&bind).code(), 53);
    assert_eq!(client.whoami(), "");
    assert_eq!(
        client
            .call(&ops::search(&user(2), ops::BASE, &present("uid"), &["uid"]))
            .len(),
        2,
        "nothing was deleted"
    );
    usherd.stop();
}

fn start(client: &mut Client) -> Vec<u8> {
    let answer = client.one(&ops::extended(TXN_START, None));
    assert_eq!(answer.code(), 0, "{answer:?}");
    answer.response_value().unwrap_or_default()
}

fn end(client: &mut Client, id: &[u8], commit: bool) -> i64 {
    let mut parts = Vec::new();
    if !commit {
        parts.push(crate::ber::boolean(false));
    }
    parts.push(tlv(0x04, id));
    client.one(&ops::extended(TXN_END, Some(&seq(0x30, &parts)))).code()
}

fn part_of(id: &[u8], op: &[u8]) -> Vec<u8> {
    with_controls(op, &[(TXN_SPEC, true, Some(id.to_vec()))])
}

pub(crate) fn transact(client: &mut Client, number: usize, title: &str, commit: bool) {
    let id = start(client);
    for of in [2 * number, 2 * number + 1] {
        let op = ops::modify(&user(of), &[(ops::REPLACE, "title", &[title])]);
        let answer = client.one(&part_of(&id, &op));
        assert_eq!(answer.code(), 0, "{answer:?}");
    }
    assert_eq!(end(client, &id, commit), 0);
}

pub(crate) fn title(client: &mut Client, number: usize) -> Option<String> {
    let op = ops::search(&user(number), ops::BASE, &present("uid"), &["title"]);
    client.call(&op)[0].values("title").into_iter().next()
}

/// slapd 2.5 itself may abort where several commit at once (an assertion of the C library about a lock of its own): then, and only
/// then, once more.
#[test]
fn eight_clients_have_transactions_at_once_and_each_settles_its_own() {
    for _ in 0..3 {
        let mut slapd = Slapd::start();
        let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eight_clients(&slapd))) else {
            return;
        };
        if !slapd.has_ended() {
            std::panic::resume_unwind(panic);
        }
        eprintln!("slapd has aborted: {}", slapd.output());
    }
    panic!("slapd aborts whenever transactions end");
}

fn eight_clients(slapd: &Slapd) {
    let usherd = Setup::corp("isolated_max = 4", &[server(&slapd.url(), "")]).start();
    let target = usherd.plain(0);
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let target = target.clone();
            thread::spawn(move || {
                let mut client = Client::bound(&target, EDITOR.0, EDITOR.1);
                for round in 0..10 {
                    let before = title(&mut client, 2 * n + 100);
                    let (now, commit) = (format!("title {n} {round}"), (n + round) % 3 != 0);
                    transact(&mut client, n + 50, &now, commit);
                    let expected = if commit { Some(now) } else { before };
                    assert_eq!(title(&mut client, 2 * n + 100), expected, "client {n}, round {round}");
                    assert_eq!(title(&mut client, 2 * n + 101), expected);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("its transactions");
    }
    // Who leaves amid one has changed nothing.
    let mut client = Client::bound(&target, EDITOR.0, EDITOR.1);
    let id = start(&mut client);
    let op = ops::modify(&user(1), &[(ops::REPLACE, "title", &["never"])]);
    assert_eq!(client.one(&part_of(&id, &op)).code(), 0);
    drop(client);
    let mut client = Client::bound(&target, EDITOR.0, EDITOR.1);
    assert_eq!(title(&mut client, 1), None);
    transact(&mut client, 20, "after", true);
    assert_eq!(title(&mut client, 41).as_deref(), Some("after"));
    usherd.stop();
}

#[test]
fn in_a_transaction_everybody_is_who_they_are() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let mut client = Client::bound(&usherd.plain(0), &user(5), &password(5));
    // Who may change only themselves.
    for (of, allowed) in [(5, true), (6, false)] {
        let id = start(&mut client);
        let op = ops::modify(&user(of), &[(ops::REPLACE, "title", &["mine"])]);
        assert_eq!(client.one(&part_of(&id, &op)).code(), 0);
        assert_eq!(client.whoami(), format!("dn:{}", user(5)));
        let code = end(&mut client, &id, true);
        assert_eq!(code == 0, allowed, "user{of}: {code}");
        assert_eq!(title(&mut client, of).is_some(), allowed, "user{of}");
    }
    // And so is the next client, on the same connection perhaps.
    let mut nobody = Client::connect(&usherd.plain(0));
    let id = start(&mut nobody);
    let op = ops::modify(&user(7), &[(ops::REPLACE, "title", &["mine"])]);
    nobody.one(&part_of(&id, &op));
    assert_ne!(end(&mut nobody, &id, true), 0);
    assert_eq!(title(&mut client, 7), None);
    usherd.stop();
}

fn sorting() -> (&'static str, bool, Option<Vec<u8>>) {
    let key = seq(0x30, &[tlv(0x04, b"uid"), tlv(0x80, b"caseIgnoreOrderingMatch")]);
    (SORT, true, Some(seq(0x30, &[key])))
}

/// slapd with server-side sorting, whose lists are kept for a connection.
fn sorting_slapd() -> Slapd {
    Slapd::with("overlay sssvlv\nsssvlv-max 100\nsssvlv-maxperconn 2\n")
}

/// Sorted pages, then a sorted list, of the names that begin so. False: slapd's overlay was busy. It sends a result before it notes that
/// it is done (`so_running` in its sssvlv.c), and who is quicker than that is refused and has to begin anew.
fn sorts(client: &mut Client, (name, password): (&str, &str), filter: &[u8]) -> bool {
    const BUSY: i64 = 51;
    let (mut names, mut cookie) = (Vec::new(), Vec::new());
    loop {
        let (entries, code, next) = page(client, 20, &cookie, filter, &[sorting()]);
        if code == BUSY {
            return false;
        }
        assert_eq!(code, 0);
        names.extend(entries.iter().map(|entry| entry.values("uid").remove(0)));
        if next.is_empty() {
            break;
        }
        cookie = next;
    }
    assert_eq!(names.len(), 111);
    assert!(names.is_sorted(), "{names:?}");
    // A list: the first three, then from the fiftieth on.
    client.bind(name, password);
    for (offset, expected) in [(1, names.get(..3)), (50, names.get(49..52))] {
        let at = seq(0xA0, &[int(0x02, offset), int(0x02, 0)]);
        let value = seq(0x30, &[int(0x02, 0), int(0x02, 2), at]);
        let op = ops::search(PEOPLE, ops::ONE, filter, &["uid"]);
        let mut messages = client.call(&with_controls(&op, &[sorting(), (VLV, true, Some(value))]));
        let code = messages.pop().expect("a result").code();
        if code == BUSY {
            return false;
        }
        assert_eq!(code, 0);
        let found: Vec<String> = messages.iter().map(|entry| entry.values("uid").remove(0)).collect();
        assert_eq!(Some(&*found), expected);
    }
    true
}

#[test]
fn sorted_pages_and_virtual_lists_of_many_clients_do_not_mix() {
    let slapd = sorting_slapd();
    let usherd = Setup::corp("isolated_max = 8", &[server(&slapd.url(), "")]).start();
    let clients: Vec<_> = (1..=8)
        .map(|n| {
            let target = usherd.plain(0);
            thread::spawn(move || {
                let (name, password, filter) = (user(n), password(n), beginning(&format!("{}", 30 + n)));
                let done = (0..20).any(|_| {
                    let mut client = Client::bound(&target, &name, &password);
                    sorts(&mut client, (&name, &password), &filter)
                });
                assert!(done, "always busy");
            })
        })
        .collect();
    for client in clients {
        client.join().expect("its list");
    }
    usherd.stop();
}
