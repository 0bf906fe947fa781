//! Nobody is ever more than who they are: clients x what they did before x controls x listeners x servers.
//!
//! Who a client must be is told by a model that knows nothing but what the client did (`identity_model.rs`). As whom an
//! operation ran is told by the server: a recorder (`recorder.rs`), which says it for a server that obeys the first of several
//! proxied authorization controls and for one that obeys the last; and slapd, by what it lets be read and by `modifiersName`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ber::{seq, text};
use crate::client::{Client, Message, Target};
use crate::identity_model::{Actor, Door, Event, ODD, REAL, USER1, additions, fits, histories, house};
use crate::ops::{self, present};
use crate::recorder::{Recorder, Seen, authzid, entry};
use crate::slapd::{BASE, EDITOR, USHERD, user};

/// A second history of the same kind for every operation, where one bind serves for one operation only.
fn is_used_up(history: &[Event]) -> bool {
    matches!(history.last(), Some(Event::Slow(..)))
}

/// What a server must have seen of an operation: nothing, or once, so.
#[derive(Debug)]
struct Due {
    story: String,
    seen: Option<Seen>,
}

/// Operations of every kind about an entry; the last two would change whose a connection is.
fn operation(kind: usize, token: u64) -> (Vec<u8>, u8, bool) {
    let dn = entry(token);
    match kind % 6 {
        0 => (
            ops::search(&dn, ops::BASE, &present("cn"), &[]),
            ops::SEARCH_DONE,
            false,
        ),
        1 => (ops::modify(&dn, &[(ops::REPLACE, "title", &["x"])]), 0x67, false),
        2 => (ops::compare(&dn, "cn", "x"), 0x6F, false),
        3 => (
            ops::password_modify(Some(&dn), None, Some("x")),
            ops::EXTENDED_RESPONSE,
            false,
        ),
        4 => {
            let value = seq(0x30, &[text(&dn)]);
            (
                ops::extended("1.3.6.1.1.19", Some(&value)),
                ops::EXTENDED_RESPONSE,
                true,
            )
        }
        _ => {
            let op = ops::extended("1.2.840.113556.1.4.1781", Some(dn.as_bytes()));
            (op, ops::EXTENDED_RESPONSE, true)
        }
    }
}

/// Everything that one account does at one door.
fn run(door: &Door, me: usize, pinned: bool, tokens: &AtomicU64, due: &Mutex<HashMap<u64, Due>>) {
    for (at, history) in histories(me, false)
        .iter()
        .enumerate()
        .filter(|(_, history)| fits(history, door))
    {
        if pinned
            && history
                .iter()
                .any(|event| matches!(event, Event::WithProxied(_) | Event::WithRetain(_)))
        {
            continue;
        }
        let mut actor = Actor::with(door, ODD, pinned, history);
        for (number, addition) in additions(ODD, me).iter().enumerate() {
            if number > 0 && is_used_up(history) {
                actor = Actor::with(door, ODD, pinned, history);
            }
            let token = tokens.fetch_add(1, Ordering::Relaxed);
            let (op, tag, of_connection) = operation(at + number + me, token);
            let (half, own) = (actor.standing.half, actor.standing.own);
            let refused = match addition.refused {
                Some(code) if !(own && addition.own) => Some(code),
                _ if of_connection && !own => Some(53),
                _ => None,
            };
            let refused = if half { Some(1) } else { refused };
            let dn = actor.standing.who.strip_prefix("dn:").unwrap_or_default().to_owned();
            let seen = Seen {
                bound_as: if pinned { dn } else { USHERD.0.to_owned() },
                proxied: if pinned {
                    addition.claims()
                } else {
                    vec![actor.standing.who.clone()]
                },
                tag,
            };
            let story = format!(
                "{} at {} after {history:?} with {}",
                ODD[me].typed, door.name, addition.name
            );
            let entry = Due {
                story: story.clone(),
                seen: refused.is_none().then_some(seen),
            };
            due.lock().expect("no panic").insert(token, entry);
            let answer = actor.ask(&addition.to(&op));
            let code = answer.last().map(Message::code);
            assert_eq!(code, Some(refused.unwrap_or(0)), "{story}: {answer:?}");
        }
        if !actor.standing.half {
            assert_eq!(
                actor.client.whoami(),
                actor.standing.who,
                "{history:?} at {}",
                door.name
            );
        }
    }
}

