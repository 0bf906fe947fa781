//! Rules of a RADIUS listener: what is written becomes a policy, or every mistake with its place.

use std::borrow::Cow;

use engine::radius::policy::{After, Asked, Before, Moment, Policy};
use toml::de::DeValue;
use wire::radius::{Code, Dictionary, Packet, Writer, text};

use super::super::keys::Kind;
use super::super::radius::{raw_rules, rules as rules_of};
use super::super::reader::Section;
use super::*;

/// Reads the rules of a listener with the chains `default` and `partners`; each is written below `[[rule]]`.
fn read(written: &str) -> Result<Policy, Vec<Diagnostic>> {
    let source = Source {
        name: "usherd.toml".into(),
        text: written.into(),
    };
    let table = DeTable::parse(written).unwrap();
    let mut p = Problems::new(Some(Arc::new(source)));
    let Some(DeValue::Array(items)) = table.get_ref().get("rule").map(|rules| rules.get_ref()) else {
        panic!("no [[rule]] in {written}");
    };
    let mut rules = Vec::new();
    for item in items.iter() {
        let DeValue::Table(inner) = item.get_ref() else {
            panic!("{item:?}")
        };
        let section = Section::new(Kind::RadiusRule, "[[listen.rule]]", Place::Text(item.span()), inner);
        rules.push(raw_rules::read(&mut p, section));
    }
    let policy = rules_of::rules(&mut p, &rules, &Dictionary::standard(), &["default", "partners"]);
    if p.has_errors() { Err(p.into_list()) } else { Ok(policy) }
}

/// Every mistake, as `line:column message (label); help`.
fn found(written: &str) -> Vec<String> {
    let list = read(written).expect_err(written);
    let told = |one: &Diagnostic| one.to_string().trim_start_matches("usherd.toml:").to_owned();
    list.iter().map(told).collect()
}

/// The only mistake of a rule `x` with these lines, from line 3 on; `right` is a part of what is said.
#[track_caller]
fn one(lines: &str, place: &str, right: &str) {
    let written = format!("[[rule]]\nname = \"x\"\n{lines}\n");
    let found = found(&written);
    assert_eq!(found.len(), 1, "{lines}: {found:?}");
    assert!(
        found[0].starts_with(&format!("{place}: ")) && found[0].contains(right),
        "{lines}: {}",
        found[0]
    );
}

const GUESTS: &str = r#"
[[rule]]
name = "closed"
user = ["*@guest.example.com"]
time = ["Mo-Fr 18:00-08:00", "Sa,Su"]
reject = "Guests only on weekdays."

[[rule]]
name = "partners"
client = ["wlan-*"]
tag = ["wifi"]
match = { Called-Station-Id = ["*:partner", "*:b2b"], NAS-Port = "1-48", NAS-IP-Address = "192.0.2.0/24", Framed-MTU = ">=1400", NAS-Port-Type = "Wireless-802.11" }
not = { CHAP-Password = { present = true } }
authenticate = "partners"
set = { Session-Timeout = 3600, Tunnel-Private-Group-Id = 7 }

[[rule]]
name = "staff"
group = ["staff"]
set = { "Tunnel-Type:1" = "VLAN", "Tunnel-Medium-Type:1" = "IEEE-802", "Tunnel-Private-Group-Id:1" = "30", "+Cisco-AVPair" = ["a", "b"] }
remove = ["Framed-IP-Address"]
continue = true

[[rule]]
name = "former"
group = ["former"]
reject = ""
"#;

