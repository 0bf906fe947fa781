use wire::radius::dictionary::{Fault, Source};
use wire::radius::{Code, Content, Writer, text};

use super::freeradius::{Loaded, load};
use super::*;
use crate::password::{self, Verdict};

/// Reads these files; the first is the list.
fn read(files: &[(&str, &str)]) -> Result<Loaded, Vec<Fault>> {
    let mut include = |_: &str, name: &str| {
        let found = files.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(name, text)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        }))
    };
    load("users", &Dictionary::standard(), &mut include)
}

fn list(text: &str) -> Users {
    read(&[("users", text)]).unwrap().users
}

/// What the list says about a request with these attributes; the reply as text.
fn asked(users: &Users, name: &str, attributes: &str) -> Option<(Option<Vec<u8>>, Option<Fixed>, String)> {
    let dictionary = Dictionary::standard();
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
    for item in text::parse_list(&dictionary, attributes).unwrap() {
        writer.item(&dictionary, &item, None, &mut || 0).unwrap();
    }
    writer.finish_unsealed(&[0; 16]).unwrap();
    let packet = Packet::parse(&out).unwrap();
    let found = users.find(name.as_bytes(), &packet, &dictionary)?;
    let mut reply = Vec::new();
    let mut writer = Writer::bare(&mut reply, Code::ACCESS_ACCEPT, 1, &[0; 16]);
    for item in &found.reply {
        writer.item(&dictionary, item, None, &mut || 0).unwrap();
    }
    writer.finish_unsealed(&[0; 16]).unwrap();
    let mut shown = String::new();
    text::print_list(&mut shown, Packet::parse(&reply).unwrap().walk(&dictionary, None)).unwrap();
    Some((found.password.map(<[u8]>::to_vec), found.fixed, shown))
}

fn reply(users: &Users, name: &str, attributes: &str) -> String {
    asked(users, name, attributes).unwrap().2
}

/// The only mistake of a list, as a person sees it.
fn mistake(text: &str) -> String {
    match read(&[("users", text)]) {
        Ok(_) => panic!("no mistake in {text}"),
        Err(faults) => {
            assert_eq!(faults.len(), 1, "{faults:?}");
            faults[0].to_string()
        }
    }
}

const LIST: &str = r#"
# Comments, and blank lines.
"John Doe"  Cleartext-Password := "two words"   # behind it

steve   Cleartext-Password := testing, NAS-Port-Type == Ethernet
        Service-Type = Framed-User,
        # in between
        Framed-IP-Address = 172.16.3.33,
        Reply-Message := "a \"quoted\", text", Reply-Message += 'as it \ is'
steve   Cleartext-Password := other, Calling-Station-Id =~ "^00-11-"
        Tunnel-Type:1 = VLAN, Tunnel-Medium-Type:1 = IEEE-802,
        Tunnel-Private-Group-Id:1 = "7"

lame    Auth-Type := Reject
        Reply-Message = "Your account has been disabled."
DEFAULT Service-Type == Framed-User
        Framed-MTU = 1500, Fall-Through = Yes
DEFAULT NAS-Port < 100, NAS-Port >= 10, Calling-Station-Id !* ANY
        Framed-MTU = 9000, Session-Timeout = 60, Fall-Through = 1
late    Cleartext-Password := {SSHA}x
        Session-Timeout := 90, Class = 0x0102
DEFAULT NAS-Identifier =* ANY, NAS-Identifier != "door", Auth-Type := Accept
"#;

