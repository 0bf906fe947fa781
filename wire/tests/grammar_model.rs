//! The guard against a second reading of RFC 4511: a model that first makes a tree of the bytes and then compares it
//! with the grammar. It allocates, recurses and is written the other way round, so that the two share no mistake easily.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use wire::ber;
use wire::ldap::control::write_control;
use wire::ldap::envelope::{peek, write};
use wire::ldap::grammar::{Auth, Limits, Scope, bind, check_request};
use wire::ldap::message::{self, ChangeSpec, SearchSpec};

const LIMITS: Limits = Limits {
    filter_depth_max: 2,
    controls_max: 4,
};

/// An element: primitive with its content, or constructed with its children.
#[derive(Debug)]
enum Node {
    Leaf(u8, Vec<u8>),
    Tree(u8, Vec<Node>),
}
use Node::{Leaf, Tree};

/// All elements in `bytes`, or `None` when they do not fill it exactly.
fn parse(mut bytes: &[u8]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let tag = bytes[0];
        let first = *bytes.get(1)?;
        if tag & 0x1F == 0x1F {
            return None;
        }
        let (len, header) = if first < 0x80 {
            (first as usize, 2)
        } else {
            let count = (first & 0x7F) as usize;
            if !(1..=4).contains(&count) {
                return None;
            }
            let octets = bytes.get(2..2 + count)?;
            (
                octets.iter().fold(0, |len, octet| len * 256 + *octet as usize),
                2 + count,
            )
        };
        let content = bytes.get(header..header + len)?;
        nodes.push(if tag & 0x20 == 0 {
            Leaf(tag, content.to_vec())
        } else {
            Tree(tag, parse(content)?)
        });
        bytes = &bytes[header + len..];
    }
    Some(nodes)
}

fn number(content: &[u8]) -> Option<i64> {
    if content.is_empty() || content.len() > 4 {
        return None;
    }
    let value = content[1..].iter().fold(i64::from(content[0] as i8), |value, octet| {
        value * 256 + i64::from(*octet)
    });
    let fewest = (1..=4).find(|octets| {
        let half = 1i64 << (8 * octets - 1);
        (-half..half).contains(&value)
    })?;
    (fewest == content.len()).then_some(value)
}

fn number_in(content: &[u8], range: std::ops::RangeInclusive<i64>) -> bool {
    number(content).is_some_and(|value| range.contains(&value))
}

fn is_id(content: &[u8]) -> bool {
    (1..=4).contains(&content.len()) && content[0] < 0x80
}

fn is_oid(oid: &[u8]) -> bool {
    let text = String::from_utf8_lossy(oid);
    text.split('.')
        .all(|arc| !arc.is_empty() && arc.chars().all(|c| c.is_ascii_digit()))
}

fn strings(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Leaf(0x04, _)))
}

fn attribute(node: &Node, values_min: usize) -> bool {
    let Tree(0x30, fields) = node else { return false };
    matches!(&fields[..], [Leaf(0x04, _), Tree(0x31, values)] if values.len() >= values_min && strings(values))
}

fn assertion(nodes: &[Node]) -> bool {
    matches!(nodes, [Leaf(0x04, _), Leaf(0x04, _)])
}

fn filter(node: &Node, depth_left: usize) -> bool {
    match node {
        Tree(0xA0 | 0xA1, children) => depth_left > 0 && children.iter().all(|child| filter(child, depth_left - 1)),
        Tree(0xA2, children) => depth_left > 0 && matches!(&children[..], [child] if filter(child, depth_left - 1)),
        Tree(0xA3 | 0xA5 | 0xA6 | 0xA8, fields) => assertion(fields),
        Tree(0xA4, fields) => matches!(&fields[..], [Leaf(0x04, _), Tree(0x30, pieces)] if substrings(pieces)),
        Leaf(0x87, _) => true,
        Tree(0xA9, fields) => {
            let flag = |content: &[u8]| content.len() == 1;
            match &fields[..] {
                [Leaf(0x81, _), Leaf(0x82, _), Leaf(0x83, _)] | [Leaf(0x81 | 0x82, _), Leaf(0x83, _)] => true,
                [Leaf(0x81, _), Leaf(0x82, _), Leaf(0x83, _), Leaf(0x84, dn)]
                | [Leaf(0x81 | 0x82, _), Leaf(0x83, _), Leaf(0x84, dn)] => flag(dn),
                _ => false,
            }
        }
        _ => false,
    }
}