/// What is said of a request at a time of a Monday: the first round, and the answer.
fn ask(policy: &Policy, client: &str, hour: u16, attributes: &str, groups: &[&str]) -> (String, String) {
    let dictionary = Dictionary::standard();
    let packet = |attributes: &str| {
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
        for item in text::parse_list(&dictionary, attributes).unwrap() {
            writer.item(&dictionary, &item, None, &mut || 0).unwrap();
        }
        writer.finish_unsealed(&[0; 16]).unwrap();
        out
    };
    let octets = packet(attributes);
    let packet = Packet::parse(&octets).unwrap();
    let asked = Asked {
        packet: &packet,
        client,
        tags: &["wifi".to_owned()],
        user: packet.find(1).unwrap_or_default(),
        moment: Moment::new(0, hour * 60).unwrap(),
        dictionary: &dictionary,
    };
    let before = match policy.before(&asked, &mut |_| {}) {
        Before::Go { chain, .. } => format!("{chain:?}"),
        Before::Reject { message, rule } => format!("{rule}: {message:?}"),
    };
    let after = match policy.after(&asked, &mut |group| groups.contains(&group), &mut |_| {}) {
        After::Reject { message, rule } => format!("{rule}: {message:?}"),
        After::Accept(edits) => {
            let given = "Framed-IP-Address = 192.0.2.7, Cisco-AVPair = \"given\"";
            let given = text::parse_list(&dictionary, given).unwrap();
            let mut items: Vec<_> = given.into_iter().map(Cow::Owned).collect();
            edits.apply(&mut items);
            let mut out = Vec::new();
            let mut writer = Writer::bare(&mut out, Code::ACCESS_ACCEPT, 1, &[0; 16]);
            items
                .iter()
                .for_each(|item| writer.item(&dictionary, item, None, &mut || 0).unwrap());
            writer.finish_unsealed(&[0; 16]).unwrap();
            let mut shown = String::new();
            text::print_list(&mut shown, Packet::parse(&out).unwrap().walk(&dictionary, None)).unwrap();
            shown
        }
    };
    (before, after)
}

#[test]
fn rules_mean_what_they_say() {
    let policy = match read(GUESTS) {
        Ok(policy) => policy,
        Err(found) => panic!("{}", render(&found, false)),
    };
    let given = "Framed-IP-Address = 192.0.2.7, Cisco-AVPair = \"given\"";
    let guest = "User-Name = \"bob@guest.example.com\"";
    assert_eq!(
        ask(&policy, "x", 19, guest, &[]).0,
        "closed: Some(\"Guests only on weekdays.\")"
    );
    assert_eq!(ask(&policy, "x", 9, guest, &[]), ("None".into(), given.into()));
    let partner = "User-Name = \"p\", Called-Station-Id = \"00-53:partner\", NAS-Port = 7, NAS-IP-Address = 192.0.2.9, \
                   Framed-MTU = 1500, NAS-Port-Type = Wireless-802.11";
    let (before, after) = ask(&policy, "wlan-1", 9, partner, &[]);
    assert_eq!(before, "Some(1)");
    assert_eq!(
        after,
        format!("{given}, Session-Timeout = 3600, Tunnel-Private-Group-Id = \"7\"")
    );
    let other = partner.replace("NAS-Port = 7", "NAS-Port = 77");
    assert_eq!(ask(&policy, "wlan-1", 9, &other, &[]), ("None".into(), given.into()));
    let (_, after) = ask(&policy, "x", 9, "User-Name = \"s\"", &["staff"]);
    let tunnel = "Tunnel-Medium-Type:1 = IEEE-802, Tunnel-Private-Group-Id:1 = \"30\", Tunnel-Type:1 = VLAN";
    for expected in tunnel
        .split(", ")
        .chain(["Cisco-AVPair = \"given\"", "Cisco-AVPair = \"a\", Cisco-AVPair = \"b\""])
    {
        assert!(after.contains(expected), "{expected} in {after}");
    }
    assert!(!after.contains("Framed-IP-Address"));
    assert_eq!(
        ask(&policy, "x", 9, "User-Name = \"s\"", &["staff", "former"]).1,
        "former: None"
    );
    assert!(policy.needs_time() && policy.needs_groups());
}

