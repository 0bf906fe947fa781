//! Writes to the local directory: the same answers as slapd gives, the programs people write with, and the file that changes
//! go back to.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::local::{normalised, served};
use crate::ops::{self, ADD, DELETE, REPLACE, present};
use crate::proc::{Folder, free_port, run, run_reading, setting, shown, wait_for};
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd};

pub(crate) const ADMIN: (&str, &str) = ("cn=admin,dc=example,dc=com", "admin-password");

/// A file of so many people, their unit and an administrator.
pub(crate) fn people(count: usize) -> String {
    let mut text = format!(
        "# ours\n\ndn: {BASE}\nobjectClass: organization\nobjectClass: dcObject\no: Example\ndc: example\n\n\
         dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: {}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: admin\nuserPassword: {}\n",
        ADMIN.0, ADMIN.1
    );
    for number in 0..count {
        let _ = write!(
            text,
            "\ndn: uid=user{number},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: user{number}\ncn: User {number}\nsn: U\n\
             userPassword: password-{number}\n"
        );
    }
    text
}

/// A small directory that can be written to, on a port that stays; `settings` are more of the file's.
pub(crate) fn writable(people: usize, settings: &str) -> (Usherd, u16) {
    let setup = Setup::new();
    setup.folder.write("people.ldif", self::people(people));
    let directory = format!(
        "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\n\
         server = [{{ ldif = \"people.ldif\", writable = true, admins = [\"{}\"]{settings} }}]\n",
        ADMIN.0
    );
    let port = free_port();
    let usherd = setup
        .section(&directory)
        .listen("ldap", &format!("127.0.0.1:{port}"), "directory = \"corp\"")
        .start();
    (usherd, port)
}

pub(crate) fn admin(port: u16) -> Client {
    Client::bound(&Target::plain(port), ADMIN.0, ADMIN.1)
}

pub(crate) fn person(name: &str) -> (String, Vec<u8>) {
    let dn = format!("uid={name},{PEOPLE}");
    let op = ops::add(
        &dn,
        &[
            ("objectClass", &["inetOrgPerson"]),
            ("uid", &[name]),
            ("cn", &[name]),
            ("sn", &["S"]),
        ],
    );
    (dn, op)
}

fn unit(dn: &str, ou: &str) -> Vec<u8> {
    ops::add(dn, &[("objectClass", &["organizationalUnit"]), ("ou", &[ou])])
}

/// In this order: each works on what the ones before it left.
fn writes() -> Vec<(&'static str, Vec<u8>)> {
    [additions(), changes(), moves()].concat()
}

