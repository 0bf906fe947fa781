use proptest::prelude::*;

use super::*;

/// Whether a condition holds for a request.
fn held(name: &str, value: &str, attributes: &str) -> bool {
    holds(&is(name, value), attributes)
}

fn holds(condition: &Condition, attributes: &str) -> bool {
    let octets = request(attributes);
    condition.holds(&Packet::parse(&octets).unwrap(), &DICTIONARY)
}

/// Attribute, what is asked, a request for which that holds, and one for which it does not.
const COMPARED: &[(&str, &str, &str, &str)] = &[
    (
        "Called-Station-Id",
        "*:guest",
        "Called-Station-Id = \"00-11:Guest\"",
        "Called-Station-Id = \"00-11:guests\"",
    ),
    ("Class", "0x00ff", "Class = 0x00ff", "Class = 0x00fe"),
    ("Class", "vip-*", "Class = \"vip-1\"", "Class = 0x00ff"),
    (
        "NAS-Port-Type",
        "Wireless-802.11",
        "NAS-Port-Type = 19",
        "NAS-Port-Type = 18",
    ),
    (
        "NAS-Port-Type",
        "15",
        "NAS-Port-Type = Ethernet",
        "NAS-Port-Type = Virtual",
    ),
    ("NAS-Port", "1-48", "NAS-Port = 48", "NAS-Port = 49"),
    ("NAS-Port", "1 - 48", "NAS-Port = 1", "NAS-Port = 0"),
    ("Framed-MTU", ">=1400", "Framed-MTU = 1400", "Framed-MTU = 1399"),
    ("Framed-MTU", "> 1400", "Framed-MTU = 1401", "Framed-MTU = 1400"),
    ("Framed-MTU", "<1400", "Framed-MTU = 1399", "Framed-MTU = 1400"),
    ("Framed-MTU", "<=1400", "Framed-MTU = 1400", "Framed-MTU = 1401"),
    (
        "Event-Timestamp",
        ">=2026-01-01T00:00:00Z",
        "Event-Timestamp = 2026-01-01T00:00:00Z",
        "Event-Timestamp = 5",
    ),
    (
        "NAS-IP-Address",
        "192.0.2.0/24",
        "NAS-IP-Address = 192.0.2.255",
        "NAS-IP-Address = 192.0.3.0",
    ),
    (
        "NAS-IP-Address",
        "192.0.2.7",
        "NAS-IP-Address = 192.0.2.7",
        "NAS-IP-Address = 192.0.2.8",
    ),
    (
        "NAS-IPv6-Address",
        "2001:db8::/32",
        "NAS-IPv6-Address = 2001:db8::1",
        "NAS-IPv6-Address = 2001:db9::1",
    ),
    (
        "Framed-IPv6-Prefix",
        "2001:db8::/32",
        "Framed-IPv6-Prefix = 2001:db8:1::/48",
        "Framed-IPv6-Prefix = 2001::/16",
    ),
    (
        "Framed-Interface-Id",
        "0:0:0:1",
        "Framed-Interface-Id = 0:0:0:1",
        "Framed-Interface-Id = 0:0:0:2",
    ),
    (
        "Cisco-AVPair",
        "ssid=*",
        "Cisco-AVPair = \"a=b\", Cisco-AVPair = \"ssid=x\"",
        "Cisco-AVPair = \"xssid=\"",
    ),
    (
        "Tunnel-Private-Group-Id:2",
        "30",
        "Tunnel-Private-Group-Id:2 = \"30\"",
        "Tunnel-Private-Group-Id:1 = \"30\"",
    ),
    ("Tunnel-Type", "VLAN", "Tunnel-Type:1 = VLAN", "Tunnel-Type:1 = L2TP"),
];

#[test]
fn each_type_is_compared_in_its_own_way() {
    for &(name, value, right, wrong) in COMPARED {
        assert!(held(name, value, right), "{name} = {value} holds for {right}");
        assert!(!held(name, value, wrong), "{name} = {value} does not hold for {wrong}");
        assert!(!held(name, value, "User-Name = \"bob\""), "{name} is not there");
    }
    let any = condition("NAS-Port", &[Written::Number(7), Written::Text("100-200")]).unwrap();
    assert!(holds(&any, "NAS-Port = 7") && holds(&any, "NAS-Port = 150") && !holds(&any, "NAS-Port = 8"));
    assert_eq!(any.to_string(), "NAS-Port = 7 or 100-200");
}

#[test]
fn presence_sees_what_is_hidden_or_has_not_its_form() {
    let password = there("User-Password", true);
    let mut octets = request("User-Name = \"bob\"");
    let parsed = |octets: &[u8]| password.holds(&Packet::parse(octets).unwrap(), &DICTIONARY);
    assert!(!parsed(&octets));
    octets.extend_from_slice(&[2, 18]);
    octets.extend_from_slice(&[7; 16]);
    octets[3] += 18;
    assert!(parsed(&octets));
    assert!(holds(&there("CHAP-Password", false), "User-Name = \"bob\""));
    assert!(holds(&there("NAS-Port", true), "Attr-5 = 0x00") && !holds(&there("NAS-Port", false), "Attr-5 = 0x00"));
    assert!(holds(&there("Cisco-AVPair", true), "Cisco-AVPair = \"\"") && holds(&there("Cisco-AVPair", false), ""));
}

