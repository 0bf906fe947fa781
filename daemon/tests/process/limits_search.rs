//! Searches of clients that bring more entries than they may, or take longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Message, PATIENCE};
use crate::fake;
use crate::ops::{self, Search, equal, present};
use crate::proc::wait_for;
use crate::recorder::scripted;
use crate::rules::page;
use crate::slapd::{PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

const TOO_LARGE: i64 = 4;
const TOO_LONG: i64 = 3;

/// Users 1 to `many`.
fn first(many: usize) -> Vec<u8> {
    let all: Vec<Vec<u8>> = (1..=many).map(|n| equal("uid", &format!("user{n}"))).collect();
    ops::or(&all)
}

/// How many entries a search has brought, and its result.
fn brought(messages: &[Message]) -> (usize, i64) {
    let done = messages.last().expect("a result");
    (messages.len() - 1, done.code())
}

fn find(client: &mut Client, many: usize) -> (usize, i64) {
    brought(&client.call(&ops::search(PEOPLE, ops::SUB, &first(many), &["uid"])))
}

fn limits_of(usherd: &Usherd, figure: &str) -> u64 {
    let status = usherd.status();
    let all = status["limits"].as_array().expect("limits").iter();
    all.map(|one| one[figure].as_u64().expect("a figure")).sum()
}

#[test]
fn a_search_brings_no_more_entries_than_it_may_and_whoever_is_excepted_gets_all() {
    let slapd = Slapd::start();
    let open = "directory = \"corp\"\n[listen.limits]\nsearch_entries_max = 5\n";
    let network = "[[listen.limits.override]]\nnetwork = \"127.0.0.0/8\"\nsearch_entries_max = 7\n";
    let name = format!(
        "[[listen.limits.override]]\ndn = \"{}\"\nsearch_entries_max = 0\n",
        user(2)
    );
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", &format!("{open}{name}"))
        .listen("ldap", "127.0.0.1:0", &format!("{open}{network}{name}"))
        .listen("ldap", "127.0.0.1:0", &format!("{open}exempt = [\"127.0.0.1\"]\n"))
        .start();
    let mut anonymous = Client::connect(&usherd.plain(0));
    assert_eq!(find(&mut anonymous, 4), (4, 0));
    assert_eq!(find(&mut anonymous, 5), (5, 0), "as many as it may are not too many");
    assert_eq!(find(&mut anonymous, 6), (5, TOO_LARGE));
    assert_eq!(find(&mut anonymous, 6), (5, TOO_LARGE), "the connection goes on");
    // The client's own limit is its server's, and what it says is not ours.
    let own = Search {
        size_limit: 3,
        ..Search::default()
    };
    assert_eq!(
        brought(&anonymous.call(&own.op(PEOPLE, ops::SUB, &first(6), &["uid"]))),
        (3, TOO_LARGE)
    );
    assert_eq!(limits_of(&usherd, "searches_too_large"), 2);
    // Who a client is counts, also when that changes.
    let mut named = Client::bound(&usherd.plain(0), &user(1), &password(1));
    assert_eq!(find(&mut named, 9), (5, TOO_LARGE));
    named.bind(&user(2), &password(2));
    assert_eq!(find(&mut named, 9), (9, 0));
    named.bind("", "");
    assert_eq!(find(&mut named, 9), (5, TOO_LARGE));
    // From where it comes, and the name before that.
    let mut near = Client::connect(&usherd.plain(1));
    assert_eq!(find(&mut near, 9), (7, TOO_LARGE));
    near.bind(&user(2), &password(2));
    assert_eq!(find(&mut near, 9), (9, 0));
    assert_eq!(find(&mut Client::connect(&usherd.plain(2)), 9), (9, 0));
    usherd.stop();
}

#[test]
fn pages_of_one_search_are_counted_together() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")])
        .listen(
            "ldap",
            "127.0.0.1:0",
            "directory = \"corp\"\n[listen.limits]\nsearch_entries_max = 5\n",
        )
        .start();
    let mut client = Client::connect(&usherd.plain(1));
    let filter = first(20);
    for _ in 0..2 {
        let mut cookie = Vec::new();
        let mut all = Vec::new();
        for _ in 0..3 {
            let (entries, code, next) = page(&mut client, 2, &cookie, &filter, &[]);
            all.push((entries.len(), code));
            cookie = next;
        }
        assert_eq!(all, [(2, 0), (2, 0), (1, TOO_LARGE)]);
    }
    // Two at once are two.
    let (_, _, one) = page(&mut client, 4, &[], &filter, &[]);
    let (found, code, next) = page(&mut client, 4, &one, &first(19), &[]);
    assert_eq!(
        (found.len(), code, next.len()),
        (1, TOO_LARGE, 0),
        "another filter does not begin anew"
    );
    let (found, code, next) = page(&mut client, 4, &[], &first(4), &[]);
    assert_eq!((found.len(), code, next.len()), (4, 0, 0));
    usherd.stop();
}

#[test]
fn what_is_too_large_or_takes_too_long_is_abandoned_at_its_server() {
    let abandons = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&abandons);
    // A search finds ten users and never ends.
    let url = scripted(String::new, move |who, id, tag, op, _| match tag {
        0x50 => {
            told.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        }
        0x63 if String::from_utf8_lossy(op).contains("user") => {
            (1..=10).flat_map(|n| fake::entry(id, &format!("user{n}"))).collect()
        }
        0x63 => fake::result(id, ops::SEARCH_DONE, 0, ""),
        _ => fake::answer(id, tag, op, who),
    });
    let listener = |limits: &str| format!("directory = \"corp\"\n[listen.limits]\n{limits}\n");
    let usherd = Setup::new()
        .directory("corp", "", &[server(&url, "")])
        .listen("ldap", "127.0.0.1:0", &listener("search_entries_max = 5"))
        .listen("ldap", "127.0.0.1:0", &listener("search_time_max = \"300ms\""))
        .start();
    let op = ops::search(&user(1), ops::BASE, &present("uid"), &["uid"]);
    let abandoned = |wanted: usize| {
        wait_for("it is abandoned", Duration::from_secs(5), || {
            (abandons.load(Ordering::Relaxed) == wanted).then_some(())
        });
    };
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(brought(&client.call(&op)), (5, TOO_LARGE));
    abandoned(1);
    let mut client = Client::connect(&usherd.plain(1));
    let asked = Instant::now();
    let id = client.send(&op);
    let messages = client.collect(id, PATIENCE).expect("a result");
    assert_eq!(brought(&messages), (10, TOO_LONG));
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(3),
        "{took:?}"
    );
    abandoned(2);
    let figures = ["searches_too_large", "searches_too_long"].map(|figure| limits_of(&usherd, figure));
    assert_eq!(figures, [1, 1]);
    usherd.stop();
}