fn substrings(pieces: &[Node]) -> bool {
    let last = pieces.len().wrapping_sub(1);
    !pieces.is_empty()
        && pieces.iter().enumerate().all(|(at, piece)| match piece {
            Leaf(0x80, _) => at == 0,
            Leaf(0x81, _) => true,
            Leaf(0x82, _) => at == last,
            _ => false,
        })
}

fn operation(op: &Node) -> bool {
    match op {
        Tree(0x60, fields) => match &fields[..] {
            [Leaf(0x02, version), Leaf(0x04, _), auth] => {
                number_in(version, 1..=127)
                    && match auth {
                        Tree(0xA3, sasl) => matches!(&sasl[..], [Leaf(0x04, _)] | [Leaf(0x04, _), Leaf(0x04, _)]),
                        Leaf(tag, _) => *tag == 0x80,
                        Tree(..) => false,
                    }
            }
            _ => false,
        },
        Leaf(0x42, content) => content.is_empty(),
        Tree(0x63, fields) => match &fields[..] {
            [
                Leaf(0x04, _),
                Leaf(0x0A, scope),
                Leaf(0x0A, deref),
                Leaf(0x02, size),
                Leaf(0x02, time),
                Leaf(0x01, types),
                condition,
                Tree(0x30, attributes),
            ] => {
                number_in(scope, 0..=3)
                    && number_in(deref, 0..=3)
                    && number_in(size, 0..=i64::from(i32::MAX))
                    && number_in(time, 0..=i64::from(i32::MAX))
                    && types.len() == 1
                    && filter(condition, LIMITS.filter_depth_max)
                    && strings(attributes)
            }
            _ => false,
        },
        Tree(0x66, fields) => match &fields[..] {
            [Leaf(0x04, _), Tree(0x30, changes)] => changes.iter().all(|change| match change {
                Tree(0x30, change) => {
                    matches!(&change[..], [Leaf(0x0A, kind), of] if number_in(kind, 0..=3) && attribute(of, 0))
                }
                _ => false,
            }),
            _ => false,
        },
        Tree(0x68, fields) => {
            matches!(&fields[..], [Leaf(0x04, _), Tree(0x30, all)] if all.iter().all(|one| attribute(one, 1)))
        }
        Leaf(0x4A, _) => true,
        Tree(0x6C, fields) => match &fields[..] {
            [Leaf(0x04, _), Leaf(0x04, _), Leaf(0x01, flag)]
            | [Leaf(0x04, _), Leaf(0x04, _), Leaf(0x01, flag), Leaf(0x80, _)] => flag.len() == 1,
            _ => false,
        },
        Tree(0x6E, fields) => matches!(&fields[..], [Leaf(0x04, _), Tree(0x30, pair)] if assertion(pair)),
        // Any number of up to 32 bits: one that names nothing abandons nothing.
        Leaf(0x50, content) => (1..=4).contains(&content.len()),
        Tree(0x77, fields) => {
            matches!(&fields[..], [Leaf(0x80, oid)] | [Leaf(0x80, oid), Leaf(0x81, _)] if is_oid(oid))
        }
        _ => false,
    }
}

fn control(node: &Node) -> bool {
    let Tree(0x30, fields) = node else { return false };
    match &fields[..] {
        [Leaf(0x04, oid)] | [Leaf(0x04, oid), Leaf(0x04, _)] => is_oid(oid),
        [Leaf(0x04, oid), Leaf(0x01, flag)] | [Leaf(0x04, oid), Leaf(0x01, flag), Leaf(0x04, _)] => {
            is_oid(oid) && flag.len() == 1
        }
        _ => false,
    }
}

