use proptest::prelude::*;

use super::*;

fn edit(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> Edit {
    let dictionary = &*DICTIONARY;
    let mut edit = Edit::default();
    for name in remove {
        let (definition, tag) = attribute(dictionary, name).unwrap();
        edit.remove(definition, tag).unwrap();
    }
    for (pairs, replaces) in [(set, true), (add, false)] {
        for (name, value) in pairs {
            let (definition, tag) = attribute(dictionary, name).unwrap();
            if replaces {
                edit.remove(definition, tag).unwrap();
            }
            edit.add(dictionary, definition, tag, &[Written::Text(value)]).unwrap();
        }
    }
    edit
}

fn rule(name: &str, action: Action) -> Rule {
    Rule {
        action,
        ..Rule::new(name)
    }
}

fn go(chain: Option<usize>, edit: Edit) -> Action {
    Action::Go { chain, edit }
}

fn reject(message: &str) -> Action {
    Action::Reject(Some(message.into()))
}

/// What a policy says, both rounds, with all notes.
struct Said {
    before: String,
    reply: String,
    notes: Vec<String>,
}

fn ask(policy: &Policy, client: &str, tags: &[&str], attributes: &str, groups: &[&str], reply: &str) -> Said {
    let dictionary = &*DICTIONARY;
    let octets = request(attributes);
    let packet = Packet::parse(&octets).unwrap();
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let asked = Asked {
        packet: &packet,
        client,
        tags: &tags,
        user: packet.find(1).unwrap_or_default(),
        moment: Moment::new(0, 600).unwrap(),
        dictionary,
    };
    let mut notes = Vec::new();
    let before = match policy.before(&asked, &mut |note| notes.push(note.to_string())) {
        Before::Go { chain, rule } => format!("go {chain:?} {rule:?}"),
        Before::Reject { message, rule } => format!("reject {message:?} {rule}"),
    };
    let after = policy.after(&asked, &mut |group| groups.contains(&group), &mut |note| {
        notes.push(note.to_string())
    });
    let reply = match after {
        After::Reject { message, rule } => format!("reject {message:?} {rule}"),
        After::Accept(edits) => {
            let given = text::parse_list(dictionary, reply).unwrap();
            let mut items: Vec<Cow<'_, Item>> = given.into_iter().map(Cow::Owned).collect();
            edits.apply(&mut items);
            let mut out = Vec::new();
            let mut writer = Writer::bare(&mut out, Code::ACCESS_ACCEPT, 1, &[0; 16]);
            items
                .iter()
                .for_each(|item| writer.item(dictionary, item, None, &mut || 0).unwrap());
            writer.finish_unsealed(&[0; 16]).unwrap();
            let mut shown = String::new();
            text::print_list(&mut shown, Packet::parse(&out).unwrap().walk(dictionary, None)).unwrap();
            shown
        }
    };
    Said { before, reply, notes }
}

#[test]
fn who_is_in_none_of_some_groups_can_be_kept_out() {
    let strangers = Rule {
        not_groups: vec!["staff".into(), "vpn".into()],
        ..rule("strangers", reject("ask the help desk"))
    };
    let policy = Policy::new(vec![
        strangers,
        rule("all", go(None, edit(&[("Session-Timeout", "60")], &[], &[]))),
    ]);
    assert!(policy.idle().is_empty() && policy.needs_groups());
    for (groups, right) in [
        (&[][..], "reject Some(\"ask the help desk\") strangers"),
        (&["guests"], "reject Some(\"ask the help desk\") strangers"),
        (&["vpn"], "Session-Timeout = 60"),
        (&["guests", "staff"], "Session-Timeout = 60"),
    ] {
        let said = ask(&policy, "c", &[], "User-Name = \"bob\"", groups, "");
        assert_eq!(
            (said.before.as_str(), said.reply.as_str()),
            ("go None None", right),
            "{groups:?}"
        );
    }
    let said = ask(&policy, "c", &[], "User-Name = \"bob\"", &["vpn"], "");
    assert!(
        said.notes
            .iter()
            .any(|note| note == "strangers: no, the user is in vpn"),
        "{:?}",
        said.notes
    );
}

#[test]
fn the_first_that_holds_ends_its_round() {
    let wifi = Rule {
        clients: patterns(&["wlan-*"]),
        ..rule("wifi", go(Some(2), edit(&[("Session-Timeout", "60")], &[], &[])))
    };
    let late = Rule {
        times: times(&["Mo 18:00-06:00"]),
        ..rule("late", reject("closed"))
    };
    let staff = Rule {
        groups: vec!["staff".into()],
        continues: true,
        ..rule("staff", go(None, edit(&[("Session-Timeout", "90")], &[], &[])))
    };
    let kept_out = Rule {
        groups: vec!["former".into()],
        ..rule("former", reject("gone"))
    };
    let policy = Policy::new(vec![late, staff, kept_out, wifi]);
    assert!(policy.idle().is_empty() && policy.needs_groups() && policy.needs_time());
    assert_eq!(policy.groups_named().collect::<Vec<_>>(), ["staff", "former"]);
    let said = ask(&policy, "WLAN-1", &[], "User-Name = \"bob\"", &["staff"], "");
    assert_eq!(
        (said.before.as_str(), said.reply.as_str()),
        ("go Some(2) Some(\"wifi\")", "Session-Timeout = 60")
    );
    let notes = [
        "late: no, it is Mo 10:00, and not Mo 18:00-06:00",
        "wifi: holds",
        "staff: holds",
        "former: no, the user is not in former",
        "wifi: holds",
    ];
    assert_eq!(said.notes, notes);
    let said = ask(
        &policy,
        "switch",
        &[],
        "User-Name = \"bob\"",
        &["staff"],
        "Session-Timeout = 5",
    );
    assert_eq!(
        (said.before.as_str(), said.reply.as_str()),
        ("go None None", "Session-Timeout = 90")
    );
    let said = ask(
        &policy,
        "wlan-2",
        &[],
        "User-Name = \"bob\"",
        &["former", "staff"],
        "Session-Timeout = 5",
    );
    assert_eq!(said.reply, "reject Some(\"gone\") former");
    let said = ask(&Policy::default(), "x", &[], "", &[], "Session-Timeout = 5");
    assert_eq!(
        (said.before.as_str(), said.reply.as_str()),
        ("go None None", "Session-Timeout = 5")
    );
}

const RIGHT: &str = "User-Name = \"Bob\", NAS-Port = 7, Called-Station-Id = \"x\", NAS-Port-Type = Ethernet";
const VIRTUAL: &str = "User-Name = \"bob\", NAS-Port = 7, Called-Station-Id = \"x\", NAS-Port-Type = Virtual";

/// Client, its tags, a request, the user's groups, and what is said of the one rule.
type Failing = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static str,
);
const FAILING: &[Failing] = &[
    ("sw-1", &["a", "wired"], RIGHT, &["guests"], "all: holds"),
    (
        "ap",
        &["wired"],
        RIGHT,
        &["guests"],
        "all: no, the client is ap, and not sw-* or core",
    ),
    (
        "core",
        &[],
        RIGHT,
        &["guests"],
        "all: no, the client has no tag, and not wired",
    ),
    (
        "core",
        &["a", "b"],
        RIGHT,
        &["guests"],
        "all: no, the client's tags are a or b, and not wired",
    ),
    (
        "core",
        &["wired"],
        "User-Name = \"b\\001b2\"",
        &[],
        "all: no, the user is b\\x01b2, and not *@example.com or b?b",
    ),
    (
        "core",
        &["wired"],
        "User-Name = \"bob\"",
        &[],
        "all: no, asked is NAS-Port = 1-48; it is not there",
    ),
    (
        "core",
        &["wired"],
        "User-Name = \"bob\", NAS-Port = 77",
        &[],
        "all: no, asked is NAS-Port = 1-48; it is 77",
    ),
    (
        "core",
        &["wired"],
        "User-Name = \"bob\", NAS-Port = 7",
        &[],
        "all: no, asked is Called-Station-Id there; it is not there",
    ),
    (
        "core",
        &["wired"],
        VIRTUAL,
        &[],
        "all: no, refused is NAS-Port-Type = Virtual; it is Virtual",
    ),
    (
        "core",
        &["wired"],
        RIGHT,
        &["x"],
        "all: no, the user is not in staff, guests or cn=x",
    ),
];