#[test]
fn what_does_not_fit_the_type_is_told_with_what_would() {
    for (name, value, right) in [
        ("NAS-Prot", "1", "unknown attribute `NAS-Prot`: did you mean NAS-Port"),
        ("Quux", "1", "`dictionary_files` adds to it"),
        ("NAS-Port:1", "1", "NAS-Port has no tag: write NAS-Port"),
        ("Tunnel-Type:32", "VLAN", "a tag is a number of 1 to 31"),
        ("NAS-Port-Type", "Wireless", "a number, or a name of a value"),
        ("NAS-Port", "48-1", "its first one is not above its last"),
        ("NAS-Port", "<0", "its first one is not above its last"),
        ("NAS-Port", "1-5000000000", "range like 1-48"),
        ("NAS-Port", ">=x", ">=, >, <=, <"),
        ("Event-Timestamp", "1-2", "seconds since 1970"),
        ("NAS-IP-Address", "2001:db8::/32", "192.0.2.0/24"),
        ("NAS-IP-Address", "192.0.2.1/24", "192.0.2.0/24 for the network"),
        ("NAS-IP-Address", "*", "{ present = true }"),
        ("NAS-IPv6-Address", "192.0.2.1", "2001:db8::/32"),
        ("Framed-Interface-Id", "1", "interface identifier"),
        ("Called-Station-Id", "", "1 to 253 letters"),
        ("Called-Station-Id", "x\\", "a letter behind `\\`"),
        ("Class", "0x0", "octets"),
        ("User-Password", "x", "{ present = true }"),
        ("CHAP-Password", "x", "{ present = true }"),
        ("Message-Authenticator", "x", "{ present = true }"),
        ("Vendor-Specific", "x", "those inside this one"),
    ] {
        let found = condition(name, &[Written::Text(value)]).expect_err(name);
        assert!(found.contains(right), "{name} = {value}: {found}");
    }
    let found = condition(
        "NAS-Port",
        &[Written::Text("x"), Written::Number(1), Written::Number(-1)],
    )
    .unwrap_err();
    assert!(
        found.contains("0: ") && found.contains("2: ") && !found.contains("1: "),
        "{found}"
    );
    assert!(condition("NAS-Port", &[]).is_err());
}

#[test]
fn conditions_that_hold_whenever_others_do() {
    for (name, wide, narrow) in [
        ("NAS-Port", "1-48", "7"),
        ("NAS-Port", ">=0", "1-48"),
        ("NAS-IP-Address", "192.0.2.0/24", "192.0.2.128/25"),
        ("Called-Station-Id", "*:guest", "aa:Guest"),
        ("Called-Station-Id", "*", "a*b"),
        ("Class", "0x00", "0x00"),
    ] {
        assert!(is(name, wide).covers(&is(name, narrow)), "{wide} and {narrow}");
        assert!(there(name, true).covers(&is(name, narrow)) && !there(name, false).covers(&is(name, narrow)));
        assert!(
            wide == narrow || !is(name, narrow).covers(&is(name, wide)),
            "{narrow} and {wide}"
        );
    }
    assert!(
        !is("NAS-Port", "1").covers(&is("Framed-MTU", "1")) && !is("NAS-Port", "1").covers(&there("NAS-Port", true))
    );
    assert!(is("Tunnel-Type", "VLAN").covers(&is("Tunnel-Type:1", "VLAN")));
    assert!(!is("Tunnel-Type:1", "VLAN").covers(&is("Tunnel-Type", "VLAN")));
}

/// As it is defined, letter by letter.
fn model(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => model(rest, text),
        (Some(('*', rest)), Some((_, behind))) => model(rest, text) || model(pattern, behind),
        (Some((wanted, rest)), Some((found, behind))) => {
            let same = wanted.to_lowercase().eq(found.to_lowercase());
            (*wanted == '?' || same) && model(rest, behind)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn patterns_mean_what_they_say(pattern in "[aAbäÄ?*]{1,8}", text in "[aAbBäÄß]{0,8}", other in "[aAbä?*]{1,6}") {
        let read = Pattern::read(&pattern).unwrap();
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(read.matches(text.as_bytes()), model(&letters(&pattern), &letters(&text)));
        let other = Pattern::read(&other).unwrap();
        prop_assert!(!read.covers(&other) || !other.matches(text.as_bytes()) || read.matches(text.as_bytes()));
    }

    #[test]
    fn patterns_take_any_octets(pattern in "[a?*]{1,8}", octets in proptest::collection::vec(any::<u8>(), 0..20)) {
        let read = Pattern::read(&pattern).unwrap();
        // One letter for each octet that is no UTF-8.
        let letters: usize = octets.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len()).sum();
        prop_assert_eq!(Pattern::read(&"?".repeat(letters.max(1))).unwrap().matches(&octets), letters > 0);
        prop_assert!(Pattern::read("*").unwrap().matches(&octets));
        let _ = read.matches(&octets);
    }
}

#[test]
fn signs_can_be_meant_as_they_are() {
    let read = |text: &str| Pattern::read(text).unwrap();
    assert!(read(r"a\*").matches(b"a*") && !read(r"a\*").matches(b"ab") && read(r"a\\?").matches(br"a\b"));
    assert!(read("\u{130}").matches("\u{130}".as_bytes()) && !read("x").matches(b"\xff") && read("?").matches(b"\xff"));
    assert!(Pattern::read(&"x".repeat(254)).is_err());
}
