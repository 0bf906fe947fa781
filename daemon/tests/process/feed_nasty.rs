//! What is nasty in a directory, against slapd: odd names and values, names that change hands while nobody looks, cookies
//! that are wrong, a filter that hides. `usherd feed verify` and the sink both have to have the directory in the end.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::Value;

use crate::feed::{Feed, change, deleted, held, told_to_be};
use crate::proc::run;
use crate::slapd::{BASE, PEOPLE, Slapd, password, user};
use crate::usherd::BINARY;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

fn assert_verified(feed: &Feed) {
    let output = run(BINARY, &["feed", "verify", "--state", &feed.state()], LIMIT);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn assert_same(feed: &Feed, slapd: &Slapd) {
    assert_verified(feed);
    assert_eq!(told_to_be(&feed.events()), held(slapd));
}

fn unit(name: &str, below: &str) -> String {
    format!("dn: ou={name},{below}\nchangetype: add\nobjectClass: organizationalUnit\nou: {name}\n\n")
}

fn renamed(from: &str, to: &str, below: &str) -> String {
    format!("dn: {from}\nchangetype: modrdn\nnewrdn: {to}\ndeleteoldrdn: 1\nnewsuperior: {below}\n\n")
}

/// Once this unit, made last, is told, everything before it is.
fn told_all(feed: &Feed, slapd: &Slapd, name: &str) {
    change(slapd, &unit(name, BASE));
    feed.told("add", &format!("ou={name},{BASE}"));
}

/// The attributes that an RDN names, as LDIF.
fn values(rdn: &str) -> String {
    let one = |part: &str| {
        let (name, value) = part.split_once('=').expect("an RDN");
        let value = value.replace("\\2C", ",").replace("\\20", " ").replace('\\', "");
        format!("{name}:: {}\n", STANDARD.encode(value))
    };
    match rdn.split_once("+d") {
        Some((first, second)) => one(first) + &one(&format!("d{second}")),
        None => one(rdn),
    }
}

#[test]
fn large_and_odd_values_and_names_arrive_as_they_are() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    let photo: Vec<u8> = (0..10_u32 << 20).map(|place| (place % 251).to_le_bytes()[0]).collect();
    let mut text = format!(
        "dn: cn=large,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: large\nsn: x\njpegPhoto:: {}\n\n",
        STANDARD.encode(&photo)
    );
    let _ = writeln!(
        text,
        "dn: cn=many,{BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: many\ndescription: 20,000 of them"
    );
    (0..20_000).for_each(|number| _ = writeln!(text, "member: cn=m{number},{BASE}"));
    let _ = write!(
        text,
        "\ndn: cn=odd,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: labeledURIObject\ncn: odd\nsn: x\n\
         title;lang-de: Leiter\ntitle: Head\njpegPhoto:: AGEAYg==\naudio:\n\n"
    );
    let names = [
        "ou=a\\,b",
        "ou=c\\2Cd",
        "ou=\\20e\\20",
        "ou=\\#f",
        "ou=f#g",
        "ou=Übel\\+x",
        "ou=two+description=rdns",
    ];
    for name in names {
        // slapd wants the values of the RDN among the attributes; this one is for all of them.
        let _ = write!(
            text,
            "dn:: {}\nchangetype: add\nobjectClass: organizationalUnit\nobjectClass: extensibleObject\n{}\n",
            STANDARD.encode(format!("{name},{BASE}")),
            values(name)
        );
    }
    change(&slapd, &text);
    told_all(&feed, &slapd, "last");
    let events = feed.events();
    let about = |cn: &str| {
        let dn = format!("cn={cn},{BASE}");
        events.iter().find(|event| event["dn"] == dn.as_str()).expect(cn)["attributes"].clone()
    };
    let large = about("large")["jpegPhoto"][0]["base64"]
        .as_str()
        .map(|text| STANDARD.decode(text));
    assert_eq!(large, Some(Ok(photo)), "ten megabytes, octet for octet");
    assert_eq!(about("many")["member"].as_array().map(Vec::len), Some(20_000));
    let odd = about("odd");
    assert_eq!(
        (&odd["title;lang-de"][0], &odd["title"][0]),
        (&"Leiter".into(), &"Head".into())
    );
    // A zero octet is text to Unicode, and to JSON.
    let nul = odd["jpegPhoto"][0].as_str().map(str::as_bytes);
    assert!(
        nul == Some(b"\0a\0b") || odd["jpegPhoto"][0]["base64"] == "AGEAYg==",
        "{odd}"
    );
    assert_eq!(odd["audio"][0], "", "an empty value is a value");
    let referral = format!("ou=elsewhere,{BASE}");
    let found = events.iter().find(|event| event["dn"] == referral.as_str());
    assert!(found.is_some(), "a referral object is an entry");
    let odd_names = events
        .iter()
        .rev()
        .take(names.len() + 1)
        .filter(|event| event["op"] == "add");
    assert_eq!(odd_names.count(), names.len() + 1);
    // The other reader of names takes LDIF without base64.
    assert_verified(&feed);
    change(
        &slapd,
        &format!("dn: cn=odd,{BASE}\nchangetype: modify\ndelete: title;lang-de\n\n"),
    );
    let event = feed.told("modify", &format!("cn=odd,{BASE}"));
    assert_eq!(event["changed"], serde_json::json!(["title;lang-de"]));
    feed.stop();
}