fn additions() -> Vec<(&'static str, Vec<u8>)> {
    let made = format!("uid=made,ou=scratch,{BASE}");
    let entry: &[(&str, &[&str])] = &[
        ("objectClass", &["inetOrgPerson"]),
        ("uid", &["made"]),
        ("cn", &["Made"]),
        ("sn", &["By", "Test"]),
    ];
    let with = |more: (&'static str, &'static [&'static str])| {
        let mut all = entry.to_vec();
        all.push(more);
        ops::add(&made, &all)
    };
    vec![
        ("an undefined type", with(("nosuchattribute", &["x"]))),
        ("a value against its syntax", with(("uidNumber", &["many"]))),
        ("two values of one", with(("employeeNumber", &["1", "2"]))),
        ("a value twice", with(("description", &["a", "A"]))),
        (
            "an attribute of the server's",
            with(("entryUUID", &["597ae2f6-16a6-1027-98f4-d28b5365dc14"])),
        ),
        ("an unknown class", with(("objectClass", &["nosuchclass"]))),
        ("no class", ops::add(&made, &[("uid", &["made"])])),
        (
            "no structural class",
            ops::add(&made, &[("objectClass", &["uidObject"]), ("uid", &["made"])]),
        ),
        ("another name", ops::add(&format!("uid=other,ou=scratch,{BASE}"), entry)),
        ("a name that is none", ops::add("nonsense", entry)),
        ("elsewhere", unit("ou=x,dc=example,dc=org", "x")),
        ("below nothing", unit(&format!("ou=x,ou=y,ou=scratch,{BASE}"), "x")),
        ("add", ops::add(&made, entry)),
        ("add again", ops::add(&made, entry)),
        ("in other letters", ops::add(&made.to_uppercase(), entry)),
        ("below a leaf", unit(&format!("ou=x,{made}"), "x")),
        (
            "a comma in its name",
            unit(&format!("ou=a\\2Cb , ou=scratch,{BASE}"), "a,b"),
        ),
    ]
}

fn changes() -> Vec<(&'static str, Vec<u8>)> {
    let made = format!("uid=made,ou=scratch,{BASE}");
    let modify = |changes: &[(i64, &str, &[&str])]| ops::modify(&made, changes);
    vec![
        (
            "modify",
            modify(&[(ADD, "mail", &["m@example.com"]), (DELETE, "sn", &["By"])]),
        ),
        ("a value that is there", modify(&[(ADD, "mail", &["M@EXAMPLE.com"])])),
        (
            "a value that is not there",
            modify(&[(DELETE, "mail", &["x@example.com"])]),
        ),
        ("an attribute that is not there", modify(&[(DELETE, "title", &[])])),
        ("the naming value", modify(&[(DELETE, "uid", &["made"])])),
        ("the naming value replaced", modify(&[(REPLACE, "uid", &["other"])])),
        ("no class left", modify(&[(DELETE, "objectClass", &[])])),
        (
            "another structural class",
            modify(&[(REPLACE, "objectClass", &["account"])]),
        ),
        ("an undefined type", modify(&[(REPLACE, "nosuchattribute", &["x"])])),
        (
            "syntax",
            modify(&[(ADD, "objectClass", &["posixAccount"]), (ADD, "uidNumber", &["many"])]),
        ),
        ("one value too many", modify(&[(ADD, "employeeNumber", &["1", "2"])])),
        (
            "the server's",
            modify(&[(REPLACE, "modifyTimestamp", &["20200101000000Z"])]),
        ),
        ("nothing to add", modify(&[(ADD, "title", &[])])),
        ("replace by nothing", modify(&[(REPLACE, "title", &[])])),
        (
            "all or nothing",
            modify(&[(REPLACE, "title", &["x"]), (DELETE, "mail", &["nobody@example.com"])]),
        ),
        (
            "delete all values",
            modify(&[(ADD, "l", &["a", "b"]), (DELETE, "l", &[])]),
        ),
        (
            "increment",
            modify(&[(REPLACE, "employeeNumber", &["x"]), (3, "employeeNumber", &["1"])]),
        ),
        (
            "not there",
            ops::modify(&format!("uid=no,{made}"), &[(REPLACE, "title", &["x"])]),
        ),
        (
            "with options",
            modify(&[
                (ADD, "description;lang-de", &["hallo"]),
                (ADD, "description", &["hello"]),
            ]),
        ),
        ("read it back", ops::search(&made, ops::BASE, &present("uid"), &["*"])),
    ]
}

fn moves() -> Vec<(&'static str, Vec<u8>)> {
    let scratch = format!("ou=scratch,{BASE}");
    let (made, renamed) = (format!("uid=made,{scratch}"), format!("uid=renamed,{scratch}"));
    let (box_, wood) = (format!("ou=box,{scratch}"), format!("ou=wood,{scratch}"));
    vec![
        (
            "a container",
            ops::add(&box_, &[("objectClass", &["organizationalUnit"]), ("ou", &["box"])]),
        ),
        ("an RDN that is none", ops::rename(&made, "nonsense", true, None)),
        (
            "an RDN of an undefined type",
            ops::rename(&made, "nosuchattribute=x", true, None),
        ),
        ("rename", ops::rename(&made, "uid=renamed", true, None)),
        ("rename what is gone", ops::rename(&made, "uid=renamed", true, None)),
        ("keep the old value", ops::rename(&renamed, "cn=Kept", false, None)),
        (
            "two in one name",
            ops::rename(&format!("cn=Kept,{scratch}"), "uid=both+title=Test", true, None),
        ),
        (
            "and back",
            ops::rename(&format!("title=Test+uid=both,{scratch}"), "uid=renamed", true, None),
        ),
        ("to what exists", ops::rename(&renamed, "ou=box", false, None)),
        (
            "below what is not there",
            ops::rename(&renamed, "uid=renamed", true, Some(&format!("ou=no,{BASE}"))),
        ),
        ("below itself", ops::rename(&scratch, "ou=scratch", true, Some(&box_))),
        ("move", ops::rename(&renamed, "uid=renamed", true, Some(&box_))),
        (
            "read it there",
            ops::search(&box_, ops::SUB, &present("objectClass"), &["*"]),
        ),
        ("a tree", unit(&format!("ou=tree,{scratch}"), "tree")),
        ("a leaf", unit(&format!("ou=leaf,ou=tree,{scratch}"), "leaf")),
        (
            "rename a subtree",
            ops::rename(&format!("ou=tree,{scratch}"), "ou=wood", true, None),
        ),
        (
            "read that",
            ops::search(&wood, ops::SUB, &present("objectClass"), &["*"]),
        ),
        ("what has children", ops::delete(&wood)),
        ("delete", ops::delete(&format!("ou=leaf,{wood}"))),
        ("delete again", ops::delete(&format!("ou=leaf,{wood}"))),
        ("now that it is empty", ops::delete(&wood)),
        ("a password", ops::password_modify(Some(&user(40)), None, Some("first"))),
        (
            "with a wrong old one",
            ops::password_modify(Some(&user(40)), Some("wrong"), Some("second")),
        ),
        (
            "nobody's",
            ops::password_modify(Some(&format!("uid=no,{PEOPLE}")), None, Some("x")),
        ),
    ]
}

#[test]
fn writes_are_answered_as_slapd_answers_them() {
    let slapd = Slapd::start();
    let usherd = served(&format!(", writable = true, admins = [\"{}\"]", EDITOR.0));
    let mut differences = Vec::new();
    for (who, cases) in [
        (EDITOR, writes()),
        (("", ""), vec![("anonymously", ops::delete(&user(1)))]),
    ] {
        let (mut direct, mut client) = (Client::connect(&slapd.plain()), Client::connect(&usherd.plain(0)));
        if !who.0.is_empty() {
            direct.bind(who.0, who.1);
            client.bind(who.0, who.1);
        }
        for (name, op) in cases {
            let (wanted, got) = (normalised(&direct.call(&op)), normalised(&client.call(&op)));
            if wanted != got {
                differences.push(format!("{name}\n  slapd:  {wanted:?}\n  usherd: {got:?}"));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    let mut own = Client::bound(&usherd.plain(0), &user(21), &password(21));
    let codes = [
        ops::modify(&user(21), &[(REPLACE, "title", &["x"])]),
        ops::modify(&user(22), &[(REPLACE, "title", &["x"])]),
        ops::delete(&user(22)),
        ops::password_modify(Some(&user(22)), None, Some("x")),
        ops::password_modify(None, Some("wrong"), Some("x")),
        ops::password_modify(None, Some(&password(21)), Some("changed")),
    ]
    .map(|op| own.one(&op).code());
    assert_eq!(codes, [50, 50, 50, 50, 53, 0]);
    Client::bound(&usherd.plain(0), &user(21), "changed");
    usherd.stop();
}

/// A tool of ldap-utils as the administrator, with something on its standard input.
fn tool(name: &str, port: u16, args: &[&str], input: &str) -> Output {
    let url = format!("ldap://127.0.0.1:{port}");
    let bind = ["-x", "-H", &url, "-D", ADMIN.0, "-w", ADMIN.1];
    let path = format!("/usr/bin/{name}");
    let words = [&bind[..], args].concat();
    let folder = Folder::new("input");
    let input = folder.write("input", input);
    run_reading(&path, &words, &[], Path::new(&input), Duration::from_secs(30))
}

#[test]
fn the_programs_that_people_write_with_work() {
    let (usherd, port) = writable(2, "");
    let eve = format!("uid=eve,{PEOPLE}");
    let entry = format!("dn: {eve}\nobjectClass: inetOrgPerson\nuid: eve\ncn: Eve\nsn: E\n");
    let change = format!("dn: {eve}\nchangetype: modify\nadd: mail\nmail: eve@example.com\n-\nreplace: sn\nsn: Eden\n");
    for (name, args, input, code) in [
        ("ldapadd", vec![], entry.as_str(), 0),
        ("ldapadd", vec![], &entry, 68),
        ("ldapmodify", vec![], &change, 0),
        ("ldapmodrdn", vec!["-r", &eve, "uid=lilith"], "", 0),
        ("ldapdelete", vec![&eve], "", 32),
        (
            "ldappasswd",
            vec!["-s", "apple", "uid=lilith,ou=people,dc=example,dc=com"],
            "",
            0,
        ),
    ] {
        let output = tool(name, port, &args, input);
        assert_eq!(output.status.code(), Some(code), "{name}: {}", shown(&output));
    }
    let lilith = format!("uid=lilith,{PEOPLE}");
    let mut client = Client::bound(&Target::plain(port), &lilith, "apple");
    let found = client.call(&ops::search(
        &lilith,
        ops::BASE,
        &present("uid"),
        &["*", "modifiersName"],
    ));
    assert_eq!(
        (found[0].values("sn"), found[0].values("uid")),
        (vec!["Eden".into()], vec!["lilith".into()])
    );
    assert_eq!(found[0].values("modifiersName"), [ADMIN.0]);
    let made = tool("ldappasswd", port, &[&lilith], "");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let password = said
        .trim()
        .strip_prefix("New password: ")
        .unwrap_or_else(|| panic!("{}", shown(&made)));
    Client::bound(&Target::plain(port), &lilith, password);
    assert_eq!(tool("ldapdelete", port, &[&lilith], "").status.code(), Some(0));
    usherd.stop();
}

#[test]
fn two_workers_write_at_once_and_nothing_is_lost() {
    const EACH: usize = 150;
    let (usherd, port) = writable(1, "");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                let mut client = admin(port);
                for number in 0..EACH {
                    let (_, op) = person(&format!("w{writer}-{number}"));
                    assert_eq!(client.one(&op).code(), 0);
                    let change = [(ADD, "description", [format!("{writer}-{number}")])];
                    let values: Vec<&str> = change[0].2.iter().map(String::as_str).collect();
                    let op = ops::modify(&format!("uid=user0,{PEOPLE}"), &[(ADD, "description", &values)]);
                    assert_eq!(client.one(&op).code(), 0);
                }
            });
        }
    });
    let mut client = admin(port);
    let all = client.call(&ops::search(
        PEOPLE,
        ops::ONE,
        &present("uid"),
        &["entryCSN", "entryUUID", "description"],
    ));
    let everybody = &all[..all.len() - 1];
    assert_eq!(all.len(), 4 * EACH + 2, "everybody, user0 and the end");
    for attribute in ["entryCSN", "entryUUID"] {
        let different: std::collections::HashSet<String> = everybody.iter().flat_map(|e| e.values(attribute)).collect();
        assert_eq!(different.len(), 4 * EACH + 1);
    }
    let descriptions: usize = everybody.iter().map(|entry| entry.values("description").len()).sum();
    assert_eq!(descriptions, 4 * EACH);
    usherd.stop();
}