/// Whether the grammar has this message as a request.
fn model(bytes: &[u8]) -> bool {
    let Some(nodes) = parse(bytes) else { return false };
    let [Tree(0x30, fields)] = &nodes[..] else { return false };
    match &fields[..] {
        [Leaf(0x02, id), op] => is_id(id) && operation(op),
        [Leaf(0x02, id), op, Tree(0xA0, controls)] => {
            is_id(id) && operation(op) && controls.len() <= LIMITS.controls_max && controls.iter().all(control)
        }
        _ => false,
    }
}

/// A bind by a choice that nobody here knows is let through unread, so its inside need not be a tree.
fn is_bind_by_unknown_choice(bytes: &[u8]) -> bool {
    peek(bytes).is_ok_and(|envelope| bind(envelope.op).is_ok_and(|bind| matches!(bind.auth, Auth::Other(_))))
}

fn sut(bytes: &[u8]) -> bool {
    peek(bytes).is_ok_and(|envelope| check_request(&envelope, &LIMITS).is_ok())
}

fn blob(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..max),
        "[a-z=,]{0,12}".prop_map(String::into_bytes)
    ]
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ber::write_bytes(&mut out, tag, content);
    out
}

/// Encoded filters, some deeper than the limit.
fn any_filter() -> impl Strategy<Value = Vec<u8>> {
    let pair = (blob(6), blob(6)).prop_map(|(a, b)| [tlv(4, &a), tlv(4, &b)].concat());
    let leaf = prop_oneof![
        blob(8).prop_map(|name| tlv(0x87, &name)),
        (prop::sample::select(&[0xA3, 0xA5, 0xA6, 0xA8][..]), pair).prop_map(|(tag, pair)| tlv(tag, &pair)),
        (blob(4), prop::collection::vec((0x80..0x83u8, blob(4)), 0..4)).prop_map(|(name, mut pieces)| {
            pieces.sort_by_key(|(tag, _)| *tag);
            let pieces: Vec<u8> = pieces.iter().flat_map(|(tag, piece)| tlv(*tag, piece)).collect();
            tlv(0xA4, &[tlv(4, &name), tlv(0x30, &pieces)].concat())
        }),
        (any::<[bool; 3]>(), blob(4)).prop_map(|(has, text)| {
            let fields = [(has[0], 0x81), (has[1], 0x82), (true, 0x83)];
            let mut content: Vec<u8> = fields
                .iter()
                .filter(|(there, _)| *there)
                .flat_map(|(_, tag)| tlv(*tag, &text))
                .collect();
            if has[2] {
                content.extend(tlv(0x84, &[0xFF]));
            }
            tlv(0xA9, &content)
        }),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            (0xA0..0xA2u8, prop::collection::vec(inner.clone(), 0..4)).prop_map(|(tag, all)| tlv(tag, &all.concat())),
            // Mostly one, as it should be.
            (inner.clone(), prop::option::weighted(0.1, inner))
                .prop_map(|(one, more)| { tlv(0xA2, &[one, more.unwrap_or_default()].concat()) }),
        ]
    })
}