#[test]
fn names_that_change_hands_while_nobody_looks_are_told_apart() {
    let slapd = Slapd::without_session_log();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    let (a, b) = (format!("ou=a,{BASE}"), format!("ou=b,{BASE}"));
    let below = unit("of-a", &a) + &unit("of-b", &b);
    change(&slapd, &(unit("a", BASE) + &unit("b", BASE) + &below));
    told_all(&feed, &slapd, "before");
    feed.stop();

    let rename = |from: &str, to: &str| renamed(&format!("uid={from},{PEOPLE}"), &format!("uid={to}"), PEOPLE);
    let round =
        rename("user1", "spare") + &rename("user2", "user1") + &rename("user3", "user2") + &rename("spare", "user3");
    let spare = format!("ou=spare,{BASE}");
    let swap = renamed(&a, "ou=spare", BASE) + &renamed(&b, "ou=a", BASE) + &renamed(&spare, "ou=b", BASE);
    let again = format!(
        "dn: {}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: user9\nuserPassword: x\n\n",
        user(9)
    );
    let there_and_back =
        renamed(&user(20), "uid=user20", &a) + &renamed(&format!("uid=user20,{a}"), "uid=user20", PEOPLE);
    change(&slapd, &[round, swap, deleted(9), again, there_and_back].concat());
    let before = feed.events().len();
    feed.start();
    feed.complete(2);
    told_all(&feed, &slapd, "after");
    let told = feed.events().split_off(before);
    let ops = |dn: &str| -> Vec<String> {
        let about = told.iter().filter(|event| event["dn"] == dn);
        let mut ops: Vec<String> = about
            .map(|event| event["op"].as_str().unwrap_or_default().to_owned())
            .collect();
        ops.sort();
        ops
    };
    for number in 1..=3 {
        assert_eq!(ops(&user(number)), ["move"], "user{number} has another entry's name");
    }
    assert_eq!(ops(&user(9)), ["add", "delete"], "another entry under the same name");
    assert_eq!(ops(&user(20)), Vec::<String>::new(), "it went and came back");
    assert_eq!(
        (ops(&format!("ou=of-a,{b}")), ops(&format!("ou=of-b,{a}"))),
        (vec!["move".into()], vec!["move".into()])
    );
    assert_same(&feed, &slapd);
    feed.stop();
}