#[test]
fn every_condition_is_told_where_it_fails() {
    let all = Rule {
        clients: patterns(&["sw-*", "core"]),
        tags: patterns(&["wired"]),
        users: patterns(&["*@example.com", "b?b"]),
        groups: vec!["staff".into(), "guests".into(), "cn=x".into()],
        times: times(&["Mo"]),
        wanted: vec![is("NAS-Port", "1-48"), there("Called-Station-Id", true)],
        refused: vec![is("NAS-Port-Type", "Virtual")],
        ..rule("all", reject("no"))
    };
    let policy = Policy::new(vec![all]);
    for &(client, tags, attributes, groups, note) in FAILING {
        let said = ask(&policy, client, tags, attributes, groups, "");
        assert_eq!(
            (said.before.as_str(), said.notes.as_slice()),
            ("go None None", &[note.to_owned()] as &[_])
        );
        assert_eq!(said.reply.starts_with("reject"), note.ends_with("holds"), "{note}");
    }
}

#[test]
fn answers_are_changed_as_they_are_written() {
    let changed = |set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str], reply: &str| {
        let policy = Policy::new(vec![rule("x", go(None, edit(set, add, remove)))]);
        ask(&policy, "c", &[], "", &[], reply).reply
    };
    let vlan = [
        ("Tunnel-Type:1", "VLAN"),
        ("Tunnel-Medium-Type:1", "IEEE-802"),
        ("Tunnel-Private-Group-Id:1", "30"),
    ];
    assert_eq!(
        changed(
            &vlan,
            &[],
            &[],
            "Tunnel-Private-Group-Id:1 = \"7\", Tunnel-Private-Group-Id:2 = \"8\", Framed-MTU = 5"
        ),
        "Tunnel-Private-Group-Id:2 = \"8\", Framed-MTU = 5, Tunnel-Type:1 = VLAN, Tunnel-Medium-Type:1 = IEEE-802, \
         Tunnel-Private-Group-Id:1 = \"30\""
    );
    let set = [("Tunnel-Private-Group-Id", "30")];
    let given = "Tunnel-Private-Group-Id:1 = \"7\", Tunnel-Private-Group-Id:2 = \"8\"";
    assert_eq!(changed(&set, &[], &[], given), "Tunnel-Private-Group-Id = \"30\"");
    let add = [("Cisco-AVPair", "b"), ("Cisco-AVPair", "c")];
    let shown = "Cisco-AVPair = \"a\", Cisco-AVPair = \"b\", Cisco-AVPair = \"c\"";
    assert_eq!(changed(&[], &add, &[], "Cisco-AVPair = \"a\""), shown);
    assert_eq!(
        changed(
            &[],
            &[],
            &["Framed-IP-Address"],
            "Framed-IP-Address = 192.0.2.7, Framed-MTU = 5"
        ),
        "Framed-MTU = 5"
    );
    // Inside a tlv only what is meant goes, an empty one goes as a whole, and what is added shares one.
    let tlv = "Example-Plan = { Example-Rate = 1, Example-Colour = \"red\" }";
    assert_eq!(
        changed(&[], &[], &["Example-Rate"], tlv),
        "Example-Plan = { Example-Colour = \"red\" }"
    );
    assert_eq!(changed(&[], &[], &["Example-Rate", "Example-Colour"], tlv), "");
    assert_eq!(changed(&[], &[], &["Example-Plan"], tlv), "");
    let set = [("Example-Rate", "2"), ("Example-Colour", "blue")];
    assert_eq!(
        changed(&set, &[], &[], tlv),
        "Example-Plan = { Example-Rate = 2, Example-Colour = \"blue\" }"
    );
}

