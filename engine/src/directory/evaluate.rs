//! Testing an entry with a [`Program`], and finding the entries worth testing.

use wire::ldap::dn;

use super::entry::{Attribute, Entry, EntryId};
use super::index::Index;
use super::program::{Node, Program, Range, Target, Truth};
use super::rules::{Part, Rule, Test};
use super::schema::Schema;

/// Room that testing needs, reused from entry to entry.
#[derive(Debug, Default)]
pub(super) struct Room {
    open: Vec<Open>,
    form: Vec<u8>,
}

/// A set whose members are being tested.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: Node,
    so_far: Truth,
}

/// Whether `entry` matches, and how many nodes that took to find out.
pub(super) fn test(program: &Program, schema: &Schema, entry: &Entry, room: &mut Room) -> (Truth, u64) {
    room.open.clear();
    let mut at = 0;
    let mut steps = 0;
    while let Some(node) = program.nodes.get(at) {
        steps += 1;
        at += 1;
        let mut truth = match node {
            Node::And { end } if at < *end => {
                room.open.push(Open {
                    node: *node,
                    so_far: Truth::True,
                });
                continue;
            }
            Node::Or { end } if at < *end => {
                room.open.push(Open {
                    node: *node,
                    so_far: Truth::False,
                });
                continue;
            }
            Node::Not { end } if at < *end => {
                room.open.push(Open {
                    node: *node,
                    so_far: Truth::Undefined,
                });
                continue;
            }
            Node::And { .. } => Truth::True,
            Node::Or { .. } => Truth::False,
            leaf => {
                steps += entry.weight();
                test_leaf(program, schema, entry, leaf, &mut room.form)
            }
        };
        // The sets that this was the last word on.
        loop {
            let Some(open) = room.open.last_mut() else {
                return (truth, steps);
            };
            let (end, decided) = match open.node {
                Node::And { end } => {
                    open.so_far = open.so_far.min(truth);
                    (end, open.so_far == Truth::False)
                }
                Node::Or { end } => {
                    open.so_far = open.so_far.max(truth);
                    (end, open.so_far == Truth::True)
                }
                Node::Not { end } => {
                    open.so_far = truth.not();
                    (end, true)
                }
                _ => (at, true),
            };
            if at < end && !decided {
                break;
            }
            at = end;
            truth = open.so_far;
            room.open.pop();
        }
    }
    (Truth::Undefined, steps)
}

/// Whether `attribute` is one that `target` is about.
pub(super) fn is_about(
    program: &Program,
    schema: &Schema,
    target: &Target,
    entry: &Entry,
    attribute: &Attribute,
) -> bool {
    let kind = attribute.kind == target.kind || (target.subtypes && schema.is_a(attribute.kind, target.kind));
    kind && entry.has_options(attribute, program.bytes(target.options))
}

fn test_leaf(program: &Program, schema: &Schema, entry: &Entry, node: &Node, room: &mut Vec<u8>) -> Truth {
    let about = |target: Target| {
        entry
            .attributes()
            .iter()
            .filter(move |attribute| is_about(program, schema, &target, entry, attribute))
    };
    Truth::of(match *node {
        Node::Constant(truth) => return truth,
        Node::Present(target) => about(target).next().is_some(),
        Node::Test {
            target,
            rule,
            test,
            value,
        } => {
            let value = program.bytes(value);
            about(target).any(|attribute| entry.forms(attribute).any(|form| test.passes(rule, form, value)))
        }
        Node::Substrings { target, pieces } => {
            about(target).any(|attribute| entry.forms(attribute).any(|form| has_pieces(program, form, pieces)))
        }
        Node::Extensible {
            target,
            rule,
            test,
            value,
            dn_attributes,
        } => {
            let assertion = Wanted {
                target,
                rule,
                test,
                value,
            };
            assertion.holds_in_attributes(program, schema, entry, room)
                || (dn_attributes && assertion.holds_in_name(program, schema, entry, room))
        }
        Node::And { .. } | Node::Or { .. } | Node::Not { .. } => return Truth::Undefined,
    })
}

