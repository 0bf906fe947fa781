//! What each kind of back end is asked, and what its answers mean.

use super::super::plan::{Check, DN_PLACE, Directory, GroupSearch, Groups, ReplyMap, USER_NAME_PLACE};
use super::world::{Answer, Asked, World, users};
use super::*;
use crate::ask::Scope;
use crate::ask::example::entry;
use crate::ask::template::Template;
use crate::radius::policy::{Action, Edit, Policy, Rule, Written};

pub(super) const YES: Option<Code> = Some(Code::ACCESS_ACCEPT);
pub(super) const NO: Option<Code> = Some(Code::ACCESS_REJECT);
pub(super) const SSHA: &str = "{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA==";

pub(super) fn directory() -> Directory {
    Directory {
        pool: 3,
        bases: vec!["ou=people".into()],
        scope: Scope::Subtree,
        filter: Template::braces("(uid={User-Name})", &[USER_NAME_PLACE]).unwrap(),
        check: Check::Bind,
        groups: None,
        reply: Vec::new(),
    }
}

pub(super) fn fetching() -> Directory {
    Directory {
        check: Check::Fetch {
            password: "userPassword".into(),
            nt: Some("sambaNTPassword".into()),
        },
        ..directory()
    }
}

pub(super) fn service(form: Form) -> Kind {
    Kind::Service(Service { pool: 5, form })
}

pub(super) fn ldap(world: &mut World, attributes: &str, answers: &[Answer]) -> world::Came {
    let request = world.request(attributes, &[]);
    let mut answers = answers.iter();
    world.play(request, &mut |asked| match asked {
        Asked::Ldap(_) => answers.next().expect("nothing more is asked").clone(),
        Asked::Call(call) => panic!("{call}"),
    })
}

pub(super) fn one(attributes: &[(&str, &[&str])]) -> Answer {
    Answer::Ldap(vec![entry("uid=bob,ou=people", attributes)], 0)
}

#[test]
fn a_directory_is_searched_and_bound_to_or_compared_with() {
    let bob = "User-Name = bob, User-Password = secret";
    let (none, two) = (
        Answer::Ldap(vec![], 0),
        Answer::Ldap(vec![entry("uid=bob,ou=a", &[]), entry("uid=bob,ou=b", &[])], 0),
    );
    for (answers, expected, asked) in [
        (vec![one(&[]), Answer::Ldap(vec![], 0)], YES, vec!["Shared", "Bind"]),
        (vec![one(&[]), Answer::Ldap(vec![], 49)], NO, vec!["Shared", "Bind"]),
        (vec![one(&[]), Answer::Ldap(vec![], 52)], None, vec!["Shared", "Bind"]),
        (vec![one(&[]), Answer::Failed], None, vec!["Shared", "Bind"]),
        (vec![none], NO, vec!["Shared"]),
        (vec![two], NO, vec!["Shared"]),
        (vec![Answer::Ldap(vec![], 51)], None, vec!["Shared"]),
        (vec![Answer::Ldap(vec![], 4)], NO, vec!["Shared"]),
    ] {
        let mut world = World::new(vec![Kind::Directory(directory())]);
        let came = ldap(&mut world, bob, &answers);
        assert_eq!(
            (came.code, &came.asked),
            (expected, &asked.iter().map(ToString::to_string).collect())
        );
    }
    let dear = "{CRYPT}$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.";
    let nt = "878D8014606CDA29677A44EFA1353FC7"; // of "secret"
    for (attributes, expected, compared) in [
        (vec![("userPassword", &["secret"][..])], YES, 0),
        (vec![("USERPASSWORD", &["{CLEARTEXT}other", SSHA])], YES, 0),
        (vec![("userPassword", &["other"])], NO, 0),
        (vec![("userPassword", &[dear])], YES, 1),
        (vec![("userPassword", &["{CRYPT}$5$other$x", dear])], YES, 1),
        (vec![("sambaNTPassword", &[nt])], YES, 0),
        (vec![("userPassword", &["other"]), ("sambaNTPassword", &[nt])], NO, 0),
        (vec![("userPassword", &["{STRANGE}x"])], NO, 0),
        (vec![], NO, 0),
    ] {
        let mut world = World::new(vec![Kind::Directory(fetching())]);
        let came = ldap(&mut world, bob, &[one(&attributes)]);
        assert_eq!(came.code, expected, "{attributes:?}");
        assert!(came.asked.iter().filter(|asked| *asked == "compare").count() >= compared);
    }
}