#[test]
fn the_first_entry_whose_checks_hold_is_taken() {
    let users = list(LIST);
    let (password, fixed, shown) = asked(&users, "John Doe", "").unwrap();
    assert_eq!((password.as_deref(), fixed), (Some(&b"two words"[..]), None));
    assert_eq!(shown, "");
    let (password, _, shown) = asked(&users, "steve", "NAS-Port-Type = Ethernet").unwrap();
    assert_eq!(password.unwrap(), b"testing");
    let right = "Service-Type = Framed-User, Framed-IP-Address = 172.16.3.33, \
                 Reply-Message = \"a \\\"quoted\\\", text\", Reply-Message = \"as it \\\\ is\"";
    assert_eq!(shown, right);
    let request = "NAS-Port-Type = Virtual, Calling-Station-Id = \"00-11-22\"";
    let (password, _, shown) = asked(&users, "steve", request).unwrap();
    assert_eq!(password.unwrap(), b"other");
    let right = "Tunnel-Type:1 = VLAN, Tunnel-Medium-Type:1 = IEEE-802, Tunnel-Private-Group-Id:1 = \"7\"";
    assert_eq!(shown, right);
    // No check of his holds, and none of everybody's: the list says nothing.
    assert!(asked(&users, "steve", "Calling-Station-Id = \"22-00-11\"").is_none());
    let (_, fixed, shown) = asked(&users, "lame", "Service-Type = Framed-User").unwrap();
    assert_eq!(fixed, Some(Fixed::Reject));
    assert_eq!(shown, "Reply-Message = \"Your account has been disabled.\"");
}

#[test]
fn entries_fall_through_in_the_order_of_the_list() {
    let users = list(LIST);
    // `=` gives way to what is there, `:=` takes its place; a password with braces is one.
    let (password, _, shown) = asked(&users, "late", "Service-Type = Framed-User, NAS-Port = 10").unwrap();
    assert_eq!(password.unwrap(), b"{CLEARTEXT}{SSHA}x");
    assert_eq!(shown, "Framed-MTU = 1500, Session-Timeout = 90, Class = 0x0102");
    assert_eq!(
        reply(&users, "nobody", "NAS-Port = 99"),
        "Framed-MTU = 9000, Session-Timeout = 60"
    );
    for none in [
        "NAS-Port = 100",
        "NAS-Port = 9",
        "NAS-Port = 50, Calling-Station-Id = \"x\"",
        "",
    ] {
        assert!(asked(&users, "nobody", none).is_none(), "{none}");
    }
    let fixed = |request| asked(&users, "nobody", request).map(|found| found.1);
    assert_eq!(fixed("NAS-Identifier = \"gate\""), Some(Some(Fixed::Accept)));
    assert_eq!(fixed("NAS-Identifier = \"door\""), None);
    assert_eq!(fixed("NAS-Identifier = \"door\", NAS-Port = 10"), Some(None));
}

#[test]
fn every_form_of_a_password_is_compared() {
    let forms = [
        "Cleartext-Password := secret",
        "Cleartext-Password = 'secret'",
        "Password-With-Header := \"{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA==\"",
        "Password-With-Header := {SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA==",
        "SSHA-Password := \"62b1ae1c7b39d997e940dc9c038fda0e1d271a634e61436c35363738\"",
        "MD5-Password := 5ebe2294ecd0e0f08eab7690d2a6ee69",
        "SHA1-Password := e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
        "SHA2-Password := \"K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=\"",
        "NT-Password := 0x878D8014606CDA29677A44EFA1353FC7",
        "Crypt-Password := \"$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.\"",
    ];
    for form in forms {
        let users = list(&format!("bob {form}\n"));
        let stored = asked(&users, "bob", "").unwrap().0.unwrap();
        assert_eq!(password::verify(&stored, b"secret"), Verdict::Match, "{form}");
        assert_eq!(password::verify(&stored, b"Secret"), Verdict::NoMatch, "{form}");
    }
}