fn file(usherd: &Usherd, name: &str) -> PathBuf {
    usherd.folder.path().join(name)
}

fn unsaved(usherd: &Usherd) -> u64 {
    usherd.status()["local"][0]["unsaved"].as_u64().expect("a number")
}

#[test]
fn changes_go_back_to_the_file_and_survive_a_kill_at_any_moment() {
    let (mut usherd, port) = writable(50, ", write_back = true");
    let mut made = Vec::new();
    let mut number = 0;
    for round in 0..setting("USHERD_TEST_KILLS", 6) as u64 {
        let mut client = admin(port);
        let start = Instant::now();
        // Different moments: within the time of gathering, while it writes, after it.
        let until = Duration::from_millis(37 * (round + 1) % 400 + 60);
        let mut acknowledged = made.len();
        while start.elapsed() < until {
            let name = format!("n{number}");
            number += 1;
            let (dn, op) = person(&name);
            assert_eq!(client.one(&op).code(), 0);
            made.push(dn);
            if made.len() % 20 == 0 && unsaved(&usherd) == 0 {
                acknowledged = made.len();
            }
        }
        usherd.restart();
        let mut client = admin(port);
        let found = client.call(&ops::search(PEOPLE, ops::ONE, &present("uid"), &["1.1"]));
        // The file was the old or the new one: a prefix of what was done, with all that was said to be in it.
        let there = found.len() - 1 - 50;
        assert!(
            (acknowledged..=made.len()).contains(&there),
            "{there} of {acknowledged} to {}",
            made.len()
        );
        made.truncate(there);
        for dn in made.iter().rev().take(3) {
            assert_eq!(client.one(&ops::compare(dn, "sn", "S")).code(), 6, "{dn}");
        }
    }
    // An end in order leaves nothing out.
    let (dn, op) = person("last");
    assert_eq!(admin(port).one(&op).code(), 0);
    usherd.terminate();
    assert_eq!(usherd.process.wait(Duration::from_secs(10)).code(), Some(0));
    let text = std::fs::read_to_string(file(&usherd, "people.ldif")).expect("a file");
    assert!(text.starts_with("# ours\n\n# usherd: newest="), "{}", &text[..80]);
    assert!(text.contains(&format!("\ndn: {dn}\n")) && text.contains(" clean=yes "));
    assert!(text.contains("\nuserPassword: password-7\n"));
}

