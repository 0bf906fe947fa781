//! Groups, their members however they are named, and the groups of a user.

use engine::ask::{Event, Final, Question};
use engine::session::nss_pam::maps::{Maps, Schema};
use engine::session::nss_pam::{Circumstances, Next, Session};
use wire::ldap::{envelope, grammar, message};
use wire::nslcd::{self, Key};

use crate::world::{TODAY, World, answered, group, maps, settings};

fn told(key: Key<'_>, maps: Maps, expected: &[(&str, u32, &[&str])]) {
    let request = group(key);
    let expected = answered(&request, |out| {
        for (name, gid, members) in expected {
            let members: Vec<&[u8]> = members.iter().map(|member| member.as_bytes()).collect();
            nslcd::group(out, name.as_bytes(), b"*", *gid, members.into_iter());
        }
    });
    let settings = settings(maps);
    let mut world = World::new();
    let found = world.ask(&request, &settings, 1);
    assert_eq!(
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(&expected),
        "{request:?}"
    );
    // Whatever is not answered, nothing is said to be whole.
    for number in 0..world.asked {
        let mut world = World::new();
        world.fails = Some(number);
        let broken = world.ask(&request, &settings, 1);
        assert!(
            broken.len() < found.len() || !broken.ends_with(&[0, 0, 0, 2]),
            "{request:?}, {number}"
        );
    }
}

fn nested(schema: Schema) -> Maps {
    Maps {
        nested: true,
        ..maps(schema)
    }
}

#[test]
fn members_are_names_or_entries_or_both() {
    for key in [Key::Name(b"staff"), Key::Id(2001)] {
        told(key, maps(Schema::Rfc2307), &[("staff", 2001, &["alice", "zoe"])]);
        told(
            key,
            maps(Schema::Rfc2307bis),
            &[("staff", 2001, &["alice", "bob", "zoe"])],
        );
    }
    told(
        Key::Name(b"inner"),
        maps(Schema::Rfc2307bis),
        &[("inner", 2002, &["alice", "old"])],
    );
    told(Key::Name(b"empty"), maps(Schema::Rfc2307bis), &[("empty", 2003, &[])]);
    told(Key::Name(b"nothing"), maps(Schema::Rfc2307bis), &[]);
}

#[test]
fn groups_in_groups_are_followed_and_circles_end() {
    let all = ["alice", "bob", "old", "zoe"];
    told(
        Key::Name(b"staff"),
        nested(Schema::Rfc2307bis),
        &[("staff", 2001, &all)],
    );
    told(
        Key::Name(b"inner"),
        nested(Schema::Rfc2307bis),
        &[("inner", 2002, &all)],
    );
}

#[test]
fn all_groups_are_told() {
    told(
        Key::All,
        maps(Schema::Rfc2307bis),
        &[
            ("staff", 2001, &["alice", "bob", "zoe"]),
            ("inner", 2002, &["alice", "old"]),
            ("empty", 2003, &[]),
        ],
    );
    let mut some = maps(Schema::Rfc2307);
    some.gid_min = 2002;
    told(Key::All, some, &[("inner", 2002, &[]), ("empty", 2003, &[])]);
}

#[test]
fn a_user_s_groups() {
    let of = |name: &'static [u8], maps, groups: &[(&str, u32)]| {
        let groups: Vec<(&str, u32, &[&str])> = groups.iter().map(|(name, gid)| (*name, *gid, [].as_slice())).collect();
        told(Key::Member(name), maps, &groups);
    };
    of(b"alice", maps(Schema::Rfc2307), &[("staff", 2001)]);
    of(b"alice", maps(Schema::Rfc2307bis), &[("staff", 2001), ("inner", 2002)]);
    of(b"bob", maps(Schema::Rfc2307bis), &[("staff", 2001)]);
    of(b"bob", nested(Schema::Rfc2307bis), &[("staff", 2001), ("inner", 2002)]);
    of(b"old", nested(Schema::Rfc2307bis), &[("inner", 2002), ("staff", 2001)]);
    of(b"zoe", maps(Schema::Rfc2307bis), &[("staff", 2001)]);
    of(b"stranger", nested(Schema::Rfc2307bis), &[]);
    of(b"*", nested(Schema::Rfc2307bis), &[]);
}

