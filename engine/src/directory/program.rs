//! A filter made ready for testing many entries: names looked up, assertion values in normal form, the tree as a flat
//! list.
//!
//! Why: what depends only on the filter is done once per search instead of once per entry, and a flat list needs neither
//! recursion nor allocation: the lists keep their room from one search to the next.
//!
//! Invariants: nodes are in pre-order; an and, an or and a not name the node behind their last descendant; children lie
//! between. Whatever RFC 4511 section 4.5.1.7 calls Undefined, for whichever entry, is a constant here already.

use wire::ber;
use wire::frame::Malformed;
use wire::ldap::filter::{self, Assertion, Extensible, Filter, Piece, Pieces};
use wire::ldap::grammar::filter_tag;

use super::rules::{Part, Rule, Test};
use super::schema::{Schema, TypeId, split_description};

/// The three values of a filter (X.511), ordered so that an and is the least and an or the greatest of its parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Truth {
    /// It does not match.
    False,
    /// Nobody can say; does not match, and neither does its negation.
    Undefined,
    /// It matches.
    True,
}

impl Truth {
    pub(super) fn not(self) -> Truth {
        match self {
            Truth::False => Truth::True,
            Truth::Undefined => Truth::Undefined,
            Truth::True => Truth::False,
        }
    }

    pub(super) fn of(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

/// Offsets into a program's bytes or pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    start: usize,
    end: usize,
}

/// Which attributes a node is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) kind: TypeId,
    /// Options that the attribute must have; mostly none.
    pub(super) options: Range,
    /// Whether types derived from it count too.
    pub(super) subtypes: bool,
}

/// One node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    And {
        end: usize,
    },
    Or {
        end: usize,
    },
    Not {
        end: usize,
    },
    Constant(Truth),
    Present(Target),
    /// A test of forms that stand in the entry already.
    Test {
        target: Target,
        rule: Rule,
        test: Test,
        value: Range,
    },
    Substrings {
        target: Target,
        pieces: Range,
    },
    /// A test by another rule than the attribute's own, or over all attributes, or over the name.
    Extensible {
        target: Option<Target>,
        rule: Rule,
        test: Test,
        value: Range,
        dn_attributes: bool,
    },
}

/// A filter made ready. Reused from search to search.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    bytes: Vec<u8>,
    pieces: Vec<(Part, Range)>,
    /// The sets being read; empty between filters.
    open: Vec<Open>,
}

/// A set whose members are being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: usize,
    /// Where it ends in the encoded filter.
    end: usize,
}

impl Program {
    /// Makes `filter` (one encoded filter) ready, in place of what was there.
    ///
    /// # Errors
    /// It is no filter.
    pub(super) fn compile(&mut self, schema: &Schema, filter: &[u8]) -> Result<(), Malformed> {
        self.nodes.clear();
        self.bytes.clear();
        self.pieces.clear();
        self.open.clear();
        let mut at = 0;
        while at < filter.len() || !self.open.is_empty() {
            while let Some(set) = self.open.pop_if(|set| set.end == at) {
                self.close(set)?;
            }
            let end = match self.open.last() {
                Some(set) => set.end,
                None if self.nodes.is_empty() => filter.len(),
                None => break,
            };
            let inside = filter.get(at..end).ok_or(Malformed::Truncated)?;
            let header = ber::header(inside)?.ok_or(Malformed::Truncated)?;
            let whole = inside.get(..header.total_len()).ok_or(Malformed::Truncated)?;
            let behind = at + whole.len();
            let node = match header.tag {
                filter_tag::AND => Node::And { end: 0 },
                filter_tag::OR => Node::Or { end: 0 },
                filter_tag::NOT => Node::Not { end: 0 },
                _ => {
                    let node = self.leaf(schema, &filter::read(whole)?)?;
                    self.nodes.push(node);
                    at = behind;
                    continue;
                }
            };
            self.open.push(Open {
                node: self.nodes.len(),
                end: behind,
            });
            self.nodes.push(node);
            at += header.header_len;
        }
        if at == filter.len() && !self.nodes.is_empty() {
            Ok(())
        } else {
            Err(Malformed::TrailingBytes)
        }
    }