/// Messages as our encoders write them, each with some controls.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let search = (blob(20), 0..4i32, 0..4i32, 0..=i32::MAX, any::<bool>(), any_filter()).prop_map(
        |(base, scope, deref, limit, types_only, filter)| {
            let scope = Scope::from_code(scope).unwrap();
            let attributes = &["cn", "*"][..];
            let spec = SearchSpec {
                base: &base,
                scope,
                deref,
                size_limit: limit,
                time_limit: limit / 7,
                types_only,
                filter: &filter,
                attributes,
            };
            let mut out = Vec::new();
            message::write_search(&mut out, limit, &spec);
            out
        },
    );
    let other = (0..11u8, 0..=i32::MAX, blob(20), blob(140), prop::option::of(blob(10))).prop_map(
        |(kind, id, dn, value, more)| {
            let mut out = Vec::new();
            let o = &mut out;
            let values: &[&[u8]] = &[&value, b"x"];
            match kind {
                0 => message::write_simple_bind(o, id, &dn, &value),
                1 => message::write_sasl_bind(o, id, &dn, "PLAIN", more.as_deref()),
                2 => message::write_unbind(o, id),
                3 => message::write_abandon(o, id, id / 2),
                4 => message::write_compare(o, id, &dn, b"cn", &value),
                5 => message::write_add(o, id, &dn, &[(b"cn", values), (b"sn", values)]),
                6 => {
                    let changes = [2, 3, 1].map(|operation| ChangeSpec {
                        operation,
                        name: b"cn",
                        values,
                    });
                    message::write_modify(o, id, &dn, &changes);
                }
                7 => message::write_delete(o, id, &dn),
                8 => message::write_modify_dn(o, id, &dn, &value, id % 2 == 0, more.as_deref()),
                9 => message::write_extended_request(o, id, "1.3.6.1.1.8", more.as_deref()),
                _ => message::write_password_modify(o, id, more.as_deref(), None, Some(&value)),
            }
            out
        },
    );
    let controls = prop::collection::vec((any::<bool>(), prop::option::of(blob(9))), 0..6);
    (prop_oneof![search, other], controls).prop_map(|(message, controls)| {
        let envelope = peek(&message).unwrap();
        let mut content = Vec::new();
        controls
            .iter()
            .for_each(|(critical, value)| write_control(&mut content, "1.2.3", *critical, value.as_deref()));
        let mut out = Vec::new();
        write(&mut out, envelope.id, envelope.op, &content, b"");
        out
    })
}

/// Where the length octets of each element are that the grammar looks into, with the end of what holds it.
fn lengths(bytes: &[u8], from: usize, end: usize, found: &mut Vec<(usize, usize)>) {
    let mut at = from;
    while at < end {
        let header = ber::header(&bytes[at..end]).unwrap().unwrap();
        found.push((at, end));
        let content = at + header.header_len;
        if header.tag & 0x20 != 0 {
            lengths(bytes, content, content + header.content_len, found);
        }
        at = content + header.content_len;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn guard_and_model_agree_on_what_is_written(message in message()) {
        prop_assert_eq!(sut(&message), model(&message), "{:02x?}", message);
    }

    #[test]
    fn guard_and_model_agree_on_what_is_changed(
        message in message(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut message = message;
        for (at, value, how) in changes {
            let at = at.index(message.len());
            match how {
                0 => message[at] = value,
                1 => message[at] ^= 1 << (value % 8),
                2 => message[at] = message[at].wrapping_add(1),
                _ => message[at] = message[at].wrapping_sub(1),
            }
        }
        prop_assume!(!is_bind_by_unknown_choice(&message));
        prop_assert_eq!(sut(&message), model(&message), "{:02x?}", message);
    }

    /// No element may reach past what holds it, and no message may be cut.
    #[test]
    fn broken_nesting_is_refused(message in message(), pick: prop::sample::Index, cut: prop::sample::Index) {
        prop_assert!(!sut(&message[..cut.index(message.len())]));
        let mut found = Vec::new();
        lengths(&message, 0, message.len(), &mut found);
        let (at, end) = found[pick.index(found.len())];
        let header = ber::header(&message[at..]).unwrap().unwrap();
        let too_long = end - at - header.header_len + 1;
        let mut broken = message[..at].to_vec();
        match header.header_len {
            2 if too_long < 0x80 => broken.extend([header.tag, u8::try_from(too_long).unwrap()]),
            3 if too_long <= 0xFF => broken.extend([header.tag, 0x81, u8::try_from(too_long).unwrap()]),
            4 if too_long <= 0xFFFF => {
                broken.extend([header.tag, 0x82]);
                broken.extend(u16::try_from(too_long).unwrap().to_be_bytes());
            }
            // A longer length would need more octets, and so move everything behind it.
            _ => return Ok(()),
        }
        broken.extend_from_slice(&message[at + header.header_len..]);
        prop_assert!(!sut(&broken), "{:02x?}", broken);
    }
}
