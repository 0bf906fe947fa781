//! Requests as the contract writes them, slips of the pen, and answers as they are sent.

use super::*;

fn invalid(text: &str) -> String {
    match read(text.as_bytes()) {
        Err(Invalid(why)) => why,
        Ok(request) => panic!("{text} was read as {request:?}"),
    }
}

fn valid(text: &str) -> Request {
    read(text.as_bytes()).unwrap_or_else(|Invalid(why)| panic!("{text}: {why}"))
}

#[test]
fn one_entry_or_all_of_them() {
    let name = |name: &str| Which::One(UserKey::Name(name.into()));
    let Request::Passwd(which) = valid(r#"{"do":"passwd","name":"alice"}"#) else {
        panic!()
    };
    assert_eq!(which, name("alice"));
    let Request::Passwd(which) = valid(r#"{"do":"passwd","uid":4294967295,"name":null}"#) else {
        panic!()
    };
    assert_eq!(which, Which::One(UserKey::Uid(u32::MAX)));
    let Request::Group(which) = valid(r#"{"do":"group"}"#) else {
        panic!()
    };
    assert_eq!(which, Which::All { cursor: None });
    let Request::Group(which) = valid(r#"{"cursor":"500","do":"group"}"#) else {
        panic!()
    };
    assert_eq!(
        which,
        Which::All {
            cursor: Some("500".into())
        }
    );
}

