use std::time::{Duration, Instant};

use super::*;
use crate::ldap::envelope::peek;
use crate::ldap::message::{self, ChangeSpec, SearchSpec};

fn check(message: &[u8]) -> Result<(), Malformed> {
    check_request(&peek(message)?, &Limits::default())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ber::write_bytes(&mut out, tag, content);
    out
}

fn filter_nested(depth: usize, tag: u8) -> Vec<u8> {
    // From the inside out; lengths are found on the way, headers are put in front at the end.
    let mut headers = Vec::new();
    let mut len = message::FILTER_ANY_ENTRY.len();
    for _ in 0..depth {
        let mut header = Vec::new();
        ber::write_header(&mut header, tag, len);
        len += header.len();
        headers.push(header);
    }
    headers.reverse();
    let mut filter = headers.concat();
    filter.extend_from_slice(message::FILTER_ANY_ENTRY);
    filter
}

fn search_with(filter: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let spec = SearchSpec {
        base: b"dc=org",
        scope: Scope::Subtree,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
        filter,
        attributes: &["cn", "mail"],
    };
    message::write_search(&mut out, 7, &spec);
    out
}

#[test]
fn a_search_is_seen() {
    let message = search_with(b"\xa3\x0a\x04\x03uid\x04\x03ada");
    assert_eq!(check(&message), Ok(()));
    let envelope = peek(&message).unwrap();
    let search = search(envelope.op).unwrap();
    assert_eq!(
        (search.base, search.scope, search.deref),
        (&b"dc=org"[..], Scope::Subtree, 0)
    );
    assert_eq!((search.size_limit, search.time_limit, search.types_only), (0, 0, false));
    assert_eq!(search.filter, b"\xa3\x0a\x04\x03uid\x04\x03ada");
    assert_eq!(search.attributes.collect::<Vec<_>>(), [&b"cn"[..], b"mail"]);
    assert_eq!(target(&envelope), Some(&b"dc=org"[..]));
}

#[test]
fn binds_are_seen() {
    let mut out = Vec::new();
    message::write_simple_bind(&mut out, 1, b"cn=x", b"");
    let seen = bind(peek(&out).unwrap().op).unwrap();
    assert_eq!(
        seen,
        BindRequest {
            version: 3,
            name: b"cn=x",
            auth: Auth::Simple(b"")
        }
    );

    for credentials in [None, Some(&b""[..]), Some(b"\0user\0pass")] {
        let mut out = Vec::new();
        message::write_sasl_bind(&mut out, 1, b"", "PLAIN", credentials);
        assert_eq!(check(&out), Ok(()));
        let auth = Auth::Sasl {
            mechanism: b"PLAIN",
            credentials,
        };
        assert_eq!(bind(peek(&out).unwrap().op).unwrap().auth, auth);
    }

    // Windows's own mechanism is for the session to refuse by a result.
    let sicily = bind(b"\x60\x09\x02\x01\x03\x04\x00\x8a\x02NT").unwrap();
    assert_eq!(sicily.auth, Auth::Other(0x8A));
    for bad in [
        &b"\x60\x07\x02\x01\x00\x04\x00\x80\x00"[..],
        b"\x60\x08\x02\x02\x00\x80\x04\x00\x80\x00",
        b"\x60\x07\x02\x01\x03\x04\x00\x04\x00",
        b"\x60\x05\x02\x01\x03\x04\x00",
        b"\x60\x07\x02\x01\x03\x04\x00\xa3\x00",
        b"\x60\x09\x02\x01\x03\x04\x00\x80\x00\x04\x00",
    ] {
        assert!(bind(bad).is_err(), "{bad:02x?}");
    }
}

