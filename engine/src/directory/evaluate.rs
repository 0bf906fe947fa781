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

/// The attributes that `target` is about.
fn about<'e>(
    program: &'e Program,
    schema: &'e Schema,
    entry: &'e Entry,
    target: Target,
) -> impl Iterator<Item = &'e Attribute> {
    let options = program.bytes(target.options);
    let is_wanted = move |kind| kind == target.kind || (target.subtypes && schema.is_a(kind, target.kind));
    entry
        .about(is_wanted)
        .filter(move |attribute| entry.has_options(attribute, options))
}

fn test_leaf(program: &Program, schema: &Schema, entry: &Entry, node: &Node, room: &mut Vec<u8>) -> Truth {
    let about = |target| about(program, schema, entry, target);
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
    let Some(first) = piece.first() else { return Some(0) };
    // Most places are ruled out by one byte.
    text.windows(piece.len())
        .position(|window| window.first() == Some(first) && window == piece)
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
        let mut holds = |attribute: &Attribute| {
            let Some(known) = schema
                .get(attribute.kind)
                .filter(|known| self.rule.applies_to(known.rule))
            else {
                return false;
            };
            if known.rule == self.rule {
                return entry
                    .forms(attribute)
                    .any(|form| self.test.passes(self.rule, form, assertion));
            }
            entry
                .raw_values(attribute)
                .any(|value| self.holds_for(schema, value, assertion, room))
        };
        match self.target {
            Some(target) => about(program, schema, entry, target).any(&mut holds),
            None => entry.attributes().iter().any(&mut holds),
        }
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

/// Where the entries worth testing are found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'i> {
    /// One list of the index, ascending and without repetition.
    List(&'i [EntryId]),
    /// What the children of an or, at this place of the program, let through.
    Union {
        at: usize,
        end: usize,
        len: usize,
        depth: usize,
    },
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::List(ids) => ids.len(),
            Source::Union { len, .. } => *len,
        }
    }
}

/// The narrowest source that has every entry that matches; `None` when the index cannot narrow them down.
pub(super) fn source<'i>(program: &Program, index: &'i Index) -> Option<Source<'i>> {
    source_of(program, index, 0, PLAN_DEPTH_MAX)
}

fn source_of<'i>(program: &Program, index: &'i Index, at: usize, depth: usize) -> Option<Source<'i>> {
    let depth = depth.checked_sub(1)?;
    match program.nodes.get(at)? {
        Node::Test {
            target,
            test: Test::Equal,
            value,
            ..
        } if !target.subtypes => Some(Source::List(index.find(target.kind, program.bytes(*value)))),
        // Neither lets anything through.
        Node::Constant(Truth::False | Truth::Undefined) => Some(Source::List(&[])),
        Node::And { end } => children(program, at, *end)
            .filter_map(|child| source_of(program, index, child, depth))
            .min_by_key(Source::len),
        Node::Or { end } => {
            let add = |sum: usize, child| Some(sum.saturating_add(source_of(program, index, child, depth)?.len()));
            let len = children(program, at, *end).try_fold(0usize, add)?;
            Some(Source::Union {
                at,
                end: *end,
                len,
                depth,
            })
        }
        _ => None,
    }
}

/// Appends the entries of a source, ascending and without repetition.
pub(super) fn collect(program: &Program, index: &Index, source: Source<'_>, out: &mut Vec<EntryId>) {
    append(program, index, source, out);
    if !out.is_sorted_by(|a, b| a < b) {
        out.sort_unstable();
        out.dedup();
    }
}

fn append(program: &Program, index: &Index, source: Source<'_>, out: &mut Vec<EntryId>) {
    match source {
        Source::List(ids) => out.extend_from_slice(ids),
        Source::Union { at, end, depth, .. } => {
            for child in children(program, at, end) {
                if let Some(source) = source_of(program, index, child, depth) {
                    append(program, index, source, out);
                }
            }
        }
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
