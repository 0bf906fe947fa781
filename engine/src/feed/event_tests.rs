use super::super::json;
use super::*;
use proptest::prelude::*;
use wire::ldap::message::write_attribute;

fn line(event: &Event<'_>) -> String {
    let mut out = Vec::new();
    json::write_line(&mut out, "people", event);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_value_is_text_or_base64() {
    let mut attributes = Vec::new();
    let values = [
        &b"plain"[..],
        b"",
        b"a\"b\\c/",
        "\u{e9}\u{1F600}".as_bytes(),
        b"line\nfeed",
        b"nul\0",
        b"\x7f",
        b"\xff\xd8\xff",
        b"\xc0\x80",
    ];
    write_attribute(&mut attributes, b"x;lang-de", values);
    write_attribute(&mut attributes, b"none", []);
    let event = Event {
        seq: 42,
        shard: 3,
        attributes: Attributes::new(&attributes).unwrap(),
        ..Event::new(Op::Add, [0xab; 16], "cn=\"\\,\u{1}", 1_764_184_936_123)
    };
    assert_eq!(
        line(&event),
        "{\"seq\":42,\"feed\":\"people\",\"shard\":3,\"op\":\"add\",\
         \"uuid\":\"abababab-abab-abab-abab-abababababab\",\"dn\":\"cn=\\\"\\\\,\\u0001\",\
         \"attributes\":{\"x;lang-de\":[\"plain\",\"\",\"a\\\"b\\\\c/\",\"\u{e9}\u{1F600}\",{\"base64\":\"bGluZQpmZWVk\"},\
         {\"base64\":\"bnVsAA==\"},{\"base64\":\"fw==\"},{\"base64\":\"/9j/\"},{\"base64\":\"wIA=\"}],\"none\":[]},\
         \"time\":\"2025-11-26T19:22:16.123Z\"}\n"
    );
}

#[test]
fn what_concerns_the_feed_names_no_entry() {
    let done = Event {
        seq: 9,
        counts: Some(Counts {
            entries: 5,
            added: 4,
            modified: 3,
            moved: 2,
            deleted: 1,
            unchanged: 0,
        }),
        ..Event::new(Op::RefreshDone, [0; 16], "", -1)
    };
    assert_eq!(
        line(&done),
        "{\"seq\":9,\"feed\":\"people\",\"shard\":0,\"op\":\"refresh-done\",\"entries\":5,\"added\":4,\"modified\":3,\
         \"moved\":2,\"deleted\":1,\"unchanged\":0,\"time\":\"1969-12-31T23:59:59.999Z\"}\n"
    );
    assert_eq!(
        line(&Event::heartbeat(7, 0)),
        "{\"seq\":7,\"feed\":\"people\",\"shard\":0,\"op\":\"heartbeat\",\"time\":\"1970-01-01T00:00:00.000Z\"}\n"
    );
}

#[test]
fn a_delete_has_its_old_values_only_where_they_are_wanted() {
    let event = Event::new(Op::Delete, [0; 16], "cn=a", 0);
    let bare = line(&event);
    assert!(
        bare.ends_with("\"dn\":\"cn=a\",\"time\":\"1970-01-01T00:00:00.000Z\"}\n"),
        "{bare}"
    );
    let before = Some(Attributes::default());
    assert!(line(&Event { before, ..event }).contains("\"before\":{}"));
}

#[test]
fn moments_that_cannot_be_written_are_brought_near() {
    for (time_ms, text) in [
        (i64::MAX, "9999-12-31T23:59:59.999Z"),
        (i64::MIN, "0000-01-01T00:00:00.000Z"),
    ] {
        let mut out = Vec::new();
        json::write_time(&mut out, time_ms);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn damage_is_said_and_not_guessed_at() {
    let mut encoded = Vec::new();
    Event::new(Op::Add, [1; 16], "cn=a", 0).encode(&mut encoded);
    assert!(Event::decode(1, &encoded).is_ok());
    for cut in 0..encoded.len() {
        assert!(Event::decode(1, &encoded[..cut]).is_err());
    }
    for (place, octet) in [(0, 2), (1, 99)] {
        let mut other = encoded.clone();
        other[place] = octet;
        assert!(Event::decode(1, &other).is_err());
        assert!(Event::op_of(&other).is_err());
    }
    encoded.push(0);
    assert!(Event::decode(1, &encoded).is_err());
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_and_rendered_as_json(
        uuid in any::<[u8; 16]>(),
        dn in ".{0,40}",
        old_dn in prop::option::of(".{0,40}"),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        csn in prop::option::of("[0-9]{0,20}"),
        time_ms in any::<i64>(),
        shard in any::<u16>(),
        with_before in any::<bool>(),
    ) {
        let mut attributes = Vec::new();
        write_attribute(&mut attributes, b"a", values.iter().map(Vec::as_slice));
        let attributes = Attributes::new(&attributes).unwrap();
        let event = Event {
            seq: 5,
            shard,
            old_dn: old_dn.as_deref(),
            attributes,
            before: with_before.then_some(attributes),
            csn: csn.as_deref(),
            ..Event::new(Op::Move, uuid, &dn, time_ms)
        };
        let mut encoded = Vec::new();
        event.encode(&mut encoded);
        let decoded = Event::decode(5, &encoded).unwrap();
        prop_assert_eq!(format!("{decoded:?}"), format!("{event:?}"));
        prop_assert_eq!(Event::op_of(&encoded), Ok(Op::Move));
        let value: serde_json::Value = serde_json::from_str(&line(&decoded)).unwrap();
        prop_assert_eq!(value["dn"].as_str(), Some(dn.as_str()));
        prop_assert_eq!(value["old_dn"].as_str(), old_dn.as_deref());
        for (place, kept) in values.iter().enumerate() {
            let shown = &value["attributes"]["a"][place];
            match shown.as_str() {
                Some(text) => prop_assert_eq!(text.as_bytes(), kept.as_slice()),
                None => prop_assert!(shown["base64"].is_string()),
            }
        }
    }
}