#[test]
fn writes_are_seen() {
    let mut out = Vec::new();
    let changes = [
        ChangeSpec {
            operation: 2,
            name: b"cn",
            values: &[b"a", b"b"],
        },
        ChangeSpec {
            operation: 1,
            name: b"mail",
            values: &[],
        },
    ];
    message::write_modify(&mut out, 1, b"uid=x", &changes);
    assert_eq!(check(&out), Ok(()));
    let seen = modify(peek(&out).unwrap().op).unwrap();
    let seen: Vec<_> = seen
        .changes
        .map(|change| (change.operation, change.name, change.values.count()))
        .collect();
    assert_eq!(seen, [(2, &b"cn"[..], 2), (1, b"mail", 0)]);

    out.clear();
    message::write_add(&mut out, 1, b"uid=x", &[(b"uid", &[b"x"])]);
    assert_eq!(check(&out), Ok(()));
    assert_eq!(add(peek(&out).unwrap().op).unwrap().attributes.count(), 1);
    out.clear();
    message::write_add(&mut out, 1, b"uid=x", &[(b"uid", &[])]);
    assert!(check(&out).is_err());

    out.clear();
    message::write_modify_dn(&mut out, 1, b"uid=x,o=a", b"uid=y", true, Some(b"o=b"));
    assert_eq!(check(&out), Ok(()));
    let seen = modify_dn(peek(&out).unwrap().op).unwrap();
    assert_eq!(
        (seen.new_rdn, seen.delete_old_rdn, seen.new_superior),
        (&b"uid=y"[..], true, Some(&b"o=b"[..]))
    );

    out.clear();
    message::write_compare(&mut out, 1, b"uid=x", b"cn", b"Ada");
    assert_eq!(check(&out), Ok(()));
    let seen = compare(peek(&out).unwrap().op).unwrap();
    assert_eq!(
        seen,
        CompareRequest {
            dn: b"uid=x",
            attribute: b"cn",
            value: b"Ada"
        }
    );
}

#[test]
fn ids_inside_are_seen() {
    let abandon = |bytes: &'static [u8]| abandon_id(&peek(bytes).unwrap());
    assert_eq!(abandon(b"\x30\x06\x02\x01\x06\x50\x01\x05"), Some(5));
    assert_eq!(abandon(b"\x30\x09\x02\x01\x06\x50\x04\x00\x00\x00\x05"), Some(5));
    assert_eq!(abandon(b"\x30\x06\x02\x01\x06\x50\x01\xff"), None);
    assert_eq!(abandon(b"\x30\x05\x02\x01\x06\x50\x00"), None);
    assert_eq!(abandon(b"\x30\x05\x02\x01\x06\x42\x00"), None);
    assert_eq!(cancel_id(b"\x30\x03\x02\x01\x08"), Ok(8));
    for bad in [
        &b""[..],
        b"\x30\x00",
        b"\x30\x03\x02\x01\xf8",
        b"\x30\x05\x02\x01\x08\x05\x00",
        b"\x02\x01\x08",
    ] {
        assert!(cancel_id(bad).is_err());
    }
}

