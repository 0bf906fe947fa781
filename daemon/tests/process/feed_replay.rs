//! `usherd feed replay --from`: somebody who has everything before a number has the directory again, and is told no more.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::feed::{Feed, change, deleted, described, held, told_to_be};
use crate::slapd::{BASE, Slapd, user};

fn replay(feed: &Feed, from: u64) -> Value {
    let (done, said) = feed.command(&["replay", "--from", &from.to_string()]);
    assert!(done, "{said}");
    serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Kind and name of everything from this number on, once there is so much of it.
fn told(feed: &Feed, from: u64, count: usize) -> BTreeSet<(String, String)> {
    let all = feed.until("the replay", |events| {
        let behind: Vec<Value> = events
            .iter()
            .filter(|event| event["seq"].as_u64() >= Some(from) && event["op"] != "refresh-done")
            .cloned()
            .collect();
        (behind.len() >= count).then_some(behind)
    });
    assert_eq!(all.len(), count, "{all:?}");
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|event| (text(event, "op"), text(event, "dn"))).collect()
}

fn pairs(all: &[(&str, String)]) -> BTreeSet<(String, String)> {
    all.iter().map(|(op, dn)| ((*op).to_owned(), dn.clone())).collect()
}

#[test]
fn what_changed_since_is_told_again_with_the_deletes_and_nothing_else() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    let unit =
        |name: &str| format!("dn: ou={name},{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: {name}\n\n");
    let below = "dn: ou=below,ou=a,dc=example,dc=com\nchangetype: add\nobjectClass: organizationalUnit\nou: below\n\n";
    change(&slapd, &(unit("a") + below));
    feed.told("add", &format!("ou=below,ou=a,{BASE}"));
    let last = feed.events().last().map(|event| event["seq"].as_u64());
    let since = last.flatten().expect("each has a number") + 1;
    let before = feed.events();

    let again = format!(
        "dn: {}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: user4\nuserPassword: x\n\n",
        user(4)
    );
    let renamed = format!("dn: ou=a,{BASE}\nchangetype: modrdn\nnewrdn: ou=b\ndeleteoldrdn: 1\n\n");
    let short_lived = unit("short") + &format!("dn: ou=short,{BASE}\nchangetype: delete\n\n");
    let text = [
        described(1, "changed"),
        deleted(2),
        deleted(4),
        again,
        renamed,
        short_lived,
        unit("last"),
    ];
    change(&slapd, &text.concat());
    feed.told("add", &format!("ou=last,{BASE}"));
    // What is known is in the state, not in memory.
    feed.stop();
    feed.start();
    feed.complete(2);

    let expected = pairs(&[
        ("delete", user(2)),
        ("delete", user(4)),
        ("delete", format!("ou=short,{BASE}")),
        ("add", user(1)),
        ("add", user(4)),
        ("add", format!("ou=b,{BASE}")),
        ("add", format!("ou=below,ou=b,{BASE}")),
        ("add", format!("ou=last,{BASE}")),
    ]);
    let answer = replay(&feed, since);
    let numbers = |answer: &Value| ["replayed", "deletes"].map(|key| answer[key].as_u64());
    assert_eq!(numbers(&answer), [Some(8), Some(3)], "{answer}");
    assert_eq!(answer.get("note"), None, "{answer}");
    let first = answer["first"].as_u64().expect("a number");
    assert_eq!(told(&feed, first, 8), expected);
    let of_replay = feed
        .events()
        .into_iter()
        .filter(|event| event["seq"].as_u64() >= Some(first));
    let caught_up: Vec<Value> = before.iter().cloned().chain(of_replay).collect();
    assert_eq!(
        told_to_be(&caught_up),
        held(&slapd),
        "whoever missed the changes has them"
    );

    // The replay is an event of these entries, too: from its first number on it is they that are told.
    let answer = replay(&feed, first);
    assert_eq!(numbers(&answer), [Some(8), Some(3)], "{answer}");
    assert_eq!(told(&feed, answer["first"].as_u64().expect("a number"), 8), expected);
    // A delete that was taken back is none.
    change(&slapd, &described(7, "changed"));
    let latest = feed.told("modify", &user(7))["seq"].as_u64().expect("a number");
    assert_eq!(numbers(&replay(&feed, latest)), [Some(1), Some(0)]);
    feed.stop();
}
