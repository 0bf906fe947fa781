//! Files that are LDIF, and files that are not.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Vec<Record<'_>> {
    Reader::new(text.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn fails(text: &[u8]) -> String {
    Reader::new(text).find_map(Result::err).expect("an error").to_string()
}

fn pairs<'a>(record: &'a Record<'_>) -> Vec<(&'a str, String)> {
    match &record.content {
        Content::Entry(fields) | Content::Add(fields) => fields
            .iter()
            .map(|f| (&*f.attribute, String::from_utf8_lossy(&f.value).into_owned()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_with_everything_a_file_may_have() {
    let text = "version: 1\r\n# a comment\r\n  that goes on\r\ndn: cn=Ada,dc=x\r\ncn: Ada\r\ndescription: one \r\n  two\r\n\
                sn:: TG92ZWxhY2U=\r\ntitle;lang-de:  Gräfin\r\nseeAlso:\r\n\r\n\r\n# end\r\ndn:: Y249w6ksZGM9eA==\ncn: é\n";
    let records = read(text);
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].line, &*records[0].dn), (4, &b"cn=Ada,dc=x"[..]));
    let expected = [
        ("cn", "Ada"),
        ("description", "one  two"),
        ("sn", "Lovelace"),
        ("title;lang-de", "Gräfin"),
        ("seeAlso", ""),
    ];
    assert_eq!(pairs(&records[0]), expected.map(|(a, v)| (a, v.to_owned())));
    assert_eq!(&*records[1].dn, "cn=é,dc=x".as_bytes());
    assert_eq!(records[1].line, 14);
    assert!(matches!(&records[0].content, Content::Entry(f) if matches!(f[0].value, Cow::Borrowed(_))));
}

#[test]
fn changes() {
    let text = "dn: a=1\nchangetype: add\na: 1\n\ndn: a=1\nchangetype: delete\n\ndn: a=1\nchangetype: modify\n\
                add: b\nb: 1\nb: 2\n-\ndelete: c\n-\nreplace: d\nd:: MQ==\n\n\
                dn: a=1\nchangetype: modrdn\nnewrdn: a=2\ndeleteoldrdn: 1\nnewsuperior: b=1\n";
    let records = read(text);
    assert!(matches!(records[0].content, Content::Add(_)));
    assert_eq!(records[1].content, Content::Delete);
    let Content::Modify(all) = &records[2].content else {
        panic!()
    };
    let shape: Vec<_> = all
        .iter()
        .map(|m| (m.operation, &*m.attribute, m.values.len()))
        .collect();
    assert_eq!(
        shape,
        [
            (Operation::Add, "b", 2),
            (Operation::Delete, "c", 0),
            (Operation::Replace, "d", 1)
        ]
    );
    assert_eq!(
        records[3].content,
        Content::ModifyDn {
            new_rdn: Cow::Borrowed(b"a=2"),
            delete_old_rdn: true,
            new_superior: Some(Cow::Borrowed(b"b=1"))
        }
    );
}

#[test]
fn a_broken_file_says_where_what_and_what_would_be_right() {
    assert_eq!(
        fails(b"cn: a\n"),
        "line 1: found `cn:`; expected `dn:`, which every record begins with"
    );
    assert!(fails(b"version: 2\n").starts_with("line 1: found `version: 2`"));
    assert!(fails(b"dn: a=1\na: 1\nrubbish\n").starts_with("line 3: found `rubbish`"));
    assert!(fails(b"dn: a=1\na: 1\ndn: a=2\n").starts_with("line 3: found `dn:` inside a record"));
    assert!(fails(b"dn: a=1\nphoto:< file:///etc/shadow\n").starts_with("line 2: found `photo:<`"));
    assert!(fails(b"dn: a=1\nb:: !!\n").starts_with("line 2: found `b::` with bad base64"));
    assert!(fails(b"dn: a=1\nb: \xe9\n").contains("not UTF-8 (0xe9)"));
    assert!(fails(b"dn: a=1\n: x\n").starts_with("line 2: found something that is no attribute name"));
    assert!(fails(b" dn: a=1\n").starts_with("line 1: found a continuation of nothing"));
    assert!(fails(b"dn: a=1\nchangetype: rename\n").contains("`changetype: rename`"));
    assert!(fails(b"dn: a=1\ncontrol: 1.2.3\nchangetype: delete\n").contains("control"));
    assert!(fails(b"dn: a=1\nchangetype: modify\nadd: b\nc: 1\n").starts_with("line 4: found `c:`"));
    assert!(fails(b"dn: a=1\nchangetype: modrdn\nnewrdn: a=2\ndeleteoldrdn: x\n").starts_with("line 4"));
    let stray = fails(b"dn: a=1\nuserPassword: begin\nhunter2\n");
    assert!(stray.starts_with("line 3: found a line without `:`") && !stray.contains("hunter2"));
}

#[test]
fn an_empty_file_has_no_records() {
    assert!(read("").is_empty());
    assert!(read("\n\n# nothing\n").is_empty());
    assert!(read("version: 1\n").is_empty());
}

proptest! {
    #[test]
    fn folding_and_base64_do_not_change_a_value(value in "[ -~é]{0,60}", width in 1usize..20) {
        let encoded = STANDARD.encode(&value);
        let mut text = String::from("dn: a=1\nv:: ");
        for (at, c) in encoded.chars().enumerate() {
            if at % width == 0 {
                text.push_str("\n ");
            }
            text.push(c);
        }
        let records = read(&text);
        prop_assert_eq!(pairs(&records[0]), vec![("v", value)]);
    }

    #[test]
    fn no_bytes_panic_and_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Reader::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn no_line_noise_panics(text in "(dn: a=1\n|a: b\n| c\n|changetype: (add|modify|delete|moddn)\n|add: a\n|-\n|\n|#x\n|a:: YQ==\n|newrdn: a=b\n|deleteoldrdn: 1\n){0,12}") {
        let _ = Reader::new(text.as_bytes()).count();
    }
}