#[test]
fn filters_of_every_kind() {
    for good in [
        &b"\xa0\x00"[..],
        b"\xa1\x00",
        b"\xa2\x02\xa0\x00",
        b"\x87\x00",
        b"\x87\x02cn",
        b"\xa3\x07\x04\x02cn\x04\x01x",
        b"\xa5\x07\x04\x02cn\x04\x01x",
        b"\xa6\x07\x04\x02cn\x04\x01x",
        b"\xa8\x07\x04\x02cn\x04\x01x",
        b"\xa4\x09\x04\x02cn\x30\x03\x80\x01x",
        b"\xa4\x0c\x04\x02cn\x30\x06\x80\x01x\x82\x01y",
        b"\xa4\x0c\x04\x02cn\x30\x06\x81\x01x\x81\x01y",
        b"\xa9\x07\x82\x02cn\x83\x01x",
        b"\xa9\x0a\x81\x031.2\x83\x00\x84\x01\xff",
    ] {
        assert_eq!(check_filter(good, 10), Ok(()), "{good:02x?}");
    }
    for bad in [
        &b""[..],
        b"\xa0\x01",
        b"\xa0\x02\x04\x00",
        b"\xa2\x00",
        b"\xa2\x04\x87\x00\x87\x00",
        b"\xa7\x00",
        b"\x87\x00\x87\x00",
        b"\x80\x00",
        b"\xaa\x00",
        b"\x30\x00",
        b"\xa3\x04\x04\x02cn",
        b"\xa3\x09\x04\x02cn\x04\x01x\x04\x00",
        b"\xa3\x07\x04\x02cn\x02\x01x",
        b"\xa4\x06\x04\x02cn\x30\x00",
        b"\xa4\x0c\x04\x02cn\x30\x06\x82\x01x\x82\x01y",
        b"\xa4\x0c\x04\x02cn\x30\x06\x81\x01x\x80\x01y",
        b"\xa4\x09\x04\x02cn\x30\x03\x83\x01x",
        b"\xa4\x0b\x04\x02cn\x30\x03\x80\x01x\x04\x00",
        b"\xa9\x03\x83\x01x",
        b"\xa9\x04\x82\x02cn",
        b"\xa9\x0b\x82\x02cn\x83\x01x\x84\x02\xff\xff",
        b"\xa9\x07\x83\x01x\x82\x02cn",
    ] {
        assert!(check_filter(bad, 10).is_err(), "{bad:02x?}");
    }
}

#[test]
fn depth_is_counted_exactly_across_the_inner_stacks() {
    for tag in [filter_tag::AND, filter_tag::OR, filter_tag::NOT] {
        for depth in [
            0, 1, 2, 15, 16, 17, 31, 32, 33, 34, 35, 127, 128, 129, 130, 131, 999, 1000, 4999, 5000,
        ] {
            let filter = filter_nested(depth, tag);
            assert_eq!(check_filter(&filter, depth), Ok(()), "{depth}");
            if depth > 0 {
                assert_eq!(check_filter(&filter, depth - 1), Err(Malformed::TooDeep), "{depth}");
            }
            // Something broken at the very bottom is still seen.
            let mut broken = filter;
            let bottom = broken.len() - message::FILTER_ANY_ENTRY.len();
            broken[bottom] = 0x04;
            assert_eq!(check_filter(&broken, depth), Err(Malformed::BadTag), "{depth}");
        }
    }
    assert_eq!(
        check_filter(&filter_nested(5001, 0xA0), usize::MAX),
        Err(Malformed::TooDeep)
    );
}

#[test]
fn siblings_behind_deep_ones_are_seen() {
    for depth in [1, 14, 15, 16, 17, 31, 32, 33, 34, 200] {
        for (second, expected) in [(0x87, Ok(())), (0x04, Err(Malformed::BadTag))] {
            let mut content = filter_nested(depth, filter_tag::OR);
            let behind = content.len();
            content.extend_from_slice(message::FILTER_ANY_ENTRY);
            content[behind] = second;
            let filter = element(filter_tag::AND, &content);
            assert_eq!(check_filter(&filter, 1000), expected, "{depth}");
        }
    }
}

#[test]
fn a_nesting_bomb_is_refused_at_once() {
    let bomb = search_with(&filter_nested(100_000, filter_tag::AND));
    let begin = Instant::now();
    assert_eq!(check(&bomb), Err(Malformed::TooDeep));
    // Some microseconds; the bound is for a slow machine in a debug build.
    assert!(begin.elapsed() < Duration::from_millis(50), "{:?}", begin.elapsed());
}