/// A list, and how what is said about it begins.
const MISTAKES: &[(&str, &str)] = &[
    (
        "\n  Session-Timeout = 1\n",
        "users:2: a line that begins with a blank, and no user before it",
    ),
    (
        "bob Cleartext-Password == hush1\n",
        "users:1: Cleartext-Password ==; Cleartext-Password := and",
    ),
    (
        "bob User-Password == hush1\n",
        "users:1: User-Password as a check; the known password as Cleartext",
    ),
    (
        "bob Simultaneous-Use := 1\n",
        "users:1: Simultaneous-Use as a check; no such check",
    ),
    (
        "bob Login-Time := Wk\n",
        "users:1: Login-Time as a check; a rule of the policy",
    ),
    (
        "bob Group == staff\n",
        "users:1: Group as a check; a rule of the policy",
    ),
    (
        "bob MD5-Password := hush1\n",
        "users:1: a value of MD5-Password; base64 or hex",
    ),
    (
        "bob Password-With-Header := {ROT13}hush1\n",
        "users:1: a value of Password-With-Header; a scheme",
    ),
    (
        "bob Cleartext-Password := \"hush1\n",
        "users:1: a quote that does not end, at Cleartext-Password",
    ),
    (
        "bob Cleartext-Password := \"%{hush1}\"\n",
        "users:1: Cleartext-Password with an expansion",
    ),
    (
        "bob Cleartext-Password := hush1 hush1\n",
        "users:1: something behind the value of Cleartext-Password; a comma",
    ),
    ("bob Cleartext-Password := \"hush1\\q\"\n", "users:1: an unknown escape"),
    (
        "bob Auth-Type := Kerberos\n",
        "users:1: Auth-Type Kerberos; Accept or Reject",
    ),
    (
        "bob NAS-Port := 1\n",
        "users:1: NAS-Port :=; a comparison, like NAS-Port == value",
    ),
    ("bob NAS-Prot == 1\n", "users:1: unknown attribute NAS-Prot; NAS-Port"),
    ("bob NAS-Port == x\n", "users:1: NAS-Port = x; "),
    ("bob NAS-Identifier < x\n", "users:1: NAS-Identifier <; == or !="),
    (
        "bob NAS-Identifier =~ \"(\"\n",
        "users:1: NAS-Identifier =~ \"(\": error: unclosed group",
    ),
    ("bob NAS-Port == 1,\n", "users:1: a comma at the end of the checks"),
    ("bob, NAS-Port == 1\n", "users:1: a comma behind the name"),
    (
        "bob\n  Session-Timeout = 1\n\n  Class = 0x01\n",
        "users:2: no comma at the end of the line",
    ),
    (
        "bob\n  Session-Timeout = 1,\neve\n",
        "users:2: a comma, and no more of the answer",
    ),
    (
        "bob\n  Session-Timeout = 1,\n  Session-Timeuot = 2\n",
        "users:3: unknown attribute Session-Timeuot; Session-Timeout",
    ),
    (
        "bob\n  Session-Timeout == 1\n",
        "users:2: Session-Timeout == in an answer; =, := or +=",
    ),
    (
        "bob\n  Cleartext-Password := hush1\n",
        "users:2: Cleartext-Password in an answer; on the line with",
    ),
    (
        "bob\n  Reply-Message = \"Hello %{User-Name}\"\n",
        "users:2: Reply-Message with an expansion",
    ),
    (
        "bob\n  Reply-Message = `date`\n",
        "users:2: a value of Reply-Message in backquotes",
    ),
    (
        "bob\n  Fall-Through = Perhaps\n",
        "users:2: Fall-Through = Perhaps; Yes or No",
    ),
    ("bob\n  Session-Timeout 1\n", "users:2: no sign behind Session-Timeout"),
    ("bob\n  = 1\n", "users:2: no name of an attribute"),
    ("$INCLUDE more\n", "users:1: there is no file more"),
];

#[test]
fn a_mistake_says_where_it_is_and_what_would_be_right_and_shows_no_password() {
    for (text, right) in MISTAKES {
        let said = mistake(text);
        assert!(said.starts_with(right), "{text}: {said}");
        assert!(!said.contains("hush1"), "{said}");
    }
    // All of them are told at once.
    assert_eq!(
        read(&[("users", "a X := 1\nb Y := 1\n  Z = 1\n")]).unwrap_err().len(),
        3
    );
    assert_eq!(
        read(&[]).unwrap_err()[0].to_string(),
        "users: there is no file users; the name of a file that is there"
    );
}

#[test]
fn files_include_others_and_never_without_end() {
    let files = [
        ("users", "a Auth-Type := Accept\n$INCLUDE more\nb Auth-Type := Accept\n"),
        ("more", "c Auth-Type := Reject\nDEFAULT\n"),
    ];
    let loaded = read(&files).unwrap();
    assert_eq!(loaded.users.len(), 4);
    let notices: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
    assert!(
        matches!(&notices[..], [one] if one.starts_with("users:3: b is never reached")),
        "{notices:?}"
    );
    // The entry of everybody comes first.
    assert_eq!(asked(&loaded.users, "b", "").unwrap().1, None);
    let faults = read(&[("users", "$INCLUDE users\n$INCLUDE users\n")]).unwrap_err();
    assert!(faults.len() <= 100 && faults[0].found.contains("one file too many"));
    let loaded = read(&[("users", "a Pool-Name := main, Auth-Type := PAP\n")]).unwrap();
    assert_eq!(loaded.notices.len(), 2);
}