fn has_pieces(program: &Program, form: &[u8], pieces: Range) -> bool {
    let mut rest = form;
    for (part, piece) in program.pieces(pieces) {
        let behind = match part {
            Part::Initial | Part::Whole => rest.strip_prefix(piece),
            Part::Any => find(rest, piece).and_then(|at| rest.get(at + piece.len()..)),
            Part::Final => rest.ends_with(piece).then_some(&b""[..]),
        };
        match behind {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    true
}

fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    text.windows(piece.len()).position(|window| window == piece)
}

/// An extensible match.
struct Wanted {
    target: Option<Target>,
    rule: Rule,
    test: Test,
    value: Range,
}

impl Wanted {
    fn holds_in_attributes(&self, program: &Program, schema: &Schema, entry: &Entry, room: &mut Vec<u8>) -> bool {
        let assertion = program.bytes(self.value);
        entry.attributes().iter().any(|attribute| {
            let Some(known) = schema.get(attribute.kind) else {
                return false;
            };
            let about = match &self.target {
                Some(target) => is_about(program, schema, target, entry, attribute),
                None => true,
            };
            if !about || !self.rule.applies_to(known.rule) {
                return false;
            }
            if known.rule == self.rule {
                return entry
                    .forms(attribute)
                    .any(|form| self.test.passes(self.rule, form, assertion));
            }
            entry
                .raw_values(attribute)
                .any(|value| self.holds_for(schema, value, assertion, room))
        })
    }

    fn holds_in_name(&self, program: &Program, schema: &Schema, entry: &Entry, room: &mut Vec<u8>) -> bool {
        let assertion = program.bytes(self.value);
        dn::avas(&entry.dn).map_while(Result::ok).any(|ava| {
            let Some(kind) = schema.find(ava.attribute) else {
                return false;
            };
            let about = match &self.target {
                Some(target) => schema.is_a(kind, target.kind) && program.bytes(target.options).is_empty(),
                None => true,
            };
            about
                && schema.get(kind).is_some_and(|known| self.rule.applies_to(known.rule))
                && self.holds_for(schema, &ava.value.bytes(), assertion, room)
        })
    }

    fn holds_for(&self, schema: &Schema, value: &[u8], assertion: &[u8], room: &mut Vec<u8>) -> bool {
        room.clear();
        self.rule.normalize(schema, value, Part::Whole, room).is_ok() && self.test.passes(self.rule, room, assertion)
    }
}

/// Sets deeper than this are not looked into for candidates; the entries they let through are tested one by one.
const PLAN_DEPTH_MAX: usize = 16;

/// At most how many entries the index names for this filter; `None` when it cannot narrow them down.
pub(super) fn estimate(program: &Program, index: &Index) -> Option<usize> {
    estimate_node(program, index, 0, PLAN_DEPTH_MAX)
}

/// Appends these entries, ascending and without repetition. Every entry that matches is among them.
pub(super) fn candidates(program: &Program, index: &Index, out: &mut Vec<EntryId>) {
    collect(program, index, 0, PLAN_DEPTH_MAX, out);
    if !out.is_sorted_by(|a, b| a < b) {
        out.sort_unstable();
        out.dedup();
    }
}

fn indexed<'a>(program: &Program, index: &'a Index, node: &Node) -> Option<&'a [EntryId]> {
    match node {
        Node::Test {
            target,
            test: Test::Equal,
            value,
            ..
        } if !target.subtypes => Some(index.find(target.kind, program.bytes(*value))),
        // Neither lets anything through.
        Node::Constant(Truth::False | Truth::Undefined) => Some(&[]),
        _ => None,
    }
}

/// The children of a set: their places.
fn children(program: &Program, at: usize, end: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(at + 1), move |at| {
        Some(match program.nodes.get(*at)? {
            Node::And { end } | Node::Or { end } | Node::Not { end } => *end,
            _ => at + 1,
        })
    })
    .take_while(move |at| *at < end)
}

fn estimate_node(program: &Program, index: &Index, at: usize, depth: usize) -> Option<usize> {
    let node = program.nodes.get(at)?;
    let depth = depth.checked_sub(1)?;
    match node {
        Node::And { end } => children(program, at, *end)
            .filter_map(|child| estimate_node(program, index, child, depth))
            .min(),
        Node::Or { end } => children(program, at, *end).try_fold(0usize, |sum, child| {
            Some(sum.saturating_add(estimate_node(program, index, child, depth)?))
        }),
        leaf => indexed(program, index, leaf).map(<[EntryId]>::len),
    }
}

fn collect(program: &Program, index: &Index, at: usize, depth: usize, out: &mut Vec<EntryId>) {
    let (Some(node), Some(depth)) = (program.nodes.get(at), depth.checked_sub(1)) else {
        return;
    };
    match node {
        Node::And { end } => {
            let best = children(program, at, *end)
                .filter_map(|child| Some((estimate_node(program, index, child, depth)?, child)))
                .min();
            if let Some((_, child)) = best {
                collect(program, index, child, depth, out);
            }
        }
        Node::Or { end } => {
            for child in children(program, at, *end) {
                collect(program, index, child, depth, out);
            }
        }
        leaf => out.extend_from_slice(indexed(program, index, leaf).unwrap_or_default()),
    }
}