#[test]
fn a_slip_of_the_pen_never_means_all() {
    assert!(invalid(r#"{"do":"passwd","nmae":"alice"}"#).contains("`nmae`"));
    assert!(invalid(r#"{"do":"passwd","gid":5}"#).contains("`gid`"));
    assert!(invalid(r#"{"do":"group","uid":5}"#).contains("`uid`"));
    assert!(invalid(r#"{"do":"passwd","name":"a","uid":5}"#).contains("only one"));
    assert!(invalid(r#"{"do":"passwd","name":""}"#).contains("empty"));
}

#[test]
fn what_is_missing_or_ill_typed_is_named() {
    for (text, word) in [
        ("", "JSON"),
        ("[1]", "JSON object"),
        ("{}", "`do` is missing"),
        (r#"{"do":"fly"}"#, "\"fly\""),
        (r#"{"do":7}"#, "`do` must be a text"),
        (r#"{"do":"initgroups"}"#, "`name` is missing"),
        (r#"{"do":"passwd","uid":-1}"#, "`uid` must be a whole number"),
        (r#"{"do":"passwd","uid":4294967296}"#, "`uid` must be a whole number"),
        (r#"{"do":"passwd","uid":"5"}"#, "`uid` must be a whole number"),
        (r#"{"do":"authenticate","name":"a\u0000b","password":"x"}"#, "`name`"),
        (r#"{"do":"authenticate","name":"a","password":["x"]}"#, "`password`"),
        (
            r#"{"do":"change-password","name":"a","new_password":"x"}"#,
            "`old_password`",
        ),
        (r#"{"do":"close-session","name":"a"}"#, "`session`"),
        (r#"{"do":"id-to-sid","uid":1,"gid":2}"#, "one of `uid` and `gid`"),
        (r#"{"do":"sid-to-id"}"#, "`sid`"),
        (r#"{"do":"sids-to-names"}"#, "`sids` is missing"),
        (r#"{"do":"sids-to-names","sids":"S-1"}"#, "a list of at most 500 SIDs"),
        (r#"{"do":"sids-to-ids","sids":["S-1",7]}"#, "a list of at most 500 SIDs"),
        (r#"{"do":"ids-to-sids"}"#, "`uids` or `gids`"),
        (r#"{"do":"ids-to-sids","uids":[-1]}"#, "whole numbers"),
        (r#"{"do":"logon","name":"a"}"#, "`password` is missing"),
        (
            r#"{"do":"logon","name":"a","password":"x","kerberos":"yes"}"#,
            "`kerberos` must be true or false",
        ),
        (
            r#"{"do":"logon","name":"a","password":"x","kerberos":true,"krb5_cache":"FILE:/etc/x"}"#,
            "FILE, KEYRING or KCM",
        ),
        (
            r#"{"do":"logon","name":"a","password":"x","krb5_cache":"FILE"}"#,
            "`kerberos`: true",
        ),
    ] {
        let why = invalid(text);
        assert!(why.contains(word), "{text}: {why}");
    }
}

#[test]
fn a_response_is_read_from_hex_and_its_lengths_are_checked() {
    let request = |challenge: &str, response: &str| {
        format!(r#"{{"do":"authenticate","name":"a","challenge":"{challenge}","nt_response":"{response}"}}"#)
    };
    let nt = "00ff".repeat(12);
    let Request::Response(read) = valid(&request("0123456789abCDEF", &nt)) else {
        panic!()
    };
    assert_eq!(read.challenge, [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    assert_eq!((read.nt_response.len(), read.nt_response[1]), (24, 0xff));
    assert!(invalid(&request("0123", &nt)).contains("`challenge` is hex of 8 bytes"));
    assert!(invalid(&request("0123456789abcdeg", &nt)).contains("`challenge` must be hex"));
    assert!(invalid(&request("0123456789abcdef", "00f")).contains("`nt_response` must be hex"));
    assert!(invalid(&request("0123456789abcdef", "00")).contains("24 bytes"));
    assert!(invalid(r#"{"do":"authenticate","name":"a","nt_response":"00"}"#).contains("24 bytes"));
}

#[test]
fn an_encrypted_change_has_two_parts_of_their_own_lengths_and_no_password_beside() {
    let request = |new: usize, hash: usize, more: &str| {
        let (new, hash) = ("0a".repeat(new), "f0".repeat(hash));
        format!(
            r#"{{"do":"change-password","name":"a","new_nt_encrypted":"{new}","old_nt_hash_encrypted":"{hash}"{more}}}"#
        )
    };
    let read = valid(&request(516, 16, r#","domain":"CORP""#));
    let shown = format!("{read:?}");
    let Request::EncryptedChange(change) = read else {
        panic!()
    };
    assert_eq!((change.name.as_str(), change.domain.as_deref()), ("a", Some("CORP")));
    assert_eq!((*change.new, *change.old_hash), ([10; 516], [0xf0; 16]));
    assert!(!shown.contains("240") && !shown.contains("10,"), "{shown}");
    for (new, hash, word) in [
        (515, 16, "`new_nt_encrypted` is hex of 516 bytes"),
        (517, 16, "`new_nt_encrypted` is hex of 516 bytes"),
        (0, 16, "`new_nt_encrypted` is hex of 516 bytes"),
        (516, 15, "`old_nt_hash_encrypted` is hex of 16 bytes"),
        (516, 0, "`old_nt_hash_encrypted` is hex of 16 bytes"),
    ] {
        let why = invalid(&request(new, hash, ""));
        assert!(why.contains(word), "{new} {hash}: {why}");
    }
    assert!(invalid(&request(516, 16, r#","old_password":"x""#)).contains("either"));
    assert!(invalid(r#"{"do":"change-password","name":"a","old_nt_hash_encrypted":"00"}"#).contains("516"));
    assert!(invalid(r#"{"do":"change-password","name":"a","new_nt_encrypted":"0"}"#).contains("must be hex"));
}

#[test]
fn lists_are_bounded_and_keep_their_order() {
    let Request::IdsToSids { ids } = valid(r#"{"do":"ids-to-sids","gids":[3],"uids":[2,1]}"#) else {
        panic!()
    };
    assert_eq!(ids, [UnixId::Uid(2), UnixId::Uid(1), UnixId::Gid(3)]);
    let many = |count: usize| {
        format!(
            r#"{{"do":"sids-to-ids","sids":[{}]}}"#,
            vec![r#""S-1""#; count].join(",")
        )
    };
    assert!(matches!(valid(&many(500)), Request::SidsToIds { sids } if sids.len() == 500));
    assert!(invalid(&many(501)).contains("500"));
    let numbers = vec!["1"; 300].join(",");
    let both = format!(r#"{{"do":"ids-to-sids","uids":[{numbers}],"gids":[{numbers}]}}"#);
    assert!(invalid(&both).contains("500 together"));
}

#[test]
fn passwords_are_not_printed() {
    let request = valid(r#"{"do":"logon","name":"alice","password":"hush"}"#);
    assert!(!format!("{request:?}").contains("hush"));
    let request = valid(r#"{"do":"authenticate","name":"alice","password":"hush"}"#);
    let shown = format!("{request:?}");
    assert!(shown.contains("alice") && !shown.contains("hush"), "{shown}");
    let request = valid(r#"{"do":"change-password","name":"alice","old_password":"hush","new_password":"hush"}"#);
    assert!(!format!("{request:?}").contains("hush"));
}

#[test]
fn answers_are_written_as_the_contract_says() {
    let text = |answer: &Answer| String::from_utf8(answer.to_json().to_vec()).unwrap();
    let user = User {
        name: "alice".into(),
        uid: 100_000,
        gid: 100_001,
        gecos: "Alice".into(),
        dir: "/home/alice".into(),
        shell: "/bin/bash".into(),
    };
    let page = Body::Users {
        entries: vec![user],
        cursor: None,
    };
    assert_eq!(
        text(&Answer::ok(page)),
        r#"{"status":"ok","entries":[{"name":"alice","uid":100000,"gid":100001,"gecos":"Alice","dir":"/home/alice","shell":"/bin/bash"}]}"#
    );
    assert_eq!(text(&Answer::ok(Body::Nothing {})), r#"{"status":"ok"}"#);
    let not = Answer::from(Refusal::new(Status::WrongPassword, "no"));
    assert_eq!(text(&not), r#"{"status":"wrong-password","message":"no"}"#);
    let sid = Body::Sid {
        sid: "S-1-1-0".into(),
        kind: Some("user"),
    };
    assert_eq!(
        text(&Answer::ok(sid)),
        r#"{"status":"ok","sid":"S-1-1-0","type":"user"}"#
    );
    let trust = Trust {
        short_name: "A".into(),
        dns_name: String::new(),
        sid: "S-1".into(),
        offline: true,
    };
    assert_eq!(
        text(&Answer::ok(Body::Trusts { domains: vec![trust] })),
        r#"{"status":"ok","domains":[{"short_name":"A","dns_name":"","sid":"S-1"}]}"#
    );
}