#[test]
fn ten_thousand_users_are_found_at_once() {
    let mut text = String::new();
    for at in 0..10_000 {
        text.push_str(&format!(
            "user{at} Cleartext-Password := \"pass{at}\"\n\tSession-Timeout = {at}\n"
        ));
    }
    let users = list(&text);
    assert_eq!(users.len(), 10_000);
    for at in [0, 4_711, 9_999] {
        let (password, _, shown) = asked(&users, &format!("user{at}"), "").unwrap();
        assert_eq!(password.unwrap(), format!("pass{at}").into_bytes());
        assert_eq!(shown, format!("Session-Timeout = {at}"));
    }
    assert!(asked(&users, "user10000", "").is_none());
    assert!(size_of::<Place>() <= 128, "{}", size_of::<Place>());
}

#[test]
fn an_attribute_takes_the_place_of_those_before_it_and_not_of_its_own_entrys() {
    let users = list(
        "DEFAULT\n Reply-Message = a, Reply-Message = b, Fall-Through = Yes\n\
         DEFAULT\n Reply-Message := c, Reply-Message := d, Reply-Message = e, Class = 0x01\n",
    );
    let shown = reply(&users, "x", "");
    // What is put by `=` finds none of an earlier entry any more.
    let right = "Reply-Message = \"c\", Reply-Message = \"d\", Reply-Message = \"e\", Class = 0x01";
    assert_eq!(shown, right);
}

#[test]
fn nothing_that_is_read_makes_it_panic() {
    use proptest::prelude::*;
    let piece = prop_oneof![
        Just("bob".to_owned()),
        Just("DEFAULT".to_owned()),
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\t".to_owned()),
        Just(",".to_owned()),
        Just(":=".to_owned()),
        Just("=~".to_owned()),
        Just("=*".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("Cleartext-Password".to_owned()),
        Just("Tunnel-Type:1".to_owned()),
        Just("Reply-Message".to_owned()),
        Just("$INCLUDE users".to_owned()),
        Just("é".to_owned()),
        Just("#".to_owned()),
        "[ -~]{0,6}",
    ];
    proptest!(ProptestConfig::with_cases(300), |(pieces in prop::collection::vec(piece, 0..24))| {
        let text = pieces.concat();
        if let Ok(loaded) = read(&[("users", &text)]) {
            let _ = asked(&loaded.users, "bob", "NAS-Port = 1");
        }
    });
    let secret = Content::Value(Zeroizing::new(b"hush".to_vec()));
    assert!(!format!("{secret:?}").contains("hush"));
}

#[test]
fn the_list_that_comes_with_freeradius_is_read() {
    let text = "DEFAULT\tFramed-Protocol == PPP\n\tFramed-Protocol = PPP,\n\tFramed-Compression = Van-Jacobson-TCP-IP\n\
                DEFAULT\tHint == \"CSLIP\"\n\tFramed-Protocol = SLIP,\n\tFramed-Compression = Van-Jacobson-TCP-IP\n\
                DEFAULT\tHint == \"SLIP\"\n\tFramed-Protocol = SLIP\n";
    let loaded = read(&[("users", text)]).unwrap();
    let told: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 2 && told[0].starts_with("users:4: an entry for a Hint"),
        "{told:?}"
    );
    let shown = reply(&loaded.users, "bob", "Framed-Protocol = PPP");
    assert_eq!(shown, "Framed-Protocol = PPP, Framed-Compression = Van-Jacobson-TCP-IP");
    assert!(asked(&loaded.users, "bob", "").is_none());
    // Left out, it would let in whom it keeps out.
    assert!(
        mistake("DEFAULT Hint == \"x\", Auth-Type := Reject\n").starts_with("users:1: an entry that rejects by a Hint")
    );
}