#[test]
fn a_file_that_a_person_has_changed_is_not_overwritten() {
    let (usherd, port) = writable(3, ", write_back = true");
    let mut client = admin(port);
    assert_eq!(client.one(&person("first").1).code(), 0);
    usherd.until("it is written", |status| {
        status["local"][0]["unsaved"] == 0 && status["local"][0]["writes"] == 1
    });
    let path = file(&usherd, "people.ldif");
    let mine = std::fs::read_to_string(&path).expect("a file")
        + "\ndn: ou=mine,dc=example,dc=com\nobjectClass: organizationalUnit\nou: mine\n";
    std::fs::write(&path, &mine).expect("a file");
    assert_eq!(client.one(&person("second").1).code(), 0);
    usherd.until("it is noticed", |status| {
        status["local"][0]["failures"].as_u64() > Some(0)
    });
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), mine);
    wait_for("it is said", Duration::from_secs(5), || {
        let said = usherd.process.output();
        said.contains("somebody else has changed the file").then_some(())
    });
    let kept = wait_for("what is in memory is kept", Duration::from_secs(5), || {
        std::fs::read_to_string(file(&usherd, "people.ldif.unsaved")).ok()
    });
    assert!(kept.contains("\ndn: uid=second,"));
    // A reload takes what the person wrote; it can be written to, and written back, as before.
    let reloaded = usherd.command(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", shown(&reloaded));
    let mut client = admin(port);
    let exists = |client: &mut Client, dn: &str| client.one(&ops::compare(dn, "objectClass", "top")).code();
    assert_eq!(exists(&mut client, &format!("ou=mine,{BASE}")), 6);
    assert_eq!(exists(&mut client, &format!("uid=second,{PEOPLE}")), 32);
    assert_eq!(client.one(&person("third").1).code(), 0);
    usherd.until("it is written", |status| {
        status["local"][0]["unsaved"] == 0 && status["local"][0]["writes"] == 1
    });
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains("\ndn: ou=mine,") && text.contains("\ndn: uid=third,"));
    usherd.stop();
}