#[test]
fn what_cannot_be_set_is_told() {
    let dictionary = &*DICTIONARY;
    for (name, value, right) in [
        ("Message-Authenticator", "x", "belongs to the conversation itself"),
        ("Proxy-State", "x", "belongs to the conversation itself"),
        ("EAP-Message", "x", "belongs to the conversation itself"),
        ("State", "x", "belongs to the conversation itself"),
        ("User-Password", "x", "belongs to the conversation itself"),
        ("Tunnel-Password", "x", "a secret"),
        ("MS-MPPE-Send-Key", "x", "a secret"),
        ("Session-Timeout", "soon", "a number"),
        ("Framed-IP-Address", "192.0.2.0/24", "an IPv4 address"),
        ("Service-Type", "Framed", "a number, or a name of a value (Login-User"),
        ("Class", "0x0", "octets"),
        ("Reply-Message", "", "not nothing"),
        ("Vendor-Specific", "x", "those inside this one"),
    ] {
        let (definition, tag) = attribute(dictionary, name).unwrap();
        let mut edit = Edit::default();
        let wrong = edit
            .add(dictionary, definition, tag, &[Written::Text(value)])
            .expect_err(name);
        assert!(
            wrong.len() == 1 && wrong[0].0 == 0 && wrong[0].1.contains(right),
            "{name}: {wrong:?}"
        );
        assert!(edit.is_empty());
    }
    let (definition, _) = attribute(dictionary, "Cisco-AVPair").unwrap();
    let mut edit = Edit::default();
    let (long, most) = ("x".repeat(248), "x".repeat(247));
    assert!(
        edit.add(dictionary, definition, None, &[Written::Text(&long)])
            .unwrap_err()[0]
            .1
            .contains("253 octets")
    );
    for _ in 0..15 {
        edit.add(dictionary, definition, None, &[Written::Text(&most)]).unwrap();
        assert!(edit.fits(dictionary));
    }
    edit.add(dictionary, definition, None, &[Written::Text(&most)]).unwrap();
    edit.add(dictionary, definition, None, &[Written::Text(&most)]).unwrap();
    assert!(!edit.fits(dictionary));
    assert!(edit.remove(dictionary.named("State").unwrap(), None).is_err());
}