/// A line beside a `set` that is right, the column of its mistake, and what is said.
const BESIDE: &[(&str, usize, &str)] = &[
    ("client = []", 10, "`client` of the rule `x` is empty"),
    (
        "user = [\"\"]",
        9,
        "no pattern (found \"\"); write a text of 1 to 253 letters",
    ),
    ("tag = \"wifi\"", 7, "must be a list of texts"),
    (
        "group = [\"staff*\"]",
        10,
        "no group's name (found \"staff*\"); write whole names",
    ),
    (
        "time = [\"Mo 8-18\"]",
        9,
        "no time (found \"Mo 8-18\"); write hours and minutes",
    ),
    ("time = [\"Mo\", \"Xx\"]", 15, "one of Mo, Tu"),
    ("match = [\"NAS-Port\"]", 9, "must be a table of attributes"),
    (
        "match = { NAS-Prot = 1 }",
        11,
        "unknown attribute `NAS-Prot` in `match` of the rule `x`; did you mean NAS-Port",
    ),
    (
        "match = { NAS-Port = \"x\" }",
        22,
        "cannot be this (found \"x\"); it may be a number",
    ),
    ("match = { NAS-Port = [1, \"9-2\"] }", 26, "(found \"9-2\")"),
    (
        "match = { NAS-Port = true }",
        22,
        "no such value; write a text in quotes, a number, a list",
    ),
    ("match = { NAS-Port = [] }", 22, "no such value"),
    ("not = { NAS-Port = { there = true } }", 20, "or { present = true }"),
    (
        "not = { User-Password = \"s3cret\" }",
        25,
        "it may be { present = true }",
    ),
    (
        "match = { NAS-Port = 1, nas-port = 2 }",
        25,
        "`nas-port` is twice in `match`",
    ),
    (
        "match = { \"NAS-Port:1\" = 1 }",
        11,
        "NAS-Port has no tag in `match` of the rule `x`; write NAS-Port",
    ),
    (
        "remove = [\"State\"]",
        11,
        "`State` in `remove` of the rule `x` cannot be this",
    ),
    (
        "authenticate = \"partner\"",
        16,
        "no chain of the listener; did you mean \"partners\"?",
    ),
    ("authenticate = \"zzzz\"", 16, "there are default, partners"),
    ("colour = \"red\"", 1, "unknown setting `colour` in [[listen.rule]]"),
    ("continue = \"yes\"", 12, "must be true or false"),
];

#[test]
fn each_mistake_has_its_place_and_says_what_would_be_right() {
    let set = "set = { Session-Timeout = 1 }";
    for &(line, column, right) in BESIDE {
        one(&format!("{line}\n{set}"), &format!("3:{column}"), right);
    }
    for (lines, place, right) in [
        ("", "1:1", "the rule `x` does nothing; add one of authenticate"),
        (
            "set = { Session-Timeout = \"soon\" }",
            "3:27",
            "cannot be this (found \"soon\"); it may be a number",
        ),
        ("set = { Session-Timeot = 1 }", "3:9", "did you mean Session-Timeout"),
        (
            "set = { Session-Timeout = { present = true } }",
            "3:27",
            "write a text in quotes, a number, or a list",
        ),
        (
            "set = { Proxy-State = \"x\" }",
            "3:23",
            "belongs to the conversation itself",
        ),
        ("set = { Tunnel-Password = \"s3cret\" }", "3:27", "is a secret"),
        (
            "set = { Class = \"a\", \"+Class\" = \"b\" }",
            "3:22",
            "`+Class` is twice in `set`",
        ),
        (
            "reject = \"no\"\nset = { Session-Timeout = 1 }",
            "4:7",
            "has `reject` and `set`",
        ),
        ("reject = \"no\"\ncontinue = true", "4:12", "has `reject`, and goes on"),
        (
            "group = [\"g\"]\nauthenticate = \"partners\"",
            "4:16",
            "has `authenticate` and `group`",
        ),
        (
            "match = { NAS-Port = 7 }\nnot = { NAS-Port = \"1-48\" }\nreject = \"no\"",
            "2:8",
            "the rule `x` never holds",
        ),
    ] {
        one(lines, place, right);
    }
    one(
        &format!("reject = \"{}\"", "x".repeat(254)),
        "3:10",
        "(found 254 octets); a Reply-Message has at most 253",
    );
    let much = vec![format!("\"{}\"", "x".repeat(240)); 20].join(", ");
    one(
        &format!("set = {{ Cisco-AVPair = [{much}] }}"),
        "3:9",
        "more than a packet can hold",
    );
}