#[test]
fn a_reload_after_our_own_writes_changes_nothing() {
    let (usherd, port) = writable(3, ", write_back = true");
    let mut client = admin(port);
    for round in 0..3 {
        assert_eq!(client.one(&person(&format!("r{round}")).1).code(), 0);
        if round < 2 {
            usherd.until("it is written", |status| status["local"][0]["unsaved"] == 0);
        }
        let reloaded = usherd.command(&["reload"]);
        assert_eq!(reloaded.status.code(), Some(0), "{}", shown(&reloaded));
        assert_eq!(
            client
                .one(&ops::compare(&format!("uid=r{round},{PEOPLE}"), "sn", "S"))
                .code(),
            6
        );
    }
    usherd.until("it is written", |status| status["local"][0]["unsaved"] == 0);
    usherd.stop();
}

#[test]
fn settings_of_writing_that_make_no_sense_are_said_with_their_place() {
    let setup = Setup::new();
    setup
        .folder
        .write("people.ldif", format!("dn: {BASE}\nobjectClass: domain\ndc: example\n"));
    let check = |server: &str| {
        let text = format!(
            "[server]\ncontrol = \"control\"\n[directory.corp]\nbase = \"{BASE}\"\nserver = [{{ {server} }}]\n\
             [[listen]]\naddress = \"ldap://127.0.0.1:0\"\ndirectory = \"corp\"\n"
        );
        let file = setup.folder.write("usherd.toml", text);
        shown(&run(
            crate::usherd::BINARY,
            &["check", "-c", &file],
            Duration::from_secs(20),
        ))
    };
    for (server, expected) in [
        (
            "ldif = \"people.ldif\", admins = [\"cn=x\"]",
            "`admins` is for a local directory that is written to",
        ),
        (
            "ldif = \"people.ldif\", writable = true, admins = [\"boss\"]",
            "`admins` is a list of distinguished names",
        ),
        (
            "url = \"ldap://127.0.0.1\", writable = true",
            "`writable` is for a local directory",
        ),
    ] {
        let said = check(server);
        assert!(said.contains(expected), "{said}");
    }
}
