//! Random writes beside a model, and what must hold in every directory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::ldap::grammar::Scope;
use wire::ldap::result::code;

use super::super::Directory;
use super::super::index::keys;
use super::super::write::Writing;
use super::write::{REPLACE, Writer};
use super::{BASE, Client};

/// What must hold in every directory.
pub(super) fn check(directory: &Directory) {
    let mut entries = 0;
    let mut bytes = 0;
    let mut pairs = 0;
    let mut uuids = std::collections::HashSet::new();
    for (at, node) in directory.nodes.iter().enumerate() {
        let id = super::super::entry::EntryId(u32::try_from(at).unwrap());
        let Some(node) = node else {
            assert!(directory.free.contains(&id));
            continue;
        };
        entries += 1;
        bytes += node.entry.bytes();
        let mut all: Vec<u64> = keys(&node.entry).collect();
        all.sort_unstable();
        all.dedup();
        pairs += all.len();
        assert!(uuids.insert(node.entry.uuid));
        assert_eq!(directory.find(&node.entry.normal_dn).unwrap().0, id);
        match node.parent {
            None => assert_eq!(id, directory.suffix),
            Some(parent) => {
                let above = directory.node(parent).unwrap();
                assert_eq!(above.children.iter().filter(|child| **child == id).count(), 1);
                assert_eq!(
                    wire::ldap::dn::normal_parent(&node.entry.normal_dn),
                    Some(&*above.entry.normal_dn)
                );
            }
        }
        assert!(
            node.children
                .iter()
                .all(|child| directory.node(*child).unwrap().parent == Some(id))
        );
        for attribute in node.entry.attributes() {
            for form in node.entry.forms(attribute) {
                assert!(directory.index.find(attribute.kind, form).contains(&id));
            }
        }
        assert!(node.entry.csn <= directory.log.newest());
    }
    assert_eq!((entries, bytes), (directory.entries, directory.bytes));
    assert_eq!(directory.index.pairs(), pairs, "nothing is left in the index");
    assert_eq!(directory.free.len() + entries, directory.nodes.len());
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Add(String),
    Delete(String),
    Rename(String, String, bool, Option<String>),
    Title(String, Option<String>),
}

/// Few names, so that they meet.
fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4)
        .prop_map(|path| path.iter().map(|ou| format!("ou={ou},")).collect::<String>() + BASE)
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => name().prop_map(Step::Add),
        2 => name().prop_map(Step::Delete),
        2 => (name(), "[abc]", any::<bool>(), proptest::option::of(name()))
            .prop_map(|(dn, ou, old, superior)| Step::Rename(dn, ou, old, superior)),
        2 => (name(), proptest::option::of("[xyz]")).prop_map(|(dn, title)| Step::Title(dn, title)),
    ]
}

/// Does it to the directory; the code.
pub(super) fn act(writer: &mut Writer, step: &Step) -> u32 {
    match step {
        Step::Add(dn) => writer.add_unit(dn).0,
        Step::Delete(dn) => writer.delete(dn).0,
        Step::Rename(dn, ou, delete_old, superior) => {
            writer.rename(dn, &format!("ou={ou}"), *delete_old, superior.as_deref())
        }
        Step::Title(dn, Some(title)) => writer.modify(dn, &[(REPLACE, "title", &[title])]),
        Step::Title(dn, None) => writer.modify(dn, &[(REPLACE, "title", &[])]),
    }
}

/// Names below the base, with their values of `ou` and `title`.
type Model = BTreeMap<String, (Vec<String>, Option<String>)>;

fn parent(dn: &str) -> &str {
    dn.split_once(',').unwrap().1
}

