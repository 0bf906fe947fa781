use ciborium::Value;
use mysql::Value as Sql;
use mysql::consts::{ColumnFlags, ColumnType};
use proptest::prelude::*;

use super::message::{self, Failure, Format, Outcome, Status};
use super::value::{self, KINDS, Parameter};

fn parameter(word: &str) -> Parameter {
    Parameter::parse(word).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn column(kind: ColumnType, charset: u16, flags: ColumnFlags) -> mysql::Column {
    mysql::Column::new(kind).with_character_set(charset).with_flags(flags)
}

#[test]
fn a_request_is_read_in_both_forms() {
    let wanted = message::Request {
        name: "find".into(),
        parameters: vec!["alice".into(), 7.into()],
    };
    let text = br#" {"do":"find","parameters":["alice",7]} "#;
    assert_eq!(Format::of(text), Format::Json);
    assert_eq!(message::read(text), Ok(wanted.clone()));
    // a2 62 "do" 64 "find" 6a "parameters" 82 65 "alice" 07
    let binary = b"\xa2\x62do\x64find\x6aparameters\x82\x65alice\x07";
    assert_eq!(Format::of(binary), Format::Cbor);
    assert_eq!(message::read(binary), Ok(wanted.clone()));
    let tagged = [b"\xd9\xd9\xf7".as_slice(), binary].concat();
    assert_eq!(message::read(&tagged), Ok(wanted));
    assert_eq!(
        message::read(br#"{"do":"ping"}"#),
        Ok(message::Request {
            name: "ping".into(),
            parameters: Vec::new()
        })
    );
}

#[test]
fn a_request_that_makes_no_sense_is_told_why() {
    for (request, told) in [
        (b"".as_slice(), "not JSON"),
        (b"[1]", "a request is an object"),
        (b"{}", "`do` is missing"),
        (br#"{"do":1}"#, "`do` is one text"),
        (br#"{"do":"a","do":"b"}"#, "`do` is one text"),
        (br#"{"do":"a","parameters":{}}"#, "`parameters` is one list"),
        (br#"{"do":"a","parameter":[]}"#, "unknown member `parameter`"),
        (br#"{"do":"a"} x"#, "not JSON"),
        (b"\xa1\x62do", "not CBOR"),
        (b"\xa1\x62do\x61a\x00", "1 bytes follow"),
        (b"\xa1\x01\x61a", "members have names"),
    ] {
        let error = message::read(request).unwrap_err();
        assert!(error.contains(told), "{error:?} for {request:?}");
    }
    let deep = [b"{\"do\":\"a\",\"parameters\":".as_slice(), &b"[".repeat(100_000)].concat();
    assert!(message::read(&deep).is_err());
    let deep = [b"\xa2\x62do\x61a\x6aparameters".as_slice(), &b"\x81".repeat(100_000)].concat();
    assert!(message::read(&deep).is_err());
    // An announced length that is not there is no reason to ask for so much memory.
    assert!(message::read(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    assert!(message::read(b"\xa1\x62do\x9b\x7f\xff\xff\xff\xff\xff\xff\xff").is_err());
}

#[test]
fn answers_have_their_documented_form() {
    let rows = Outcome::Rows {
        columns: vec!["name".into(), "key".into()],
        rows: vec![vec!["alice".into(), Value::Bytes(vec![0, 255])]],
        more: true,
    };
    let text = String::from_utf8(message::write(Format::Json, Ok(rows.clone()))).unwrap();
    assert_eq!(
        json(&text),
        json(r#"{"status":"ok","columns":["name","key"],"rows":[["alice",{"base64":"AP8="}]],"more":true}"#)
    );
    let binary = message::write(Format::Cbor, Ok(rows));
    assert!(
        binary.starts_with(b"\xa4\x66status\x62ok\x67columns\x82\x64name\x63key\x64rows\x81\x82\x65alice\x42\x00\xff")
    );
    let both = Outcome::All(vec![
        Outcome::Count {
            affected: 1,
            last_id: Some(9),
        },
        Outcome::Row {
            columns: vec!["n".into()],
            row: vec![1.into()],
            more: false,
        },
    ]);
    let text = String::from_utf8(message::write(Format::Json, Ok(both))).unwrap();
    assert_eq!(
        json(&text),
        json(r#"{"status":"ok","results":[{"affected":1,"last_id":9},{"columns":["n"],"row":[1]}]}"#)
    );
    let failure = Failure {
        code: Some(1213),
        retry: true,
        statement: Some(1),
        ..Failure::new(Status::ExecuteError, "Deadlock found")
    };
    let text = String::from_utf8(message::write(Format::Json, Err(failure))).unwrap();
    assert_eq!(
        json(&text),
        json(r#"{"status":"execute-error","message":"Deadlock found","code":1213,"retry":true,"statement":1}"#)
    );
}

#[test]
fn members_stand_in_their_order_in_text_too() {
    let outcome = Outcome::Row {
        columns: vec!["b".into(), "a".into()],
        row: vec![1.into(), 2.into()],
        more: false,
    };
    let text = String::from_utf8(message::write(Format::Json, Ok(outcome))).unwrap();
    assert_eq!(text, r#"{"status":"ok","columns":["b","a"],"row":[1,2]}"#);
}

#[test]
fn parameters_fit_their_types_or_are_refused() {
    for (word, given, bound) in [
        ("string", r#""é""#, Sql::Bytes("é".into())),
        ("integer", "-9223372036854775808", Sql::Int(i64::MIN)),
        ("unsigned", "18446744073709551615", Sql::UInt(u64::MAX)),
        ("float", "1.5", Sql::Double(1.5)),
        ("float", "2", Sql::Double(2.0)),
        ("boolean", "true", Sql::Int(1)),
        ("bytes", r#"{"base64":"AP8="}"#, Sql::Bytes(vec![0, 255])),
        ("date", r#""2024-02-29""#, Sql::Date(2024, 2, 29, 0, 0, 0, 0)),
        ("time", r#""-838:59:59.5""#, Sql::Time(true, 34, 22, 59, 59, 500_000)),
        ("time", r#""01:02:03""#, Sql::Time(false, 0, 1, 2, 3, 0)),
        (
            "datetime",
            r#""2026-11-23T18:00:01.000001""#,
            Sql::Date(2026, 11, 23, 18, 0, 1, 1),
        ),
        (
            "datetime",
            r#""2026-11-23 18:00:01""#,
            Sql::Date(2026, 11, 23, 18, 0, 1, 0),
        ),
        ("decimal", r#""-12.50""#, Sql::Bytes("-12.50".into())),
        ("decimal", "12", Sql::Bytes("12".into())),
        ("string?", "null", Sql::NULL),
    ] {
        assert_eq!(parameter(word).bind(&json(given)), Ok(bound), "{word} {given}");
    }
    for (word, given) in [
        ("string", "1"),
        ("string", "null"),
        ("integer", "9223372036854775808"),
        ("integer", "1.0"),
        ("integer", r#""1""#),
        ("unsigned", "-1"),
        ("float", r#""1""#),
        ("boolean", "1"),
        ("bytes", r#""AP8=""#),
        ("bytes", r#"{"base64":"AP8"}"#),
        ("bytes", r#"{"base64":"AP8=","x":1}"#),
        ("date", r#""2023-02-29""#),
        ("date", r#""2023-2-1""#),
        ("date", r#""2023-13-01""#),
        ("date", r#""+023-01-01""#),
        ("time", r#""839:00:00""#),
        ("time", r#""1:00:00""#),
        ("time", r#""01:60:00""#),
        ("time", r#""01:00:00.""#),
        ("time", r#""01:00:00.1234567""#),
        ("datetime", r#""2026-11-23T24:00:00""#),
        ("datetime", r#""2026-11-23""#),
        ("decimal", "1.5"),
        ("decimal", r#""1e5""#),
        ("decimal", r#""1.""#),
        ("decimal", r#""--1""#),
        ("decimal", r#""""#),
    ] {
        let told = parameter(word).bind(&json(given)).unwrap_err();
        assert!(!told.contains("AP8"), "{told}");
    }
    assert!(parameter("decimal").bind(&"9".repeat(66).into()).is_err());
    assert!(parameter("decimal").bind(&"9".repeat(65).into()).is_ok());
    assert!(parameter("float").bind(&f64::NAN.into()).is_err());
    assert_eq!(Parameter::parse("text"), None);
    assert_eq!(Parameter::parse("string??"), None);
}

#[test]
fn columns_are_told_by_their_types() {
    let none = ColumnFlags::empty();
    for (kind, charset, flags, given, told) in [
        (
            ColumnType::MYSQL_TYPE_VAR_STRING,
            45,
            none,
            Sql::Bytes("é".into()),
            r#""é""#,
        ),
        (
            ColumnType::MYSQL_TYPE_BLOB,
            63,
            ColumnFlags::BINARY_FLAG,
            Sql::Bytes(vec![104, 105]),
            r#"{"base64":"aGk="}"#,
        ),
        (
            ColumnType::MYSQL_TYPE_NEWDECIMAL,
            63,
            ColumnFlags::BINARY_FLAG,
            Sql::Bytes("1.50".into()),
            r#""1.50""#,
        ),
        (
            ColumnType::MYSQL_TYPE_BIT,
            63,
            ColumnFlags::BINARY_FLAG,
            Sql::Bytes(vec![1, 2]),
            "258",
        ),
        (ColumnType::MYSQL_TYPE_FLOAT, 63, none, Sql::Float(0.1), "0.1"),
        (
            ColumnType::MYSQL_TYPE_LONGLONG,
            63,
            none,
            Sql::UInt(u64::MAX),
            "18446744073709551615",
        ),
        (
            ColumnType::MYSQL_TYPE_DATE,
            63,
            none,
            Sql::Date(2026, 1, 2, 0, 0, 0, 0),
            r#""2026-01-02""#,
        ),
        (
            ColumnType::MYSQL_TYPE_DATETIME,
            63,
            none,
            Sql::Date(2026, 1, 2, 3, 4, 5, 600_000),
            r#""2026-01-02T03:04:05.6""#,
        ),
        (
            ColumnType::MYSQL_TYPE_TIME,
            63,
            none,
            Sql::Time(true, 34, 22, 59, 59, 0),
            r#""-838:59:59""#,
        ),
        (ColumnType::MYSQL_TYPE_LONG, 63, none, Sql::NULL, "null"),
    ] {
        let found = value::to_json(&value::answer(given, &column(kind, charset, flags)));
        assert_eq!(found, told);
    }
    let broken = column(ColumnType::MYSQL_TYPE_VAR_STRING, 45, none);
    assert_eq!(
        value::to_json(&value::answer(Sql::Bytes(vec![255]), &broken)),
        r#"{"base64":"/w=="}"#
    );
}

/// Values as a caller may send them, each of which some type takes.
fn values() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        any::<String>().prop_map(|text| ("string", Value::Text(text))),
        any::<i64>().prop_map(|number| ("integer", number.into())),
        any::<u64>().prop_map(|number| ("unsigned", number.into())),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| ("float", number.into())),
        any::<bool>().prop_map(|yes| ("boolean", yes.into())),
        any::<Vec<u8>>().prop_map(|bytes| ("bytes", Value::Bytes(bytes))),
        Just(("string?", Value::Null)),
    ]
}

proptest! {
    #[test]
    fn a_value_is_bound_alike_from_both_forms((word, given) in values()) {
        let request = Value::Map(vec![
            ("do".into(), "x".into()),
            ("parameters".into(), Value::Array(vec![given])),
        ]);
        let text = value::to_json(&request);
        let mut binary = Vec::new();
        ciborium::into_writer(&request, &mut binary).unwrap();
        let from = |bytes: &[u8]| {
            let read = message::read(bytes).unwrap();
            parameter(word).bind(&read.parameters[0])
        };
        let (from_text, from_binary) = (from(text.as_bytes()), from(&binary));
        prop_assert!(from_text.is_ok(), "{:?}", from_text);
        prop_assert_eq!(from_text, from_binary);
    }

    #[test]
    fn what_the_database_gives_back_binds_again(micros in 0_u32..1_000_000, day in 1_u8..=28, hours in 0_u8..24, span in 0_u32..34) {
        let none = ColumnFlags::empty();
        for (kind, word, given) in [
            (ColumnType::MYSQL_TYPE_DATETIME, "datetime", Sql::Date(2026, 7, day, hours, 59, 1, micros)),
            (ColumnType::MYSQL_TYPE_TIME, "time", Sql::Time(day % 2 == 0, span, hours, 0, 59, micros)),
            (ColumnType::MYSQL_TYPE_DATE, "date", Sql::Date(1999, 12, day, 0, 0, 0, 0)),
        ] {
            let told = value::answer(given.clone(), &column(kind, 63, none));
            prop_assert_eq!(parameter(word).bind(&told), Ok(given));
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in any::<Vec<u8>>(), first in any::<Option<u8>>()) {
        let bytes = first.into_iter().chain(bytes).collect::<Vec<u8>>();
        if let Ok(request) = message::read(&bytes) {
            for (word, _) in KINDS {
                for given in &request.parameters {
                    let _ = parameter(word).bind(given);
                }
            }
        }
    }
}