/// A rule without conditions that changes the answer.
fn set(name: &str) -> Rule {
    rule(name, go(None, edit(&[("Session-Timeout", "60")], &[], &[])))
}

fn idle(rules: Vec<Rule>) -> Vec<Idle> {
    Policy::new(rules).idle()
}

fn behind(rule: usize, by: usize, round: Round) -> Vec<Idle> {
    let why = Why::Behind { rule: by, round };
    vec![Idle { rule, why }]
}

#[test]
fn rules_that_are_of_no_use_are_found() {
    assert_eq!(idle(vec![set("a"), set("b")]), behind(1, 0, Round::After));
    let goes_on = Rule {
        continues: true,
        ..set("a")
    };
    assert_eq!(idle(vec![goes_on, set("b")]), []);
    // Another round is another matter, unless nobody gets there.
    assert_eq!(idle(vec![rule("a", go(Some(1), Edit::default())), set("b")]), []);
    assert_eq!(
        idle(vec![rule("a", reject("no")), set("b")]),
        behind(1, 0, Round::Before)
    );
    let some = Rule {
        users: patterns(&["a*"]),
        ..rule("a", go(Some(1), Edit::default()))
    };
    assert_eq!(idle(vec![some.clone(), rule("b", reject("no")), set("c")]), []);
    let goes_on = Rule {
        continues: true,
        ..some.clone()
    };
    assert_eq!(
        idle(vec![goes_on, rule("b", reject("no")), set("c")]),
        behind(2, 1, Round::Before)
    );
    let narrower = Rule {
        users: patterns(&["ab"]),
        ..rule("b", reject("no"))
    };
    assert_eq!(idle(vec![some.clone(), narrower.clone()]), behind(1, 0, Round::Before));
    assert_eq!(idle(vec![narrower, some]), []);
}

#[test]
fn conditions_decide_what_is_behind() {
    let hours = |text: &str, name: &str| Rule {
        times: times(&[text]),
        ..set(name)
    };
    assert_eq!(
        idle(vec![hours("Mo-Fr 08:00-18:00", "a"), hours("Tu 09:00-10:00", "b")]),
        behind(1, 0, Round::After)
    );
    assert_eq!(
        idle(vec![
            hours("Tu 09:00-10:00", "a"),
            hours("Tu 08:00-10:00", "b"),
            set("c")
        ]),
        []
    );
    assert_eq!(idle(vec![hours("Mo-Su", "a"), set("b")]), behind(1, 0, Round::After));
    let group = |all: &[&str], name: &str| Rule {
        groups: all.iter().map(|one| (*one).into()).collect(),
        ..set(name)
    };
    assert_eq!(
        idle(vec![group(&["x", "y"], "a"), group(&["y"], "b")]),
        behind(1, 0, Round::After)
    );
    assert_eq!(idle(vec![group(&["y"], "a"), group(&["x", "y"], "b"), set("c")]), []);
    let wants = |wanted, refused| Rule {
        wanted,
        refused,
        ..set("w")
    };
    let (port, narrow) = (|| vec![is("NAS-Port", "1-48")], || vec![is("NAS-Port", "7")]);
    assert_eq!(
        idle(vec![wants(port(), vec![]), wants(narrow(), vec![])]),
        behind(1, 0, Round::After)
    );
    assert_eq!(idle(vec![wants(narrow(), vec![]), wants(port(), vec![])]), []);
    assert_eq!(
        idle(vec![wants(vec![], narrow()), wants(vec![], port())]),
        behind(1, 0, Round::After)
    );
    assert_eq!(
        idle(vec![wants(narrow(), port())]),
        [Idle {
            rule: 0,
            why: Why::Contradicts
        }]
    );
    assert_eq!(idle(vec![wants(port(), narrow())]), []);
}

