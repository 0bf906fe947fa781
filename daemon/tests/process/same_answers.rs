//! What comes through usherd is what slapd gives directly: byte for byte, message ids aside.
//!
//! Reads are compared with the same slapd asked directly; writes with a twin made from the same data, so that both see
//! each write once.

use crate::ber::{int, seq, text};
use crate::client::{Client, Message, Target, with_controls};
use crate::ops::{self, ADD, DELETE, REPLACE, Search, equal, present};
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, code_dn, password, user};
use crate::usherd::{Setup, Usherd, listener_tls, server};

/// A name for people, and a protocolOp with its controls.
type Case = (&'static str, Vec<u8>);

struct Bench {
    behind: Slapd,
    twin: Slapd,
    usherd: Usherd,
}

impl Bench {
    fn new() -> Self {
        let (behind, twin) = (Slapd::start(), Slapd::start());
        let tls = listener_tls();
        let usherd = Setup::corp("", &[server(&behind.url(), "")])
            .listen(
                "ldap",
                "127.0.0.1:0",
                &format!("directory = \"corp\"\nstarttls = true\n{tls}"),
            )
            .listen("ldaps", "127.0.0.1:0", &format!("directory = \"corp\"\n{tls}"))
            .listen("ldap", "unix:ldapi", "directory = \"corp\"")
            .start();
        Self { behind, twin, usherd }
    }

    fn fronts(&self) -> [(&'static str, Target); 4] {
        [
            ("plain", self.usherd.plain(0)),
            ("StartTLS", self.usherd.start_tls(1)),
            ("ldaps", self.usherd.ldaps(2)),
            ("ldapi", Target::Unix(self.usherd.unix("ldapi"))),
        ]
    }

    /// Asks both sides everything; gives what differed, for people.
    fn differences(&self, cases: &[Case], who: (&str, &str), direct: &Slapd) -> Vec<String> {
        let mut differences = Vec::new();
        let mut expected = Client::connect(&direct.plain());
        let fronts = self.fronts();
        // Writes are done once on each side, so only the first front is asked.
        let twins = direct.url() == self.twin.url();
        for (front, target) in fronts.iter().take(if twins { 1 } else { 4 }) {
            let mut actual = Client::connect(target);
            if !who.0.is_empty() {
                expected.bind(who.0, who.1);
                actual.bind(who.0, who.1);
            }
            for (name, op) in cases {
                let (wanted, got) = (expected.call(op), actual.call(op));
                if bodies(&wanted) != bodies(&got) {
                    differences.push(format!(
                        "{front}, as {:?}: {name}\n  slapd:  {wanted:?}\n  usherd: {got:?}",
                        who.0
                    ));
                }
            }
        }
        differences
    }
}

fn bodies(messages: &[Message]) -> Vec<&[u8]> {
    messages.iter().map(|message| message.body.as_slice()).collect()
}

fn search(base: &str, scope: i64, filter: &[u8]) -> Vec<u8> {
    ops::search(base, scope, filter, &[])
}

fn searches() -> Vec<Case> {
    let all = present("objectClass");
    let groups = format!("ou=groups,{BASE}");
    let one = user(17);
    vec![
        ("base", search(&one, ops::BASE, &all)),
        ("one level", search(BASE, ops::ONE, &all)),
        ("subtree", search(&groups, ops::SUB, &all)),
        ("subordinates", search(&groups, ops::SUBORDINATE, &all)),
        ("all users", ops::search(PEOPLE, ops::SUB, &all, &["uid"])),
        ("operational attributes", ops::search(&one, ops::BASE, &all, &["+"])),
        ("all attributes", ops::search(&one, ops::BASE, &all, &["*", "+"])),
        ("no attributes", ops::search(&one, ops::BASE, &all, &["1.1"])),
        (
            "some attributes",
            ops::search(&one, ops::BASE, &all, &["CN", "mail", "nothing"]),
        ),
        (
            "a photo",
            search(&format!("uid=photo1,ou=photos,{BASE}"), ops::BASE, &all),
        ),
        (
            "types only",
            Search {
                types_only: true,
                ..Search::default()
            }
            .op(&one, ops::BASE, &all, &[]),
        ),
        (
            "size limit",
            Search {
                size_limit: 3,
                ..Search::default()
            }
            .op(PEOPLE, ops::SUB, &all, &["uid"]),
        ),
        (
            "time limit",
            Search {
                time_limit: 5,
                ..Search::default()
            }
            .op(PEOPLE, ops::SUB, &equal("uid", "user5"), &[]),
        ),
        (
            "dereferencing",
            Search {
                dereference: 3,
                ..Search::default()
            }
            .op(&one, ops::BASE, &all, &[]),
        ),
    ]
}

fn filtered() -> Vec<Case> {
    let groups = format!("ou=groups,{BASE}");
    let one = user(17);
    vec![
        (
            "and, or, not",
            search(
                PEOPLE,
                ops::SUB,
                &ops::and(&[
                    ops::or(&[equal("uid", "user5"), equal("uid", "user6")]),
                    ops::not(equal("cn", "User 6")),
                ]),
            ),
        ),
        (
            "substrings",
            ops::search(PEOPLE, ops::SUB, &ops::pieces("uid", "user9*9*9"), &["uid"]),
        ),
        (
            "ordering",
            ops::search(
                PEOPLE,
                ops::ONE,
                &ops::and(&[ops::at_least("uidNumber", "10100"), ops::at_most("uidNumber", "10105")]),
                &["uidNumber"],
            ),
        ),
        (
            "approximately",
            ops::search(PEOPLE, ops::SUB, &ops::approximately("sn", "surname7"), &["uid"]),
        ),
        (
            "extensible",
            ops::search(
                PEOPLE,
                ops::SUB,
                &ops::extensible(Some("2.5.13.5"), Some("cn"), "User 8", false),
                &["cn"],
            ),
        ),
        (
            "extensible over DNs",
            ops::search(
                &groups,
                ops::SUB,
                &ops::extensible(None, Some("ou"), "groups", true),
                &["cn"],
            ),
        ),
        (
            "a member",
            ops::search(&groups, ops::SUB, &equal("memberUid", "user77"), &["cn"]),
        ),
        (
            "an unknown attribute",
            search(PEOPLE, ops::SUB, &equal("nosuchattribute", "x")),
        ),
        (
            "not an unknown attribute",
            ops::search(&one, ops::BASE, &ops::not(equal("nosuchattribute", "x")), &["uid"]),
        ),
        ("an empty or", search(BASE, ops::SUB, &ops::or(&[]))),
    ]
}

fn guarded() -> Vec<Case> {
    let all = present("objectClass");
    vec![
        ("a referral below", ops::search(BASE, ops::ONE, &all, &["ou"])),
        (
            "a referral as base",
            search(&format!("ou=elsewhere,{BASE}"), ops::BASE, &all),
        ),
        ("a secret unit", search(&format!("ou=secret,{BASE}"), ops::BASE, &all)),
        ("passwords", ops::search(&user(1), ops::BASE, &all, &["userPassword"])),
        (
            "the schema",
            ops::search(
                "cn=Subschema",
                ops::BASE,
                &equal("objectClass", "subschema"),
                &["ldapSyntaxes"],
            ),
        ),
    ]
}

fn failures() -> Vec<Case> {
    let all = present("objectClass");
    vec![
        (
            "no such object",
            search(&format!("cn=a,cn=b,{}", user(3)), ops::SUB, &all),
        ),
        ("no such base", search("dc=example,dc=org", ops::SUB, &all)),
        ("a DN that is none", search("this is no DN", ops::SUB, &all)),
        ("compare true", ops::compare(&user(2), "description", "token-2")),
        ("compare false", ops::compare(&user(2), "description", "token-3")),
        ("compare, no such attribute", ops::compare(&user(2), "title", "x")),
        (
            "compare, undefined type",
            ops::compare(&user(2), "nosuchattribute", "x"),
        ),
        (
            "compare, no such object",
            ops::compare(&format!("cn=a,{}", user(2)), "cn", "x"),
        ),
        ("who am I?", ops::whoami()),
        ("busy", ops::compare(&code_dn("busy"), "cn", "x")),
        ("unavailable", ops::compare(&code_dn("unavailable"), "cn", "x")),
        ("unwilling", search(&code_dn("unwilling"), ops::BASE, &all)),
        ("other", search(&code_dn("other"), ops::BASE, &all)),
        ("loop", ops::compare(&code_dn("loop"), "cn", "x")),
        ("referred", ops::compare(&code_dn("referred"), "cn", "x")),
        ("time passes", search(&code_dn("slow1"), ops::BASE, &all)),
    ]
}

fn controlled() -> Vec<Case> {
    let referral = search(&format!("ou=elsewhere,{BASE}"), ops::BASE, &present("objectClass"));
    let one = search(&user(4), ops::BASE, &present("objectClass"));
    let sync = |cookie: &[u8]| {
        let value = seq(0x30, &[int(0x0A, 1), text(cookie)]);
        let op = ops::search(&format!("ou=groups,{BASE}"), ops::SUB, &present("objectClass"), &["cn"]);
        with_controls(&op, &[("1.3.6.1.4.1.4203.1.9.1.1", true, Some(value))])
    };
    vec![
        (
            "manageDsaIT",
            with_controls(&referral, &[("2.16.840.1.113730.3.4.2", true, None)]),
        ),
        (
            "an unknown critical control",
            with_controls(&one, &[("1.2.3.4", true, None)]),
        ),
        (
            "an unknown control",
            with_controls(&one, &[("1.2.3.4", false, Some(b"x".to_vec()))]),
        ),
        (
            "an assertion that holds",
            with_controls(&one, &[("1.3.6.1.1.12", true, Some(equal("uid", "user4")))]),
        ),
        (
            "an assertion that fails",
            with_controls(&one, &[("1.3.6.1.1.12", true, Some(equal("uid", "user5")))]),
        ),
        (
            "one page is enough",
            with_controls(
                &one,
                &[(
                    "1.2.840.113556.1.4.319",
                    false,
                    Some(seq(0x30, &[int(0x02, 10), text("")])),
                )],
            ),
        ),
        (
            "a refresh with intermediate responses",
            sync(b"rid=000,csn=20200101000000.000000Z#000000#000#000000"),
        ),
    ]
}

fn own_writes() -> Vec<Case> {
    let own = user(21);
    vec![
        (
            "change one's own",
            ops::modify(&own, &[(REPLACE, "title", &["Reader"])]),
        ),
        (
            "change another's",
            ops::modify(&user(22), &[(REPLACE, "title", &["Thief"])]),
        ),
        ("delete another", ops::delete(&user(22))),
        (
            "add without right",
            ops::add(&format!("ou=mine,{BASE}"), &[("objectClass", &["organizationalUnit"])]),
        ),
        ("rename another", ops::rename(&user(22), "uid=mine", true, None)),
        (
            "change one's own password",
            ops::password_modify(None, Some(&password(21)), Some("changed")),
        ),
        (
            "and with a wrong old one",
            ops::password_modify(None, Some("wrong"), Some("again")),
        ),
        (
            "who changed it",
            ops::search(&own, ops::BASE, &present("uid"), &["title", "modifiersName"]),
        ),
    ]
}

/// In this order: each works on what the ones before it left.
fn editor_writes() -> Vec<Case> {
    [additions(), changes(), moves_and_deletions()].concat()
}

fn additions() -> Vec<Case> {
    let scratch = format!("ou=scratch,{BASE}");
    let made = format!("uid=made,{scratch}");
    let person: &[(&str, &[&str])] = &[
        ("objectClass", &["inetOrgPerson"]),
        ("uid", &["made"]),
        ("cn", &["Made"]),
        ("sn", &["By", "Test"]),
    ];
    vec![
        ("add", ops::add(&made, person)),
        ("add again", ops::add(&made, person)),
        (
            "add below nothing",
            ops::add(&format!("uid=x,ou=nothing,{BASE}"), person),
        ),
        (
            "add against the schema",
            ops::add(
                &format!("cn=x,{scratch}"),
                &[("objectClass", &["inetOrgPerson"]), ("cn", &["x"])],
            ),
        ),
        (
            "add with another name",
            ops::add(
                &format!("uid=other,{scratch}"),
                &[("objectClass", &["account"]), ("uid", &["x"])],
            ),
        ),
    ]
}

fn changes() -> Vec<Case> {
    let made = format!("uid=made,ou=scratch,{BASE}");
    let post_read = with_controls(
        &ops::modify(&made, &[(REPLACE, "title", &["New"])]),
        &[("1.3.6.1.1.13.2", true, Some(seq(0x30, &[text("title"), text("sn")])))],
    );
    vec![
        (
            "modify",
            ops::modify(&made, &[(ADD, "mail", &["made@example.com"]), (DELETE, "sn", &["By"])]),
        ),
        (
            "add a value twice",
            ops::modify(&made, &[(ADD, "mail", &["made@example.com"])]),
        ),
        (
            "delete a value that is not there",
            ops::modify(&made, &[(DELETE, "title", &["x"])]),
        ),
        (
            "delete the naming value",
            ops::modify(&made, &[(DELETE, "uid", &["made"])]),
        ),
        (
            "a value against its syntax",
            ops::modify(&user(30), &[(REPLACE, "uidNumber", &["many"])]),
        ),
        (
            "modify a referral",
            ops::modify(&format!("ou=elsewhere,{BASE}"), &[(REPLACE, "ou", &["x"])]),
        ),
        ("post-read", post_read),
        (
            "read it back",
            ops::search(
                &made,
                ops::BASE,
                &present("uid"),
                &["*", "modifiersName", "creatorsName"],
            ),
        ),
    ]
}

fn moves_and_deletions() -> Vec<Case> {
    let scratch = format!("ou=scratch,{BASE}");
    let made = format!("uid=made,{scratch}");
    vec![
        ("rename", ops::rename(&made, "uid=renamed", true, None)),
        (
            "move",
            ops::rename(
                &format!("uid=renamed,{scratch}"),
                "uid=moved",
                false,
                Some(&format!("ou=groups,{BASE}")),
            ),
        ),
        (
            "read it there",
            ops::search(
                &format!("uid=moved,ou=groups,{BASE}"),
                ops::BASE,
                &present("uid"),
                &["*"],
            ),
        ),
        (
            "rename to what exists",
            ops::rename(&user(31), "uid=user32", true, None),
        ),
        ("delete what has children", ops::delete(PEOPLE)),
        (
            "set a password",
            ops::password_modify(Some(&format!("uid=moved,ou=groups,{BASE}")), None, Some("first")),
        ),
        ("delete", ops::delete(&format!("uid=moved,ou=groups,{BASE}"))),
        ("delete again", ops::delete(&format!("uid=moved,ou=groups,{BASE}"))),
        (
            "the rootDSE is not there to be changed",
            ops::modify("", &[(REPLACE, "description", &["x"])]),
        ),
    ]
}

fn binds() -> Vec<Case> {
    vec![
        ("a right password", ops::bind(&user(5), &password(5))),
        ("a wrong password", ops::bind(&user(5), "wrong")),
        ("nobody", ops::bind(&format!("uid=nobody,{PEOPLE}"), "x")),
        ("a DN that is none", ops::bind("nonsense", "x")),
        (
            "an entry without a password",
            ops::bind(&format!("ou=groups,{BASE}"), "x"),
        ),
        ("anonymous", ops::bind("", "")),
        (
            "the same in other letters",
            ops::bind(&user(5).to_uppercase(), &password(5)),
        ),
        ("who that is", ops::whoami()),
    ]
}

#[test]
fn reads_are_byte_for_byte_what_slapd_gives() {
    let bench = Bench::new();
    let mut differences = Vec::new();
    let (first, second) = (user(1), user(2));
    for who in [
        ("", ""),
        (first.as_str(), "password-1"),
        (second.as_str(), "password-2"),
        EDITOR,
    ] {
        for cases in [searches(), filtered(), guarded()] {
            differences.extend(bench.differences(&cases, who, &bench.behind));
        }
        differences.extend(bench.differences(&controlled(), who, &bench.behind));
    }
    differences.extend(bench.differences(&failures(), (first.as_str(), "password-1"), &bench.behind));
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    bench.usherd.stop();
}

#[test]
fn an_unknown_extended_operation_is_refused_and_harms_nobody() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let answer = client.one(&ops::extended("1.2.3.4.5", Some(b"value")));
    // slapd says 2 directly; with a critical control on an operation that it does not know (RFC 4370) it says 12.
    assert!(matches!(answer.code(), 2 | 12), "{answer:?}");
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn writes_are_byte_for_byte_what_slapd_gives_and_done_as_who_asked() {
    let bench = Bench::new();
    let mut differences = bench.differences(&own_writes(), (&user(21), &password(21)), &bench.twin);
    differences.extend(bench.differences(&editor_writes(), EDITOR, &bench.twin));
    differences.extend(bench.differences(&editor_writes(), ("", ""), &bench.twin));
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    let mut after = Client::bound(&bench.usherd.plain(0), &user(21), "changed");
    let found = after.call(&ops::search(
        &user(21),
        ops::BASE,
        &present("uid"),
        &["modifiersName", "title"],
    ));
    assert_eq!(found[0].values("modifiersName"), [user(21)]);
    assert_eq!(found[0].values("title"), ["Reader"]);
    bench.usherd.stop();
}

#[test]
fn binds_are_answered_as_slapd_answers_them() {
    let bench = Bench::new();
    let differences = bench.differences(&binds(), ("", ""), &bench.behind);
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    bench.usherd.stop();
}