#[test]
fn requests_that_are_refused() {
    for (op, what) in [
        (&b"\x42\x01\x00"[..], "an unbind with content"),
        (b"\x50\x05\x01\x00\x00\x00\x00", "an abandon of too large an id"),
        (b"\x6c\x09\x04\x00\x04\x00\x01\x02\x00\x00", "a boolean of two octets"),
        (b"\x6c\x07\x04\x00\x04\x00\x01\x01", "a boolean cut off"),
        (b"\x6e\x04\x04\x00\x30\x00", "a compare without assertion"),
        (b"\x77\x00", "an extended request without name"),
        (b"\x77\x02\x80\x00", "an extended request with an empty name"),
        (b"\x77\x05\x80\x03a.b", "an extended request whose name is no OID"),
        (b"\x77\x07\x80\x031.1\x81\x01", "an extended value cut off"),
        (b"\x66\x04\x04\x00\x31\x00", "a modify with a set of changes"),
        (
            b"\x66\x0d\x04\x00\x30\x09\x30\x07\x0a\x01\x04\x30\x04\x04\x00\x31\x00",
            "an unknown modification",
        ),
        (b"\x68\x02\x04\x00", "an add without attributes"),
        (b"\x61\x07\x0a\x01\x00\x04\x00\x04\x00", "a response"),
        (b"\x6f\x07\x0a\x01\x00\x04\x00\x04\x00", "another response"),
        (b"\x4f\x00", "an operation that does not exist"),
        (b"\x63\x00", "an empty search"),
        (b"\x43\x00", "a search that is not constructed"),
    ] {
        let mut message = Vec::new();
        crate::ldap::envelope::write(&mut message, 1, op, b"", b"");
        assert!(check(&message).is_err(), "{what}");
    }
}

#[test]
fn numbers_of_a_search_have_their_ranges() {
    let parts = |scope: &[u8], deref: &[u8], size: &[u8], time: &[u8], types: &[u8]| {
        let fields = [b"\x04\x00", scope, deref, size, time, types, b"\x87\x02cn", b"\x30\x00"].concat();
        search(&element(tag::SEARCH_REQUEST, &fields)).map(drop)
    };
    let (e, i, b) = (&b"\x0a\x01\x00"[..], &b"\x02\x01\x00"[..], &b"\x01\x01\x00"[..]);
    assert_eq!(parts(e, e, i, i, b), Ok(()));
    assert_eq!(
        parts(
            b"\x0a\x01\x03",
            b"\x0a\x01\x03",
            b"\x02\x04\x7f\xff\xff\xff",
            i,
            b"\x01\x01\x01"
        ),
        Ok(())
    );
    assert!(parts(b"\x0a\x01\x04", e, i, i, b).is_err());
    assert!(parts(b"\x0a\x00", e, i, i, b).is_err());
    assert!(parts(b"\x02\x01\x00", e, i, i, b).is_err());
    assert!(parts(e, b"\x0a\x01\x04", i, i, b).is_err());
    assert!(parts(e, e, b"\x02\x01\xff", i, b).is_err());
    assert!(parts(e, e, i, b"\x02\x05\x00\x80\x00\x00\x00", b).is_err());
    assert!(parts(e, e, i, b"\x02\x02\x00\x01", b).is_err());
    assert!(parts(e, e, i, i, b"\x01\x00").is_err());
    assert!(parts(e, e, i, i, b"\x01\x02\x00\x00").is_err());
}

#[test]
fn controls_are_part_of_the_grammar() {
    let mut op = Vec::new();
    message::write_delete(&mut op, 1, b"cn=x");
    let op = peek(&op).unwrap().op.to_vec();
    let mut one = Vec::new();
    control::write_control(&mut one, control::oid::MANAGE_DSA_IT, true, None);
    for (controls, expected) in [
        (one.clone(), Ok(())),
        (one.repeat(64), Ok(())),
        (one.repeat(65), Err(Malformed::BadControls)),
        (one[..one.len() - 1].to_vec(), Err(Malformed::BadControls)),
        (b"\x04\x00".to_vec(), Err(Malformed::BadControls)),
    ] {
        let mut message = Vec::new();
        crate::ldap::envelope::write(&mut message, 1, &op, &controls, b"");
        assert_eq!(check(&message), expected);
    }
}
