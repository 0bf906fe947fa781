//! The directory against a model: the same entries and the same filter, evaluated by the book (RFC 4511 section
//! 4.5.1.7, recursively, value by value, without forms, index or program).

use proptest::prelude::*;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;

use super::super::Directory;
use super::Client;

#[derive(Clone, Debug)]
struct Item {
    ou: usize,
    cn: Vec<String>,
    sn: Option<String>,
    number: Option<i32>,
    made_up: Option<String>,
}

#[derive(Clone, Debug)]
enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    Equal(&'static str, String),
    GreaterOrEqual(&'static str, String),
    LessOrEqual(&'static str, String),
    Present(&'static str),
    Substrings(&'static str, String, Vec<String>, String),
}

/// `None` is Undefined.
fn holds(tree: &Tree, item: &Item) -> Option<bool> {
    match tree {
        Tree::And(all) => {
            let all: Vec<_> = all.iter().map(|t| holds(t, item)).collect();
            if all.contains(&Some(false)) {
                Some(false)
            } else if all.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
        Tree::Or(all) => {
            let all: Vec<_> = all.iter().map(|t| holds(t, item)).collect();
            if all.contains(&Some(true)) {
                Some(true)
            } else if all.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Tree::Not(inner) => holds(inner, item).map(|t| !t),
        Tree::Present("nosuch") => None,
        Tree::Present(name) => Some(!values(name, item).is_empty()),
        Tree::Equal("uidNumber", value) => {
            let wanted: i64 = value.parse().ok()?;
            Some(item.number.is_some_and(|n| i64::from(n) == wanted))
        }
        Tree::Equal("nosuch", _) | Tree::GreaterOrEqual("nosuch" | "cn" | "sn" | "name", _) => None,
        Tree::LessOrEqual("nosuch" | "cn" | "sn" | "name", _) => None,
        Tree::Equal(name, value) => Some(values(name, item).contains(&squash(value))),
        Tree::GreaterOrEqual("uidNumber", value) => {
            let wanted: i64 = value.parse().ok()?;
            Some(item.number.is_some_and(|n| i64::from(n) >= wanted))
        }
        Tree::LessOrEqual("uidNumber", value) => {
            let wanted: i64 = value.parse().ok()?;
            Some(item.number.is_some_and(|n| i64::from(n) <= wanted))
        }
        Tree::GreaterOrEqual(name, value) => Some(values(name, item).iter().any(|v| *v >= squash(value))),
        Tree::LessOrEqual(name, value) => Some(values(name, item).iter().any(|v| *v <= squash(value))),
        Tree::Substrings("nosuch" | "uidNumber", ..) => None,
        Tree::Substrings(name, initial, any, last) => Some(
            values(name, item)
                .iter()
                .any(|value| contains(value, initial, any, last)),
        ),
    }
}

fn contains(value: &str, initial: &str, any: &[String], last: &str) -> bool {
    let Some(mut rest) = value.strip_prefix(&initial.to_lowercase()) else {
        return false;
    };
    for piece in any {
        let piece = piece.to_lowercase();
        let Some(at) = rest.find(&piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(&last.to_lowercase())
}

fn values(name: &str, item: &Item) -> Vec<String> {
    let cn = || item.cn.iter().map(|v| squash(v));
    match name {
        "cn" => cn().collect(),
        "sn" => item.sn.iter().map(|v| squash(v)).collect(),
        // cn, sn and ou are derived from it; the items have no ou of their own.
        "name" => cn().chain(item.sn.iter().map(|v| squash(v))).collect(),
        "uidNumber" => item.number.iter().map(ToString::to_string).collect(),
        "madeUp" => item.made_up.iter().map(|v| squash(v)).collect(),
        _ => Vec::new(),
    }
}

fn squash(value: &str) -> String {
    value
        .to_lowercase()
        .split(' ')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn show(tree: &Tree) -> String {
    let all = |all: &[Tree]| all.iter().map(show).collect::<String>();
    let e = |value: &str| filter::escape(value.as_bytes());
    match tree {
        Tree::And(inner) => format!("(&{})", all(inner)),
        Tree::Or(inner) => format!("(|{})", all(inner)),
        Tree::Not(inner) => format!("(!{})", show(inner)),
        Tree::Equal(name, value) => format!("({name}={})", e(value)),
        Tree::GreaterOrEqual(name, value) => format!("({name}>={})", e(value)),
        Tree::LessOrEqual(name, value) => format!("({name}<={})", e(value)),
        Tree::Present(name) => format!("({name}=*)"),
        Tree::Substrings(name, initial, any, last) => {
            let any: String = any.iter().map(|piece| format!("*{}", e(piece))).collect();
            format!("({name}={}{any}*{})", e(initial), e(last))
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    // Few letters, so that filters hit; é and É so that folding is tried beyond ASCII.
    "[abAéÉ]{1,3}( {1,2}[ab]{1,2})?"
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-3i32..12).prop_map(|n| n.to_string()),
        Just("4x".to_owned()),
        Just("x".to_owned())
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let cn = proptest::collection::btree_set(text().prop_map(|t| squash(&t)), 0..3)
        .prop_map(|all| all.into_iter().collect());
    (
        0usize..3,
        cn,
        proptest::option::of(text()),
        proptest::option::of(-3i32..12),
        proptest::option::of(text()),
    )
        .prop_map(|(ou, cn, sn, number, made_up)| Item {
            ou,
            cn,
            sn,
            number,
            made_up,
        })
}

fn tree() -> impl Strategy<Value = Tree> {
    let name = prop_oneof![Just("cn"), Just("sn"), Just("name"), Just("madeUp"), Just("nosuch")];
    let piece = || "[abAé]{1,2}";
    let leaf = prop_oneof![
        3 => (name.clone(), text()).prop_map(|(n, v)| Tree::Equal(n, v)),
        1 => number().prop_map(|v| Tree::Equal("uidNumber", v)),
        1 => (name.clone(), text()).prop_map(|(n, v)| Tree::GreaterOrEqual(n, v)),
        1 => number().prop_map(|v| Tree::GreaterOrEqual("uidNumber", v)),
        1 => (name.clone(), text()).prop_map(|(n, v)| Tree::LessOrEqual(n, v)),
        1 => number().prop_map(|v| Tree::LessOrEqual("uidNumber", v)),
        1 => prop_oneof![name.clone(), Just("uidNumber")].prop_map(Tree::Present),
        2 => (name, piece(), proptest::collection::vec(piece(), 0..3), piece())
            .prop_map(|(n, a, b, c)| Tree::Substrings(n, a, b, c)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::Or),
            inner.prop_map(|t| Tree::Not(Box::new(t))),
        ]
    })
}

fn ldif(items: &[Item]) -> String {
    let mut out = String::from("dn: dc=x\nobjectClass: domain\ndc: x\nmadeUp: zzz\n");
    for ou in 0..3 {
        out += &format!("\ndn: c={ou},dc=x\nobjectClass: country\nc: {ou}\n");
    }
    for (at, item) in items.iter().enumerate() {
        out += &format!("\ndn: uid={at},c={},dc=x\nobjectClass: account\nuid: {at}\n", item.ou);
        for cn in &item.cn {
            out += &format!("cn: {cn}\n");
        }
        for (name, value) in [("sn", &item.sn), ("madeUp", &item.made_up)] {
            if let Some(value) = value {
                out += &format!("{name}: {value}\n");
            }
        }
        if let Some(number) = item.number {
            out += &format!("uidNumber: {number}\n");
        }
    }
    out
}

proptest! {
    #[test]
    fn a_search_finds_what_the_model_finds(
        items in proptest::collection::vec(item(), 1..12),
        trees in proptest::collection::vec(tree(), 1..6),
        ou in 0usize..3,
    ) {
        let directory = Directory::load(ldif(&items).as_bytes(), "model", None, 0).unwrap_or_else(|e| panic!("{e}"));
        let mut client = Client::of(directory);
        for tree in trees {
            for (base, scope, of) in [("dc=x".to_owned(), Scope::Subtree, None), (format!("c={ou},dc=x"), Scope::One, Some(ou))] {
                // Only the items are of class account; the rest of the tree is not in the model.
                let filter = format!("(&{}(objectClass=account))", show(&tree));
                let (code, found) = client.search(&base, scope, &filter, &["uid"]);
                prop_assert_eq!(code, 0);
                let found: Vec<usize> = found.iter().map(|(_, a)| a[0].1[0].parse().unwrap()).collect();
                let mut expected: Vec<usize> = (0..items.len())
                    .filter(|at| of.is_none_or(|ou| items[*at].ou == ou) && holds(&tree, &items[*at]) == Some(true))
                    .collect();
                let mut sorted = found.clone();
                sorted.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(sorted, expected, "{}", filter);
            }
        }
    }
}