fn act_on_model(model: &mut Model, step: &Step) -> u32 {
    let is_there = |model: &Model, dn: &str| dn == BASE || model.contains_key(dn);
    match step {
        Step::Add(dn) if is_there(model, dn) => code::ENTRY_ALREADY_EXISTS,
        Step::Add(dn) if !is_there(model, parent(dn)) => code::NO_SUCH_OBJECT,
        Step::Add(dn) => {
            let ou = dn.split(['=', ',']).nth(1).unwrap().to_owned();
            model.insert(dn.clone(), (vec![ou], None));
            0
        }
        Step::Delete(dn) | Step::Rename(dn, ..) | Step::Title(dn, _) if !model.contains_key(dn) => code::NO_SUCH_OBJECT,
        Step::Delete(dn) if model.keys().any(|other| parent(other) == dn) => code::NOT_ALLOWED_ON_NON_LEAF,
        Step::Delete(dn) => {
            model.remove(dn);
            0
        }
        Step::Title(dn, title) => {
            model.get_mut(dn).unwrap().1.clone_from(title);
            0
        }
        Step::Rename(dn, ou, delete_old, superior) => {
            let above = superior.clone().unwrap_or_else(|| parent(dn).to_owned());
            let new = format!("ou={ou},{above}");
            if !is_there(model, &above) {
                return code::NO_SUCH_OBJECT;
            }
            if above == *dn || above.ends_with(&format!(",{dn}")) {
                return code::UNWILLING_TO_PERFORM;
            }
            if new != *dn && is_there(model, &new) {
                return code::ENTRY_ALREADY_EXISTS;
            }
            let old_ou = dn.split(['=', ',']).nth(1).unwrap();
            let below: Vec<String> = model
                .keys()
                .filter(|name| name.ends_with(&format!(",{dn}")))
                .cloned()
                .collect();
            let mut moved = model.remove(dn).unwrap();
            if *delete_old {
                moved.0.retain(|value| value != old_ou || value == ou);
            }
            if !moved.0.contains(ou) {
                moved.0.push(ou.clone());
            }
            let below: Vec<_> = below
                .into_iter()
                .map(|name| (name.clone(), model.remove(&name).unwrap()))
                .collect();
            for (name, value) in below {
                model.insert(format!("{}{new}", name.strip_suffix(dn.as_str()).unwrap()), value);
            }
            model.insert(new, moved);
            0
        }
    }
}

pub(super) fn small() -> Directory {
    let file = format!(
        "dn: {BASE}\nobjectClass: organization\nobjectClass: dcObject\no: x\ndc: example\nuserPassword: secret\n"
    );
    let mut directory = Directory::load(file.as_bytes(), "x", None, 1_795_233_600_000_000).unwrap();
    let writing = Writing {
        admins: vec![BASE.to_owned()],
        entries_max: 1000,
        bytes_max: 1 << 24,
        changes_max: 40,
    };
    directory.make_writable(&writing).unwrap();
    directory
}

pub(super) fn small_writer() -> Writer {
    Writer::of_small(small(), 1_795_233_601_000_000)
}

proptest! {
    /// Random writes: the same codes as the model's, the same content, every invariant, and it survives a file.
    #[test]
    fn writes_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let mut writer = small_writer();
        let mut model = Model::new();
        for step in &steps {
            let before = writer.client.directory.clone();
            let changes = before.changes();
            let code = act(&mut writer, step);
            prop_assert_eq!(code, act_on_model(&mut model, step), "{:?}", step);
            prop_assert_eq!(before.changes(), changes, "what others read is not touched");
            prop_assert_eq!(code == 0, writer.client.directory.changes() > changes);
            check(&writer.client.directory);
        }
        let mut out = Vec::new();
        writer.client.directory.export(b"", false, &mut out);
        let again = Directory::load(&out, "again", None, 0).unwrap();
        check(&again);
        for directory in [writer.client.directory.clone(), again] {
            let (_, found) = Client::of(directory).search(BASE, Scope::Subordinate, "(objectClass=*)", &["ou", "title"]);
            let found: Model = found.into_iter().map(|(dn, attributes)| {
                let of = |name: &str| attributes.iter().filter(|(n, _)| n == name).flat_map(|(_, v)| v.clone()).collect::<Vec<_>>();
                (dn, (of("ou"), of("title").pop()))
            }).collect();
            prop_assert_eq!(&found, &model);
        }
    }
}