#[test]
fn what_a_directory_cannot_judge_is_not_wrong_but_asked_of_the_next() {
    let asked_next = |directory: Directory, attributes: &str, entry: Answer| {
        let next = users("bob Cleartext-Password := secret\n");
        let mut world = World::new(vec![Kind::Directory(directory), next]);
        ldap(&mut world, attributes, &[entry, Answer::Ldap(vec![], 49)]).code
    };
    let bob = "User-Name = bob, User-Password = secret";
    let strange: &[(&str, &[&str])] = &[("userPassword", &["{STRANGE}x"])];
    assert_eq!(asked_next(fetching(), bob, one(&[])), YES, "no password is shown");
    assert_eq!(
        asked_next(fetching(), bob, one(strange)),
        YES,
        "it is in a strange form"
    );
    assert_eq!(
        asked_next(fetching(), bob, one(&[("userPassword", &["other"])])),
        NO,
        "it is another"
    );
    assert_eq!(
        asked_next(directory(), bob, one(&[])),
        NO,
        "the bind says that it is wrong"
    );
    // CHAP of "secret" with the authenticator of the first request.
    use md5::{Digest as _, Md5};
    let digest = Md5::new()
        .chain_update([7])
        .chain_update("secret")
        .chain_update([1; 16])
        .finalize();
    let shown: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let chap = format!("User-Name = bob, CHAP-Password = 0x07{shown}");
    assert_eq!(
        asked_next(directory(), &chap, Answer::Failed),
        YES,
        "a bind cannot judge CHAP, and is not tried"
    );
    assert_eq!(asked_next(fetching(), &chap, one(&[("userPassword", &[SSHA])])), YES);
    assert_eq!(asked_next(fetching(), &chap, one(&[("userPassword", &["other"])])), NO);
    assert_eq!(
        asked_next(fetching(), &chap, one(&[("userPassword", &["secret"])])),
        YES
    );
}