/// Active Directory tells 1,500 members at a time.
#[test]
fn members_that_come_in_ranges_are_all_told() {
    let ranges: [(&str, &[&str]); 3] = [
        ("member;range=0-1", &["cn=a", "cn=b"]),
        ("member;Range=2-3", &["cn=c", "cn=d"]),
        ("member;range=4-*", &["cn=e"]),
    ];
    let (asked, out) = in_ranges(&ranges);
    let names: Vec<&[u8]> = vec![b"a", b"b", b"c", b"d", b"e"];
    let request = group(Key::Name(b"big"));
    let expected = answered(&request, |out| nslcd::group(out, b"big", b"*", 7, names.into_iter()));
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    assert_eq!(asked, ["member;range=2-*", "member;range=4-*"]);
    // A server that tells the same range again and again is given up.
    let (_, out) = in_ranges(&[ranges[0], ranges[1], ranges[1]]);
    assert_eq!(out.len(), 8, "no half of a group is told");
}

/// The ranges that are asked for, where each is answered with the next of these, and the answer.
fn in_ranges(ranges: &[(&str, &[&str])]) -> (Vec<String>, Vec<u8>) {
    let settings = settings(maps(Schema::ActiveDirectory));
    let (mut session, mut out, mut frame) = (
        Session::new(Circumstances {
            uid: None,
            today: TODAY,
            number: 1,
        }),
        Vec::new(),
        Vec::new(),
    );
    group(Key::Name(b"big")).write(&mut frame);
    let mut next = session.receive(&frame, &settings, &mut out);
    let (mut rest, mut asked) = (ranges.iter(), Vec::new());
    while next == Next::Wait {
        let question = session.question().expect("it waits for something");
        let (base, attributes) = looked_for(&question);
        let mut entry = Vec::new();
        if base.starts_with("cn=") && base != "cn=big" {
            let name = base.trim_start_matches("cn=").as_bytes().to_vec();
            let values: [(&str, Vec<u8>); 3] = [
                ("sAMAccountName", name),
                ("uidNumber", b"5".to_vec()),
                ("gidNumber", b"7".to_vec()),
            ];
            write_entry(&mut entry, &base, &values);
        } else {
            asked.extend(attributes.into_iter().filter(|name| name.contains("range")));
            let (name, members) = rest.next().expect("no more is asked than there is");
            let mut values: Vec<(&str, Vec<u8>)> =
                vec![("sAMAccountName", b"big".to_vec()), ("gidNumber", b"7".to_vec())];
            values.extend(members.iter().map(|member| (*name, member.as_bytes().to_vec())));
            write_entry(&mut entry, "cn=big", &values);
        }
        let env = envelope::peek(&entry).expect("a message");
        let found = message::read_entry(env.op).expect("an entry");
        next = session.told(question.id, &Event::Entry(found), &settings, &mut out);
        let end = Final {
            code: 0,
            diagnostic: b"",
            controls: b"",
        };
        if next == Next::Wait {
            next = session.told(question.id, &Event::Done(end), &settings, &mut out);
        }
    }
    (asked, out)
}

fn looked_for(question: &Question) -> (String, Vec<String>) {
    let env = envelope::peek(&question.bytes).expect("a message");
    let search = grammar::search(env.op).expect("a search");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(search.base), search.attributes.map(text).collect())
}

/// An entry; values of one name stand together.
fn write_entry(out: &mut Vec<u8>, dn: &str, values: &[(&str, Vec<u8>)]) {
    message::write_entry_with(out, 1, dn.as_bytes(), |out| {
        for group in values.chunk_by(|one, other| one.0 == other.0) {
            message::write_attribute(
                out,
                group[0].0.as_bytes(),
                group.iter().map(|(_, value)| value.as_slice()),
            );
        }
    });
}