/// Few conditions, so that rules often are alike.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = (0..8usize, 0..4usize, 0..4usize, 0..4usize, any::<bool>(), any::<bool>());
    let rule = one.prop_map(|(action, user, port, group, time, continues)| {
        let name = format!("{action}{user}{port}{group}{time}{continues}");
        let timeout = || edit(&[("Session-Timeout", "60")], &[], &[]);
        let action = match action {
            0..3 => reject("no"),
            3 => go(Some(1), timeout()),
            4 => go(Some(1), Edit::default()),
            _ => go(None, timeout()),
        };
        let chooses = matches!(action, Action::Go { chain: Some(_), .. });
        Rule {
            users: patterns([&[] as &[&str], &["a*"], &["ab"], &["b", "ab"]][user]),
            wanted: [vec![], vec![is("NAS-Port", "1-2")], vec![is("NAS-Port", "1")], vec![]][port].clone(),
            refused: [vec![], vec![], vec![], vec![is("NAS-Port", "1")]][port].clone(),
            groups: if chooses {
                vec![]
            } else {
                [vec![], vec![], vec!["g".into()], vec!["g".into(), "h".into()]][group].clone()
            },
            not_groups: if chooses {
                vec![]
            } else {
                [vec![], vec!["h".into()], vec![], vec!["h".into()]][group].clone()
            },
            times: times(if time { &["Mo"] } else { &[] }),
            continues: continues && !matches!(action, Action::Reject(_)),
            ..rule(&name, action)
        }
    });
    proptest::collection::vec(rule, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is called idle never does anything, for any request there can be.
    #[test]
    fn nothing_is_called_idle_that_is_not(rules in rules()) {
        let mut rules = rules;
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.name = at.to_string().into();
        }
        let policy = Policy::new(rules);
        let idle = policy.idle();
        prop_assume!(!idle.is_empty());
        let dictionary = &*DICTIONARY;
        for (user, port, groups, day) in (0..81).map(|at| {
            (["a", "ab", "b"][at % 3], ["1", "2", "3"][at / 3 % 3], [&[] as &[&str], &["g"], &["h"]][at / 9 % 3], [0, 1, 0][at / 27])
        }) {
            let octets = request(&format!("User-Name = \"{user}\", NAS-Port = {port}"));
            let packet = Packet::parse(&octets).unwrap();
            let asked = Asked {
                packet: &packet,
                client: "c",
                tags: &[],
                user: user.as_bytes(),
                moment: Moment::new(day, 0).unwrap(),
                dictionary,
            };
            let mut held = Vec::new();
            let mut note = |note: Note<'_>| {
                if note.fails.is_none() {
                    held.push((note.rule.name.parse::<usize>().unwrap(), note.round));
                }
            };
            if let Before::Go { .. } = policy.before(&asked, &mut note) {
                policy.after(&asked, &mut |group| groups.contains(&group), &mut note);
            }
            for one in &idle {
                let acts = |round| policy.rules()[one.rule].acts(round);
                let is_idle = |round| match one.why {
                    Why::Contradicts => true,
                    // All of it is, where it has nothing to do in the round that ends before it.
                    Why::Behind { round: of, .. } => round == of || !acts(of),
                };
                let does = held.iter().any(|(rule, round)| *rule == one.rule && is_idle(*round));
                prop_assert!(!does, "{one:?} {held:?} {policy:?}");
            }
        }
    }
}