/// Compares what a server saw with what it must have seen.
fn settle(recorder: &Recorder, due: &HashMap<u64, Due>, pinned: bool) {
    let mut found: HashMap<u64, Vec<Seen>> = HashMap::new();
    for (token, seen) in recorder.all() {
        // On a connection of the client's own it is the server that judges what its client claims.
        let agreed = seen.by_first() == seen.by_last();
        assert!(agreed || pinned, "two servers would not agree: {seen:?}");
        found.entry(token).or_default().push(seen);
    }
    let mut wrong = Vec::new();
    for (token, due) in due {
        let seen = found.remove(token).unwrap_or_default();
        if seen.iter().ne(due.seen.iter()) {
            wrong.push(format!("{}: {:?} instead of {:?}", due.story, seen, due.seen));
        }
    }
    assert!(found.is_empty(), "nobody asked that: {found:?}");
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    let ran = due.values().filter(|due| due.seen.is_some()).count();
    eprintln!("{} operations, {ran} ran, each as who asked", due.len());
}

fn everybody(lines: &str, pinned: bool) {
    let recorder = Recorder::start(ODD);
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let external = format!("dn:gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth");
    let house = house(lines, &recorder.url, &external);
    let (tokens, due) = (AtomicU64::new(1), Mutex::new(HashMap::new()));
    std::thread::scope(|scope| {
        for door in &house.doors {
            for me in 0..ODD.len() {
                let (tokens, due) = (&tokens, &due);
                scope.spawn(move || run(door, me, pinned, tokens, due));
            }
        }
    });
    let due = due.into_inner().expect("no panic");
    assert!(due.len() > 5_000, "too few to say anything: {}", due.len());
    settle(&recorder, &due, pinned);
    house.usherd.stop();
}

#[test]
fn on_shared_connections_everything_runs_as_who_asked_and_carries_one_identity() {
    everybody("", false);
}

#[test]
fn with_identity_pinned_everything_runs_on_a_connection_of_who_asked() {
    everybody("identity = \"pinned\"\npinned_max = 200", true);
}

/// What one account may do at slapd after each history, and what it is not let do by anything that it adds.
fn try_at_slapd(door: &Door, me: usize, pinned: bool, direct: &Target) {
    let mut direct = Client::connect(direct);
    let (mine, secret) = (REAL[me].is, format!("ou=secret,{BASE}"));
    let has_name = |event: &Event| !matches!(event, Event::Plain(of, _) if REAL[*of].sasl.is_empty());
    let histories = histories(me, true);
    for history in histories
        .iter()
        .filter(|history| fits(history, door) && history.iter().all(has_name))
    {
        let with_control = history.iter().any(|event| matches!(event, Event::WithProxied(_)));
        if pinned && with_control {
            continue;
        }
        let mut actor = Actor::with(door, REAL, pinned, history);
        let who = actor.standing.who.clone();
        for addition in additions(REAL, me) {
            let story = format!(
                "{} at {} after {history:?} with {}",
                REAL[me].typed, door.name, addition.name
            );
            let refused = addition.refused.filter(|_| !(actor.standing.own && addition.own));
            let plain = addition.controls.is_empty() && addition.refused.is_none();
            let mut tried = |op: &[u8], may: bool| {
                let answer = actor.ask(&addition.to(op));
                let code = answer.last().expect("a result").code();
                if let Some(expected) = refused {
                    assert_eq!((answer.len(), code), (1, expected), "{story}: {answer:?}");
                }
                let done = code == 0 && (op[0] != 0x63 || answer.len() > 1);
                assert!(may || !done, "{story}: {answer:?}");
                assert!(done || !(may && plain), "{story}: {answer:?}");
                done
            };
            tried(
                &ops::search(&secret, ops::BASE, &present("ou"), &[]),
                who == authzid(USER1),
            );
            let change = |dn: &str| ops::modify(dn, &[(ops::REPLACE, "description", &[&story])]);
            let editor = who == authzid(EDITOR.0);
            tried(&change(&user(3)), editor);
            if tried(&change(mine), editor || who == authzid(mine)) {
                let found = direct.call(&ops::search(mine, ops::BASE, &present("cn"), &["modifiersName"]));
                let by = found[0].values("modifiersName").remove(0);
                assert!(authzid(&by) == who || by == EDITOR.0, "{story}: changed by {by}");
            }
        }
        assert_eq!(actor.client.whoami(), who, "{history:?} at {}", door.name);
    }
}

fn at_slapd(lines: &str, pinned: bool) {
    let slapd = crate::sasl_ldap::slapd();
    let house = house(lines, &slapd.url(), &authzid(USER1));
    let direct = slapd.plain();
    std::thread::scope(|scope| {
        for door in &house.doors {
            for me in 0..REAL.len() {
                let direct = &direct;
                scope.spawn(move || try_at_slapd(door, me, pinned, direct));
            }
        }
    });
    house.usherd.stop();
}

#[test]
fn slapd_lets_nobody_do_what_is_another_s_to_do() {
    at_slapd("", false);
}

#[test]
fn slapd_lets_nobody_do_what_is_another_s_to_do_with_identity_pinned_either() {
    at_slapd("identity = \"pinned\"\npinned_max = 200", true);
}
