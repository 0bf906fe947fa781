//! Groups, their members however they are named, and the groups of a user.

use engine::session::nss_pam::maps::{Maps, Schema};
use wire::nslcd::{self, Key};

use crate::world::{World, answered, group, maps, settings};

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
