//! Where rules meet requests.

use super::backends::{NO, YES};
use super::world::{World, users};
use super::*;
use crate::radius::policy::{Action, Edit, Moment, Pattern, Policy, Rule, Written};
use crate::radius::users::{User, Users};
use proptest::prelude::*;

fn named(name: &str, user: &str, action: Action) -> Rule {
    let mut rule = Rule::new(name);
    if !user.is_empty() {
        rule.users = vec![Pattern::read(user).unwrap()];
    }
    rule.action = action;
    rule
}

fn edit(name: &str, value: &str) -> Edit {
    let dictionary = dictionary();
    let known = dictionary.named(name).unwrap();
    let mut edit = Edit::default();
    edit.remove(known, None).unwrap();
    edit.add(&dictionary, known, None, &[Written::Text(value)]).unwrap();
    edit
}

fn go(chain: Option<usize>, edit: Edit) -> Action {
    Action::Go { chain, edit }
}

const LIST: &str = "alice Cleartext-Password := a\n        Session-Timeout = 60, Filter-Id = \"own\"\n\
                    guest Cleartext-Password := a\n";

fn world(rules: Vec<Rule>) -> World {
    World::with(vec![users(LIST), users("guest Cleartext-Password := g\n")], |plan| {
        plan.chains[0].links.truncate(1);
        plan.chains.push(Chain {
            name: "guests".into(),
            mode: Mode::First,
            links: vec![Link {
                backend: 1,
                unavailable: Unavailable::Silence,
            }],
        });
        plan.policy = Arc::new(Policy::new(rules));
    })
}

#[test]
fn a_rule_chooses_the_chain_or_rejects_before_anybody_is_asked() {
    let mut world = world(vec![
        named("barred", "bar*", Action::Reject(Some("go away".into()))),
        named("guests", "guest", go(Some(1), Edit::default())),
    ]);
    assert_eq!(world.ask("User-Name = guest, User-Password = g").code, YES);
    assert_eq!(world.ask("User-Name = guest, User-Password = a").code, NO);
    assert_eq!(world.ask("User-Name = alice, User-Password = a").code, YES);
    let asked = |world: &World| {
        world
            .front
            .figures()
            .backends
            .iter()
            .map(|one| one.yes + one.no + one.not_found)
            .sum::<u64>()
    };
    let before = asked(&world);
    let came = world.ask("User-Name = barry, User-Password = a");
    assert_eq!((came.code, asked(&world)), (NO, before), "nobody was asked");
    assert_eq!(came.shown(&world.dictionary), "Reply-Message = \"go away\"");
}

#[test]
fn a_rule_changes_what_an_accept_carries_and_nothing_makes_a_yes_of_a_no() {
    let mut world = world(vec![named("short", "", go(None, edit("Session-Timeout", "5")))]);
    let came = world.ask("User-Name = alice, User-Password = a");
    assert_eq!(came.code, YES);
    assert_eq!(
        came.shown(&world.dictionary),
        "Filter-Id = \"own\", Session-Timeout = 5"
    );
    let came = world.ask("User-Name = alice, User-Password = b");
    assert_eq!((came.code, came.shown(&world.dictionary)), (NO, String::new()));
}

#[test]
fn a_rule_knows_the_groups_of_a_list_and_the_local_time() {
    let mut list = Users::default();
    for (name, group) in [("in", "Staff"), ("out", "others")] {
        let user = User {
            password: Some(Zeroizing::new(b"p".to_vec())),
            groups: Box::new([group.into()]),
            ..User::default()
        };
        assert!(list.add(name.as_bytes(), user));
    }
    let mut others = named("others", "", Action::Reject(Some("staff only".into())));
    others.groups = vec!["others".into()];
    let mut night = named("night", "", Action::Reject(None));
    night.times.add("Mo-Su 22:00-06:00").unwrap();
    let mut world = World::with(vec![Kind::Users(Arc::new(list))], |plan| {
        plan.policy = Arc::new(Policy::new(vec![others, night]));
        plan.needs_groups = true;
    });
    let until = world.now + Span::from_secs(99);
    world
        .front
        .plan
        .traces
        .add(crate::radius::trace::Who::Client("nas".into()), until, world.now);
    world.front.local_time(Moment::new(2, 12 * 60).unwrap());
    assert_eq!(world.ask("User-Name = in, User-Password = p").code, YES);
    let came = world.ask("User-Name = out, User-Password = p");
    assert_eq!(came.shown(&world.dictionary), "Reply-Message = \"staff only\"");
    world.front.local_time(Moment::new(2, 23 * 60).unwrap());
    assert_eq!(world.ask("User-Name = in, User-Password = p").code, NO);
    let told = world.traced.join("\n");
    assert!(told.contains("rule others: no, the user is not in others"), "{told}");
    assert!(
        told.contains("rule others: holds") && told.contains("rule night: holds"),
        "{told}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever a client that knows its secret sends, nothing panics and nobody is let in.
    #[test]
    fn nobody_is_let_in_by_noise(
        attributes in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..12),
        microsoft in prop::collection::vec((prop::sample::select(vec![1u8, 3, 4, 6, 11, 25, 27]), 0usize..90), 0..5),
    ) {
        let mut world = world(vec![named("short", "", go(None, edit("Session-Timeout", "5")))]);
        let secret = Secret::new(world::SECRET);
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer.attribute(number::USER_NAME, b"alice").unwrap();
        for (number, value) in attributes {
            if number != number::MESSAGE_AUTHENTICATOR && number != number::USER_NAME {
                writer.attribute(number, &value).unwrap();
            }
        }
        for (number, length) in microsoft {
            writer.vendor(wire::radius::mschap::VENDOR, number, &vec![7; length]).unwrap();
        }
        writer.finish(&secret).unwrap();
        let came = world.play(out, &mut |_| panic!("nobody is to be asked"));
        prop_assert_eq!(came.code, NO);
    }
}