#[test]
fn attributes_of_an_entry_become_those_of_the_accept_and_what_does_not_fit_is_told() {
    let dictionary = dictionary();
    let path = |name: &str| dictionary.named(name).unwrap().path;
    let map = |name: &str, tag| ReplyMap::Attribute { path: path(name), tag };
    let directory = Directory {
        reply: vec![
            ("radiusVlan".into(), map("Tunnel-Private-Group-Id", Some(1))),
            ("radiusTimeout".into(), map("Session-Timeout", None)),
            ("radiusReply".into(), ReplyMap::List),
        ],
        ..directory()
    };
    let mut world = World::with(vec![Kind::Directory(directory)], |_| {});
    let until = world.now + Span::from_secs(99);
    world
        .front
        .plan
        .traces
        .add(crate::radius::trace::Who::User("bob".into()), until, world.now);
    let found = one(&[
        ("radiusvlan", &["30"]),
        ("radiusTimeout", &["soon", "60"]),
        (
            "radiusReply",
            &["Filter-Id = \"a, b\", Tunnel-Type:1 = VLAN", "No-Such = 1"],
        ),
    ]);
    let answers = [found, Answer::Ldap(vec![], 0)];
    let came = ldap(&mut world, "User-Name = bob, User-Password = secret", &answers);
    assert_eq!(
        came.shown(&world.dictionary),
        "Tunnel-Private-Group-Id:1 = \"30\", Session-Timeout = 60, Filter-Id = \"a, b\", Tunnel-Type:1 = VLAN"
    );
    let told = world.traced.join("\n");
    for line in [
        "Access-Request from client nas at 10.0.0.1:1: User-Name = \"bob\", User-Password = (not shown)",
        "b0 is asked",
        "a value of radiusTimeout is passed over: right is a number",
        "a value of radiusReply is passed over",
        "b0 says yes",
        "Access-Accept after 2ms: Tunnel-Private-Group-Id:1 = \"30\"",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

/// A rule that rejects whoever is not in one of these groups.
pub(super) fn only(group: &str, dictionary: &Dictionary) -> Arc<Policy> {
    let mut inside = Rule::new("inside");
    inside.groups = vec![group.into()];
    let mut edit = Edit::default();
    let known = dictionary.named("Filter-Id").unwrap();
    edit.add(dictionary, known, None, &[Written::Text("in")]).unwrap();
    inside.action = Action::Go { chain: None, edit };
    let mut outside = Rule::new("outside");
    outside.groups = vec!["everybody".into()];
    outside.action = Action::Reject(Some("not you".into()));
    Arc::new(Policy::new(vec![inside, outside]))
}

/// Whether bob turns out to be in a group; none: that cannot be known. All the answers are needed for it.
fn is_in(group: &str, groups: &Groups, answers: &[Answer]) -> Option<bool> {
    let directory = Directory {
        groups: Some(groups.clone()),
        ..directory()
    };
    let mut world = World::with(vec![Kind::Directory(directory)], |plan| {
        plan.policy = only(group, &plan.dictionary);
        plan.needs_groups = true;
    });
    let came = ldap(&mut world, "User-Name = bob, User-Password = secret", answers);
    assert_eq!(came.asked.len(), answers.len(), "{group} {groups:?}");
    came.code?;
    assert_eq!(came.code, YES);
    Some(came.find(&world.dictionary, "Filter-Id").is_some())
}

fn nothing(code: u32) -> Answer {
    Answer::Ldap(vec![], code)
}

#[test]
fn groups_are_what_an_attribute_says_and_what_theirs_say_as_deep_as_is_asked() {
    let by = |nested, groups_max| Groups {
        attribute: Some("memberOf".into()),
        search: None,
        nested,
        groups_max,
    };
    let found = |dn, of| Answer::Ldap(vec![entry(dn, &[("memberOf", &[of])])], 0);
    let own = one(&[("memberOf", &["cn=staff,ou=groups", "plain"])]);
    let (staff, all) = ("cn=staff,ou=groups", "cn=all,ou=groups");
    let answers = [own, nothing(0), found(staff, all), found(all, staff)];
    assert_eq!(is_in("staff", &by(0, 9), &answers[..2]), Some(true));
    assert_eq!(is_in("CN=staff,ou=groups", &by(0, 9), &answers[..2]), Some(true));
    assert_eq!(is_in("plain", &by(0, 9), &answers[..2]), Some(true));
    assert_eq!(is_in("all", &by(0, 9), &answers[..2]), Some(false));
    assert_eq!(is_in("all", &by(1, 9), &answers[..3]), Some(true));
    assert_eq!(is_in("all", &by(5, 9), &answers), Some(true), "a circle ends");
    assert_eq!(is_in("all", &by(5, 2), &answers[..3]), None, "too many");
    let [own, bound, ..] = answers;
    assert_eq!(is_in("all", &by(5, 9), &[own, bound, Answer::Failed]), None);
}

#[test]
fn groups_are_what_a_search_finds() {
    let places = [DN_PLACE, USER_NAME_PLACE];
    let by = |nested| Groups {
        attribute: None,
        search: Some(GroupSearch {
            bases: vec!["ou=groups".into()],
            scope: Scope::Subtree,
            filter: Template::braces("(|(member={dn})(memberUid={User-Name}))", &places).unwrap(),
            name: "cn".into(),
        }),
        nested,
        groups_max: 9,
    };
    let staff = Answer::Ldap(vec![entry("cn=staff,ou=groups", &[("cn", &["staff", "Crew"])])], 0);
    let answers = [one(&[]), nothing(0), staff, nothing(0)];
    assert_eq!(is_in("crew", &by(0), &answers[..3]), Some(true));
    assert_eq!(is_in("crew", &by(1), &answers), Some(true));
    assert_eq!(is_in("crew", &by(0), &[one(&[]), nothing(0), nothing(0)]), Some(false));
    assert_eq!(is_in("crew", &by(0), &[one(&[]), nothing(0), nothing(51)]), None);
}

#[test]
fn nobody_is_asked_for_groups_that_nobody_wants() {
    let directory = Directory {
        groups: Some(Groups {
            attribute: Some("memberOf".into()),
            search: None,
            nested: 5,
            groups_max: 9,
        }),
        ..directory()
    };
    let mut world = World::new(vec![Kind::Directory(directory)]);
    let answers = [one(&[("memberOf", &["cn=staff,ou=groups"])]), Answer::Ldap(vec![], 0)];
    assert_eq!(
        ldap(&mut world, "User-Name = bob, User-Password = secret", &answers).code,
        YES
    );
}