    /// Enters in a set's node what lies behind it.
    fn close(&mut self, set: Open) -> Result<(), Malformed> {
        let behind = self.nodes.len();
        let first = set.node + 1;
        let first_end = match self.nodes.get(first) {
            Some(Node::And { end } | Node::Or { end } | Node::Not { end }) => *end,
            _ => first + 1,
        };
        match self.nodes.get_mut(set.node) {
            Some(Node::Not { .. }) if behind == first || first_end != behind => {
                Err(Malformed::BadValue("one filter inside a not"))
            }
            Some(Node::And { end } | Node::Or { end } | Node::Not { end }) => {
                *end = behind;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self, range: Range) -> &[u8] {
        self.bytes.get(range.start..range.end).unwrap_or_default()
    }

    pub(super) fn pieces(&self, range: Range) -> impl Iterator<Item = (Part, &[u8])> {
        let pieces = self.pieces.get(range.start..range.end).unwrap_or_default();
        pieces.iter().map(|(part, range)| (*part, self.bytes(*range)))
    }

    /// Gives room back that an unusually large filter took.
    pub(super) fn trim(&mut self) {
        const KEPT: usize = 1024;
        self.nodes.shrink_to(KEPT);
        self.bytes.shrink_to(4 * KEPT);
        self.pieces.shrink_to(KEPT);
        self.open.shrink_to(KEPT);
    }

    fn leaf(&mut self, schema: &Schema, leaf: &Filter<'_>) -> Result<Node, Malformed> {
        Ok(match leaf {
            Filter::Equality(a) | Filter::Approx(a) => self.test(schema, a, Test::Equal),
            Filter::GreaterOrEqual(a) => self.test(schema, a, Test::GreaterOrEqual),
            Filter::LessOrEqual(a) => self.test(schema, a, Test::LessOrEqual),
            Filter::Present(attribute) => match self.target(schema, attribute) {
                Some(target) => Node::Present(target),
                None => UNDEFINED,
            },
            Filter::Substrings { attribute, pieces } => self.substrings(schema, attribute, *pieces)?,
            Filter::Extensible(e) => self.extensible(schema, e),
            Filter::And(_) | Filter::Or(_) | Filter::Not(_) => UNDEFINED,
        })
    }

    /// The attributes that a description names; none when it is unknown, or not to be asked about.
    fn target(&mut self, schema: &Schema, description: &[u8]) -> Option<Target> {
        let (name, options) = split_description(description);
        let kind = schema.find(name)?;
        let known = schema.get(kind)?;
        if &*known.name == "userPassword" {
            return None;
        }
        Some(Target {
            kind,
            options: self.push(options),
            subtypes: known.has_subtypes(),
        })
    }

    fn test(&mut self, schema: &Schema, assertion: &Assertion<'_>, test: Test) -> Node {
        let Some(target) = self.target(schema, assertion.attribute) else {
            return UNDEFINED;
        };
        let Some(known) = schema.get(target.kind) else {
            return UNDEFINED;
        };
        let defined = known.rule != Rule::None && (test == Test::Equal || known.is_ordered());
        if !defined {
            return UNDEFINED;
        }
        match self.form(schema, target.kind, assertion.value, Part::Whole) {
            Some(value) => Node::Test {
                target,
                rule: known.rule,
                test,
                value,
            },
            None => UNDEFINED,
        }
    }

    fn substrings(&mut self, schema: &Schema, attribute: &[u8], pieces: Pieces<'_>) -> Result<Node, Malformed> {
        let target = self.target(schema, attribute);
        let defined = target.filter(|t| schema.get(t.kind).is_some_and(|known| known.has_substrings()));
        let start = self.pieces.len();
        for piece in pieces {
            let (part, text) = match piece? {
                Piece::Initial(text) => (Part::Initial, text),
                Piece::Any(text) => (Part::Any, text),
                Piece::Final(text) => (Part::Final, text),
            };
            if let Some(target) = defined {
                let Some(form) = self.form(schema, target.kind, text, part) else {
                    return Ok(UNDEFINED);
                };
                self.pieces.push((part, form));
            }
        }
        let pieces = Range {
            start,
            end: self.pieces.len(),
        };
        Ok(defined.map_or(UNDEFINED, |target| Node::Substrings { target, pieces }))
    }

    fn extensible(&mut self, schema: &Schema, e: &Extensible<'_>) -> Node {
        let target = match e.attribute {
            Some(attribute) => match self.target(schema, attribute) {
                Some(target) => Some(target),
                None => return UNDEFINED,
            },
            None => None,
        };
        let own = target.and_then(|t| schema.get(t.kind)).map(|known| known.rule);
        let (rule, test) = match e.rule {
            Some(name) => match Rule::by_name(name) {
                Some(found) => found,
                None => return UNDEFINED,
            },
            None => (own.unwrap_or(Rule::None), Test::Equal),
        };
        if rule == Rule::None || own.is_some_and(|own| !rule.applies_to(own)) {
            return UNDEFINED;
        }
        let start = self.bytes.len();
        if rule.normalize(schema, e.value, Part::Whole, &mut self.bytes).is_err() {
            self.bytes.truncate(start);
            return UNDEFINED;
        }
        let value = Range {
            start,
            end: self.bytes.len(),
        };
        match target {
            Some(target) if own == Some(rule) && !target.subtypes && !e.dn_attributes => Node::Test {
                target,
                rule,
                test,
                value,
            },
            _ => Node::Extensible {
                target,
                rule,
                test,
                value,
                dn_attributes: e.dn_attributes,
            },
        }
    }

    fn form(&mut self, schema: &Schema, kind: TypeId, value: &[u8], part: Part) -> Option<Range> {
        let start = self.bytes.len();
        if schema.normalize(kind, value, part, &mut self.bytes).is_err() {
            self.bytes.truncate(start);
            return None;
        }
        Some(Range {
            start,
            end: self.bytes.len(),
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Range {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Range {
            start,
            end: self.bytes.len(),
        }
    }
}

const UNDEFINED: Node = Node::Constant(Truth::Undefined);