#[test]
fn rules_are_compared_with_each_other() {
    let two = |first: &str, second: &str| found(&format!("[[rule]]\n{first}\n[[rule]]\n{second}\n"));
    let told = two(
        "name = \"a\"\nreject = \"no\"",
        "name = \"a\"\nuser = [\"x\"]\nauthenticate = \"partners\"",
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("5:8: ") && told[1].starts_with("5:8: "), "{told:?}");
    assert!(
        told.iter().any(|one| one.contains("there are two rules `a`")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|one| one.contains("the rule `a` is never reached; put it above")),
        "{told:?}"
    );
    let all = "set = { Session-Timeout = 1 }";
    let told = two(
        &format!("name = \"a\"\n{all}"),
        &format!("name = \"b\"\nauthenticate = \"partners\"\n{all}"),
    );
    assert!(
        told.len() == 1 && told[0].contains("`set` and `remove` of the rule `b` is never reached"),
        "{told:?}"
    );
    let told = two("reject = \"no\"", "name = \"\"\nreject = \"no\"");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("1:1: the rule has no `name`") && told[1].starts_with("4:8: `name` of a rule is no name")
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret() {
    let written = "[[rule]]\nname = \"x\"\nuser = [\"\"]\ntime = [\"x\"]\nmatch = { NAS-Prot = 1, NAS-Port = [\"x\", \"y\"] }\n\
                   set = { Tunnel-Password = \"s3cret\", Session-Timeout = \"z\" }\nremove = [\"Quux\"]\nauthenticate = \"zzzz\"\n";
    let list = read(written).unwrap_err();
    assert_eq!(list.len(), 9, "{}", render(&list, false));
    assert!(!render(&list, false).contains("s3cret"));
    let lines: Vec<usize> = list.iter().map(|one| one.position().unwrap().0).collect();
    assert_eq!(lines, [3, 4, 5, 5, 5, 6, 6, 7, 8]);
    // Nor by a mistake beside it, or in its name.
    for set in [
        "Tunnel-Password = \"s3cret\", Session-Timeout = true",
        "Tunnel-Password = \"s3cret\", Session-Timeot = 1",
        "Tunnel-Pasword = \"s3cret\"",
    ] {
        let list = read(&format!("[[rule]]\nname = \"x\"\nset = {{ {set} }}\n")).unwrap_err();
        assert!(!render(&list, false).contains("s3cret"), "{}", render(&list, false));
    }
}

#[test]
fn a_listener_has_its_rules() {
    let fixture = Fixture::new("radius-rules");
    fixture.file(
        "clients.toml",
        "[client.nas]\naddress = \"192.0.2.7\"\nsecret_file = \"secret\"\n",
        0o600,
    );
    fixture.file("users.toml", "[user.bob]\npassword = \"hello\"\n", 0o600);
    let errors = |text: &str| {
        let mut found = fixture.found(text);
        found.retain(|one| !one.contains("warning: "));
        found
    };
    let listener = "[[listen]]\nprotocol = \"radius\"\naddress = \"127.0.0.1:0\"\nclients_file = \"clients.toml\"\naccounting = \"discard\"\n";
    let asked = "authenticate = { users_file = \"users.toml\" }\n";
    let rule = "[[listen.rule]]\nname = \"staff\"\ngroup = [\"staff\"]\nset = { Filter-Id = \"staff\" }\n";
    let plan = fixture.plan(&format!("{listener}{asked}{rule}"));
    let plan::Face::Radius(face) = &plan.listeners[0].face else {
        panic!("a radius listener")
    };
    assert!(face.plan.needs_groups && face.plan.policy.rules().len() == 1);
    let found = errors(&format!("{listener}{asked}{}", rule.replace("Filter-Id", "Filter-Ids")));
    assert_eq!(
        found,
        ["10:9 unknown attribute `Filter-Ids` in `set` of the rule `staff`"]
    );
    let found = errors(&format!("{listener}answer = \"accounting\"\n{rule}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("`rule` where only accounting is answered"),
        "{found:?}"
    );
    let found = errors(&format!("{DIRECTORY}{LISTEN}{rule}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("`rule` is for radius listeners"), "{found:?}");
}
