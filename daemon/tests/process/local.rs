//! The local directory beside slapd, both with the same LDIF: the same entries, the same results.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::{Client, Message};
use crate::ops::{self, Search, and, at_least, at_most, equal, extensible, not, or, pieces, present};
use crate::slapd::{BASE, PEOPLE, Slapd, ldif, password, user};
use crate::usherd::{Setup, Usherd};

fn local() -> Usherd {
    served("")
}

/// The same data, but for what only a server with access rules and referrals makes sense of; `settings` are more of the
/// file's.
pub(crate) fn served(settings: &str) -> Usherd {
    let keep = |block: &&str| !block.contains("ou=elsewhere") && !block.contains("ou=secret");
    let text: Vec<&str> = ldif().leak().split("\n\n").filter(keep).collect();
    let lines = |line: &&str| !line.starts_with("authzTo:");
    let text = text.join("\n\n").lines().filter(lines).collect::<Vec<_>>().join("\n") + "\n";
    let setup = Setup::new();
    setup.folder.write("people.ldif", text);
    let directory = format!(
        "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nserver = [{{ ldif = \"people.ldif\"{settings} }}]\n"
    );
    setup
        .section(&directory)
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .start()
}

/// A name for people, and a filter.
type Named = (&'static str, Vec<u8>);

/// Not here: approximate match, which slapd does by sound (every "userN" sounds alike) and the local directory as equality;
/// structuralObjectClass, which the local directory has only where the LDIF says it.
fn filters() -> Vec<Named> {
    [equalities(), pieces_and_orders(), combinations_and_rules()].concat()
}

fn equalities() -> Vec<Named> {
    let uid = |number: usize| equal("uid", &format!("user{number}"));
    vec![
        ("equality", uid(5)),
        ("equality in other letters", equal("UID", "USER5")),
        ("with blanks", equal("cn", "  User   77 ")),
        ("by OID", equal("0.9.2342.19200300.100.1.1", "user9")),
        ("by another name", equal("userid", "user9")),
        ("by supertype", equal("name", "User 12")),
        ("common name written out", equal("commonName", "User 13")),
        ("class", and(&[equal("objectClass", "inetorgperson"), uid(6)])),
        ("superior class", and(&[equal("objectClass", "person"), uid(6)])),
        ("another class", and(&[equal("objectClass", "device"), uid(6)])),
        ("presence", and(&[present("mail"), uid(8)])),
        (
            "absence",
            and(&[not(present("mail")), equal("objectClass", "posixGroup")]),
        ),
    ]
}

fn pieces_and_orders() -> Vec<Named> {
    let uid = |number: usize| equal("uid", &format!("user{number}"));
    vec![
        ("initial", pieces("uid", "user99*")),
        ("final", pieces("uid", "*777")),
        ("any", pieces("uid", "*r555*")),
        ("initial, any, final", pieces("uid", "us*9*8*1")),
        ("overlapping pieces", pieces("uid", "user1*1*1")),
        ("substrings in other letters", pieces("CN", "uSER 4*2")),
        (
            "substrings of a telephone number",
            pieces("telephoneNumber", "+1555*00042"),
        ),
        (
            "a telephone number written otherwise",
            equal("telephoneNumber", "+1-555-00042"),
        ),
        (
            "at least",
            and(&[at_least("uidNumber", "19990"), equal("objectClass", "posixAccount")]),
        ),
        (
            "at most",
            and(&[at_most("uidNumber", "10007"), equal("objectClass", "posixAccount")]),
        ),
        (
            "between",
            and(&[at_least("uidNumber", "10100"), at_most("uidNumber", "10110")]),
        ),
        ("numbers are numbers", equal("uidNumber", "010042")),
        ("a number that is none", equal("uidNumber", "many")),
        (
            "not a number that is none",
            and(&[not(equal("uidNumber", "many")), uid(3)]),
        ),
    ]
}

fn combinations_and_rules() -> Vec<Named> {
    let uid = |number: usize| equal("uid", &format!("user{number}"));
    vec![
        ("and", and(&[uid(5), equal("sn", "Surname5")])),
        ("and of nothing", and(&[and(&[]), uid(4)])),
        ("or", or(&[uid(5), uid(6), uid(7)])),
        ("or of nothing", or(&[or(&[]), uid(4)])),
        ("not", and(&[or(&[uid(5), uid(6)]), not(uid(6))])),
        ("not of not", not(not(uid(9)))),
        ("an unknown attribute", equal("nosuchattribute", "x")),
        (
            "not an unknown attribute",
            and(&[not(equal("nosuchattribute", "x")), uid(2)]),
        ),
        ("unknown or known", or(&[equal("nosuchattribute", "x"), uid(2)])),
        (
            "exactly, by rule",
            extensible(Some("caseExactMatch"), Some("cn"), "User 8", false),
        ),
        (
            "exactly, in other letters",
            extensible(Some("caseExactMatch"), Some("cn"), "user 8", false),
        ),
        (
            "by rule, as OID",
            extensible(Some("2.5.13.2"), Some("cn"), "user 8", false),
        ),
        (
            "an unknown rule",
            extensible(Some("1.2.3.4"), Some("cn"), "User 8", false),
        ),
        (
            "extensible without a rule",
            extensible(None, Some("cn"), "user 8", false),
        ),
        (
            "of DN components",
            and(&[extensible(None, Some("ou"), "people", true), uid(11)]),
        ),
        ("a member", equal("memberUid", "user77")),
        (
            "members",
            and(&[equal("memberUid", "user77"), equal("memberUid", "user127")]),
        ),
        (
            "a group id",
            and(&[equal("gidNumber", "20007"), equal("objectClass", "posixGroup")]),
        ),
        ("entryDN", equal("entryDN", &user(14))),
        (
            "parents",
            and(&[equal("hasSubordinates", "TRUE"), equal("ou", "people")]),
        ),
        ("mail, an IA5 string", equal("mail", "USER16@EXAMPLE.COM")),
        ("home, exactly", equal("homeDirectory", "/home/user17")),
        ("home, in other letters", equal("homeDirectory", "/HOME/user17")),
    ]
}

/// DN and sorted attributes of each entry; then code and matched DN.
pub(crate) fn normalised(messages: &[Message]) -> (BTreeSet<Vec<u8>>, i64, String) {
    let entries = messages
        .iter()
        .filter(|message| message.tag == ops::SEARCH_ENTRY)
        .map(|message| {
            let parts = crate::ber::elements(&message.content);
            let mut lines: Vec<Vec<u8>> = Vec::new();
            for (_, pair) in crate::ber::elements(parts[1].1) {
                let pair = crate::ber::elements(pair);
                let name = pair[0].1.to_ascii_lowercase();
                let values = crate::ber::elements(pair[1].1);
                lines.extend(
                    values
                        .iter()
                        .map(|(_, value)| [&name, b": ".as_slice(), value].concat()),
                );
                if values.is_empty() {
                    lines.push(name);
                }
            }
            lines.sort();
            [vec![parts[0].1.to_ascii_lowercase()], lines].concat().join(&b'\n')
        });
    let last = messages.last().expect("a result");
    (entries.collect(), last.code(), last.matched_dn().to_ascii_lowercase())
}

fn searches() -> Vec<(String, Vec<u8>)> {
    let groups = format!("ou=groups,{BASE}");
    let mut all = Vec::new();
    for (name, filter) in filters() {
        for base in [PEOPLE, &groups] {
            all.push((
                format!("{name} in {base}"),
                ops::search(base, ops::SUB, &filter, &["*"]),
            ));
        }
    }
    let one = user(20);
    let any = present("objectClass");
    let typed = Search {
        types_only: true,
        ..Search::default()
    };
    let limited = Search {
        size_limit: 7,
        ..Search::default()
    };
    all.extend([
        ("base".to_owned(), ops::search(&one, ops::BASE, &any, &[])),
        (
            "base, filter fails".to_owned(),
            ops::search(&one, ops::BASE, &equal("uid", "user21"), &[]),
        ),
        ("one level".to_owned(), ops::search(&groups, ops::ONE, &any, &["cn"])),
        (
            "subordinates".to_owned(),
            ops::search(&groups, ops::SUBORDINATE, &any, &["cn"]),
        ),
        (
            "subtree with the base".to_owned(),
            ops::search(&groups, ops::SUB, &any, &["cn"]),
        ),
        ("everybody".to_owned(), ops::search(PEOPLE, ops::SUB, &any, &["uid"])),
        ("no attributes".to_owned(), ops::search(&one, ops::BASE, &any, &["1.1"])),
        (
            "some attributes".to_owned(),
            ops::search(&one, ops::BASE, &any, &["MAIL", "sn", "nothing"]),
        ),
        ("types only".to_owned(), typed.op(&one, ops::BASE, &any, &[])),
        (
            "the base in other letters".to_owned(),
            ops::search("UID=user20, OU=People ,dc=EXAMPLE,dc=com", ops::BASE, &any, &["uid"]),
        ),
        (
            "no such object".to_owned(),
            ops::search(&format!("cn=x,cn=y,{one}"), ops::BASE, &any, &[]),
        ),
        (
            "a DN that is none".to_owned(),
            ops::search("nonsense", ops::BASE, &any, &[]),
        ),
        (
            "a DN escaped".to_owned(),
            ops::search("uid=\\75ser20,ou=people,dc=example,dc=com", ops::BASE, &any, &["uid"]),
        ),
    ]);
    // With a size limit, which entries come is the server's choice: only how many is compared.
    all.push(("size limit".to_owned(), limited.op(PEOPLE, ops::SUB, &any, &["1.1"])));
    all
}

#[test]
fn the_local_directory_finds_what_slapd_finds() {
    let (slapd, usherd) = (Slapd::start(), local());
    let mut direct = Client::connect(&slapd.plain());
    let mut client = Client::connect(&usherd.plain(0));
    let mut differences = Vec::new();
    let mut found = 0;
    for (name, op) in searches() {
        let (wanted, got) = (normalised(&direct.call(&op)), normalised(&client.call(&op)));
        found += wanted.0.len();
        let same = if name == "size limit" {
            (wanted.0.len(), wanted.1) == (got.0.len(), got.1)
        } else {
            wanted == got
        };
        if !same {
            let show = |set: Vec<&Vec<u8>>| {
                set.iter()
                    .take(2)
                    .map(|entry| entry.escape_ascii().to_string())
                    .collect::<Vec<_>>()
            };
            let missing = show(wanted.0.difference(&got.0).collect());
            let beyond = show(got.0.difference(&wanted.0).collect());
            differences.push(format!(
                "{name}\n  slapd:  {} entries, {} {:?}; only there: {missing:?}\n  usherd: {} entries, {} {:?}; only there: {beyond:?}",
                wanted.0.len(), wanted.1, wanted.2, got.0.len(), got.1, got.2,
            ));
        }
    }
    assert!(found > 10_000, "the searches find too little to compare: {found}");
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    usherd.stop();
}

#[test]
fn the_local_directory_binds_compares_and_refuses_writes() {
    let (slapd, usherd) = (Slapd::start(), local());
    let mut direct = Client::connect(&slapd.plain());
    let mut client = Client::connect(&usherd.plain(0));
    let codes = |client: &mut Client| {
        let asked = [
            ops::bind(&user(1), &password(1)),
            ops::compare(&user(1), "description", "TOKEN-1"),
            ops::compare(&user(1), "description", "token-2"),
            ops::compare(&user(1), "title", "x"),
            ops::compare(&format!("cn=x,{}", user(1)), "cn", "x"),
            ops::bind(&user(1), "wrong"),
            ops::bind("uid=nobody,ou=people,dc=example,dc=com", "x"),
            ops::bind(&format!("ou=groups,{BASE}"), "x"),
            ops::bind("", ""),
        ];
        asked.map(|op| client.one(&op).code())
    };
    assert_eq!(codes(&mut client), codes(&mut direct));
    client.bind(&user(2), &password(2));
    assert_eq!(client.whoami(), format!("dn:{}", user(2)));
    for op in [
        ops::modify(&user(2), &[(ops::REPLACE, "title", &["x"])]),
        ops::delete(&user(2)),
        ops::add(&format!("ou=x,{BASE}"), &[("objectClass", &["organizationalUnit"])]),
        ops::rename(&user(2), "uid=x", true, None),
        ops::password_modify(None, None, Some("x")),
    ] {
        assert_eq!(client.one(&op).code(), 53, "{}", op.escape_ascii());
    }
    let passwords = client.call(&ops::search(
        &user(2),
        ops::BASE,
        &present("uid"),
        &["userPassword", "uid"],
    ));
    assert!(passwords[0].values("userPassword").is_empty(), "{passwords:?}");
    usherd.stop();
}

#[test]
fn a_broken_ldif_is_a_failed_start_that_names_its_line() {
    let setup = Setup::new();
    setup.folder.write(
        "people.ldif",
        format!("dn: {BASE}\nobjectClass: dcObject\ndc: example\n\ndn: cn=x,{BASE}\nno colon here\n"),
    );
    let text = format!(
        "[server]\ncontrol = \"control\"\n[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\n\
         server = [{{ ldif = \"people.ldif\" }}]\n[[listen]]\naddress = \"ldap://127.0.0.1:0\"\ndirectory = \"corp\"\n"
    );
    let file = setup.folder.write("usherd.toml", text);
    let output = crate::proc::run(
        crate::usherd::BINARY,
        &["run", "-c", &file, "--log", "human"],
        Duration::from_secs(10),
    );
    assert_eq!(output.status.code(), Some(1), "{}", crate::proc::shown(&output));
    let said = crate::proc::shown(&output);
    assert!(said.contains("people.ldif") && said.contains('6'), "{said}");
}

#[test]
fn a_rescue_directory_in_the_second_tier_serves_when_every_server_is_gone() {
    let mut slapd = Slapd::start();
    let setup = Setup::new();
    let entry = format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Rescue\n");
    setup.folder.write("rescue.ldif", entry);
    let section = format!(
        "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"\n\
         retry_max = \"500ms\"\n[[directory.corp.tier]]\nserver = [{}]\n[[directory.corp.tier]]\nserver = [{{ ldif = \"rescue.ldif\" }}]\n",
        crate::slapd::USHERD.0,
        crate::usherd::server(&slapd.url(), ""),
    );
    let usherd = setup
        .section(&section)
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .start();
    usherd.until("the server is up", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    let mut client = Client::connect(&usherd.plain(0));
    let mut name = || client.call(&ops::search(BASE, ops::BASE, &present("o"), &["o"]))[0].values("o");
    assert_eq!(name(), ["Example"]);
    slapd.kill();
    usherd.until("the server is down", |status| {
        status["directories"][0]["servers"][0]["state"] != "up"
    });
    assert_eq!(name(), ["Rescue"]);
    slapd.revive();
    usherd.until("the server is back", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    assert_eq!(name(), ["Example"]);
    usherd.stop();
}