/// Writes another cookie of the same length into the state of a feed that does not run.
fn forge(feed: &Feed, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let store = Connection::open(Path::new(&feed.state()).join("feed.db")).expect("it is SQLite's");
    let facts = "SELECT value FROM meta WHERE key = 'facts'";
    let mut value: Vec<u8> = store.query_row(facts, [], |row| row.get(0)).expect("facts");
    let at = value
        .windows(from.len())
        .position(|part| part == from)
        .expect("the cookie is in it");
    value[at..at + to.len()].copy_from_slice(to);
    store
        .execute("UPDATE meta SET value = ? WHERE key = 'facts'", [value])
        .expect("it is written");
}

#[test]
fn a_cookie_that_is_rubbish_costs_a_comparison_and_nothing_else() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    feed.stop();
    forge(&feed, b"csn=", b"\x01\x02\x03\x04");
    change(&slapd, &deleted(2));
    let before = feed.events().len();
    feed.start();
    feed.told("delete", &user(2));
    feed.complete(2);
    let told: Vec<Value> = feed.events().split_off(before);
    let ops: Vec<&str> = told.iter().filter_map(|event| event["op"].as_str()).collect();
    assert_eq!(ops, ["delete", "refresh-done"]);
    assert_same(&feed, &slapd);
    feed.stop();
}

#[test]
fn a_container_that_the_filter_leaves_out_takes_its_entries_along_with_the_next_audit() {
    let slapd = Slapd::start();
    let people = format!(
        "{}dn: cn=inside,ou=hidden,{PEOPLE}\nchangetype: add\nobjectClass: person\ncn: inside\nsn: x\n\n",
        unit("hidden", PEOPLE)
    );
    change(&slapd, &people);
    let mut feed = Feed::new(
        &[slapd.url()],
        &["--filter", "(objectClass=person)", "--audit-interval", "1s"],
    );
    feed.complete(1);
    change(&slapd, &renamed(&format!("ou=hidden,{PEOPLE}"), "ou=seen", PEOPLE));
    feed.told("move", &format!("cn=inside,ou=seen,{PEOPLE}"));
    feed.stop();
}

#[test]
fn who_may_see_less_is_told_that_it_is_gone_and_who_may_see_it_again_that_it_is_there() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &["--attributes", "cn,ou,description"]);
    feed.complete(1);
    feed.stop();
    let of_secrets = |events: &[Value], op: &str| {
        let is = |event: &&Value| event["op"] == op && event["dn"].as_str().is_some_and(|dn| dn.contains("ou=secret,"));
        events.iter().filter(is).count()
    };
    let all = of_secrets(&feed.events(), "add");
    assert!(all > 0, "the fixture keeps something secret");
    let before = feed.events().len();
    // The server hides these from everybody else (its access rules), and the cookie knows nothing of that.
    let admin = std::mem::replace(&mut feed.bind, (user(7), password(7)));
    feed.start();
    feed.complete(2);
    feed.stop();
    assert_eq!(of_secrets(&feed.events().split_off(before), "delete"), all);
    let before = feed.events().len();
    feed.bind = admin;
    feed.start();
    feed.complete(3);
    assert_eq!(of_secrets(&feed.events().split_off(before), "add"), all);
    feed.stop();
}

#[test]
fn a_cookie_of_the_future_costs_a_comparison_and_nothing_else() {
    let slapd = Slapd::start();
    let mut feed = Feed::new(&[slapd.url()], &[]);
    feed.complete(1);
    feed.stop();
    forge(&feed, b"csn=20", b"csn=90");
    change(&slapd, &deleted(2));
    let before = feed.events().len();
    feed.start();
    feed.complete(2);
    feed.told("delete", &user(2));
    let told: Vec<Value> = feed.events().split_off(before);
    let ops: Vec<&str> = told.iter().filter_map(|event| event["op"].as_str()).collect();
    assert_eq!(ops.len(), 2, "one delete and the end of the refresh: {ops:?}");
    assert_same(&feed, &slapd);
    feed.stop();
}
