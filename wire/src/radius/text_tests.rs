use proptest::prelude::*;

use super::dictionary::{Loaded, Path, Source};
use super::packet_tests::hex;
use super::text::{Line, Unsealed, parse_list, print_head, print_list};
use super::*;

/// What no standard attribute has: every type, headers of every kind, tlvs in tlvs, fragments.
const EXTRA: &str = "
VENDOR Usr 429 format=4,0
VENDOR Wide 8164 format=2,2
VENDOR Lucent 4846 format=2,1
VENDOR Wimax 24757 format=1,1,c
VENDOR Plain 32000
BEGIN-VENDOR Usr
ATTRIBUTE Usr-Event 0x9023 integer
END-VENDOR Usr
BEGIN-VENDOR Wide
ATTRIBUTE Wide-Name 300 string
END-VENDOR Wide
BEGIN-VENDOR Lucent
ATTRIBUTE Lucent-Speed 2 integer
END-VENDOR Lucent
BEGIN-VENDOR Wimax
ATTRIBUTE Wimax-Capability 1 tlv
ATTRIBUTE Wimax-Release 1.1 string
ATTRIBUTE Wimax-Accounting 1.2 byte
ATTRIBUTE Wimax-Long 5 octets
ATTRIBUTE Wimax-Key 6 octets encrypt=2
END-VENDOR Wimax
BEGIN-VENDOR Plain
ATTRIBUTE P-Byte 1 byte
ATTRIBUTE P-Short 2 short
ATTRIBUTE P-Signed 3 signed
ATTRIBUTE P-Integer64 4 integer64
ATTRIBUTE P-Ether 5 ether
ATTRIBUTE P-Combo 6 combo-ip
ATTRIBUTE P-Prefix 7 ipv4prefix
ATTRIBUTE P-Ifid 8 ifid
ATTRIBUTE P-Servers 9 ipaddr array
ATTRIBUTE P-Secret 10 string encrypt=3
ATTRIBUTE P-Outer 11 tlv
ATTRIBUTE P-Middle 11.1 tlv
ATTRIBUTE P-Deep 11.1.1 string
ATTRIBUTE P-Number 11.2 integer
VALUE P-Byte Odd,Name 7
END-VENDOR Plain
ATTRIBUTE E-Text 241.200 string
ATTRIBUTE L-Octets 245.200 octets
BEGIN-VENDOR Plain parent=Extended-Vendor-Specific-1
ATTRIBUTE X-Evs 1 string
END-VENDOR Plain
BEGIN-VENDOR Plain parent=Extended-Vendor-Specific-5
ATTRIBUTE X-Long 1 octets
ATTRIBUTE X-Tlv 2 tlv
ATTRIBUTE X-Leaf 2.1 integer
END-VENDOR Plain
";

fn dictionary() -> Dictionary {
    let source = Source {
        name: "extra".to_string(),
        text: EXTRA.to_string(),
    };
    let Loaded { dictionary, notices } = Dictionary::standard()
        .load("extra", &mut |_, _| Ok(Some(source.clone())))
        .unwrap();
    assert_eq!(notices, []);
    dictionary
}

fn secret() -> Secret {
    Secret::new(b"xyzzy5461")
}

fn encoded(dictionary: &Dictionary, text: &str) -> Vec<u8> {
    let line = Line::parse(dictionary, text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    let (mut out, mut salt) = (Vec::new(), 0x8000);
    let mut salts = || {
        salt += 1;
        salt
    };
    line.write(dictionary, Some(&secret()), &[3; 16], &mut salts, &mut out)
        .unwrap_or_else(|why| panic!("{text}: {why}"));
    out
}

fn printed(dictionary: &Dictionary, datagram: &[u8], request: Option<&[u8; 16]>) -> String {
    let (packet, secret) = (Packet::parse(datagram).unwrap(), secret());
    let reveal = Reveal {
        secret: &secret,
        authenticator: packet.hiding_authenticator(request),
    };
    let mut text = String::new();
    print_list(&mut text, packet.walk(dictionary, Some(reveal))).unwrap();
    text
}

/// The text becomes these octets (behind the header) and is printed as it was.
fn both_ways(text: &str, octets: &str) {
    let dictionary = dictionary();
    let datagram = encoded(&dictionary, &format!("Access-Request id=1 {text}"));
    if !octets.is_empty() {
        assert_eq!(datagram[20..], hex(octets), "{text}");
    }
    assert_eq!(printed(&dictionary, &datagram, None), text);
}

#[test]
fn attributes_of_every_kind_go_both_ways() {
    both_ways("User-Name = \"bob\", NAS-Port = 3", "01 05 62 6f 62 05 06 00 00 00 03");
    both_ways("Service-Type = Framed-User", "06 06 00 00 00 02");
    both_ways("Service-Type = 4711", "06 06 00 00 12 67");
    both_ways("Framed-IP-Address = 192.0.2.1", "08 06 c0 00 02 01");
    both_ways(
        "NAS-IPv6-Address = 2001:db8::1",
        "5f 12 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01",
    );
    both_ways("Framed-IPv6-Prefix = 2001:db8::/32", "61 08 00 20 20 01 0d b8");
    both_ways("Framed-IPv6-Prefix = ::/0", "61 04 00 00");
    both_ways("Framed-Interface-Id = 1:2:3:4", "60 0a 00 01 00 02 00 03 00 04");
    both_ways("Event-Timestamp = \"Nov 27 2026 00:02:37 UTC\"", "37 06 6b 08 c8 9d");
    both_ways(
        "MIP6-Feature-Vector = 18446744073709551615",
        "7c 0a ff ff ff ff ff ff ff ff",
    );
    both_ways("Class = 0x00ff, State = 0x", "19 04 00 ff 18 02");
    both_ways(
        "P-Byte = \"Odd,Name\", P-Short = 65535",
        "1a 09 00 00 7d 00 01 03 07 1a 0a 00 00 7d 00 02 04 ff ff",
    );
    both_ways("P-Signed = -1", "1a 0c 00 00 7d 00 03 06 ff ff ff ff");
    both_ways("P-Integer64 = 1", "1a 10 00 00 7d 00 04 0a 00 00 00 00 00 00 00 01");
    both_ways(
        "P-Ether = 00:53:00:12:34:56",
        "1a 0e 00 00 7d 00 05 08 00 53 00 12 34 56",
    );
    both_ways("P-Combo = 192.0.2.1", "1a 0c 00 00 7d 00 06 06 c0 00 02 01");
    both_ways(
        "P-Combo = ::1",
        "1a 18 00 00 7d 00 06 12 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
    );
    both_ways("P-Prefix = 192.0.2.0/24", "1a 0e 00 00 7d 00 07 08 00 18 c0 00 02 00");
}

#[test]
fn headers_of_every_kind_go_both_ways() {
    both_ways("Cisco-AVPair = \"a=b\"", "1a 0b 00 00 00 09 01 05 61 3d 62");
    both_ways("Usr-Event = 1", "1a 0e 00 00 01 ad 00 00 90 23 00 00 00 01");
    both_ways("Wide-Name = \"x\"", "1a 0b 00 00 1f e4 01 2c 00 05 78");
    both_ways("Lucent-Speed = 9", "1a 0d 00 00 12 ee 00 02 07 00 00 00 09");
    both_ways("Wimax-Long = 0x01", "1a 0a 00 00 60 b5 05 04 00 01");
    both_ways(
        "Wimax-Capability = { Wimax-Release = \"1.0\", Wimax-Accounting = 1 }",
        "1a 11 00 00 60 b5 01 0b 00 01 05 31 2e 30 02 03 01",
    );
    both_ways(
        "P-Outer = { P-Middle = { P-Deep = \"d\" }, P-Number = 5 }, P-Outer = { P-Number = 6 }",
        "1a 13 00 00 7d 00 0b 0d 01 05 01 03 64 02 06 00 00 00 05 1a 0e 00 00 7d 00 0b 08 02 06 00 00 00 06",
    );
    both_ways("E-Text = \"e\"", "f1 04 c8 65");
    both_ways("X-Evs = \"e\"", "f1 09 1a 00 00 7d 00 01 65");
    both_ways("L-Octets = 0x01", "f5 05 c8 00 01");
    both_ways("X-Tlv = { X-Leaf = 7 }", "f5 0f 1a 00 00 00 7d 00 02 01 06 00 00 00 07");
    both_ways(
        "IP-Port-Limit-Info = { IP-Port-Limit = 7 }",
        "f1 09 05 02 06 00 00 00 07",
    );
}

#[test]
fn tags_stand_behind_a_colon() {
    both_ways("Tunnel-Type:1 = VLAN", "40 06 01 00 00 0d");
    both_ways("Tunnel-Type = VLAN", "40 06 00 00 00 0d");
    both_ways("Tunnel-Private-Group-Id:31 = \"7\"", "51 04 1f 37");
    both_ways("Tunnel-Private-Group-Id:0 = \"7\"", "51 04 00 37");
    both_ways("Tunnel-Private-Group-Id = \"7\"", "51 03 37");
    // No tag is so large: the value has not the form.
    both_ways("Attr-64 = 0x2000000d", "40 06 20 00 00 0d");
    let dictionary = dictionary();
    let datagram = encoded(
        &dictionary,
        "Access-Request Tunnel-Type:0 = 13, Tunnel-Assignment-Id = \"\\001x\"",
    );
    let text = "Tunnel-Type = VLAN, Tunnel-Assignment-Id:0 = \"\\001x\"";
    assert_eq!(printed(&dictionary, &datagram, None), text);
}

#[test]
fn long_values_are_cut_and_joined() {
    for (name, bytes) in [
        ("EAP-Message", 253),
        ("EAP-Message", 600),
        ("Wimax-Long", 246),
        ("Wimax-Long", 247),
        ("Wimax-Long", 1000),
    ]
    .into_iter()
    .chain([
        ("L-Octets", 251),
        ("L-Octets", 252),
        ("L-Octets", 2000),
        ("X-Long", 245),
        ("X-Long", 246),
        ("X-Long", 999),
    ]) {
        let value: String = (0..bytes).map(|at| format!("{:02x}", at % 251)).collect();
        both_ways(&format!("User-Name = \"a\", {name} = 0x{value}, Class = 0x01"), "");
    }
    // Fragments of which the last is missing, or is another's: as they are.
    let more = "f5 05 c8 80 01";
    let text = "Attr-245 = 0xc88001, User-Name = \"a\", L-Octets = 0x02";
    let dictionary = dictionary();
    let octets = hex(&format!(
        "01 01 00 {:02x} {} {more} 01 03 61 f5 05 c8 00 02",
        20 + 13,
        "00".repeat(16)
    ));
    assert_eq!(printed(&dictionary, &octets, None), text);
    let octets = hex(&format!(
        "01 01 00 {:02x} {} 1a 0a 00 00 60 b5 05 04 80 01",
        20 + 10,
        "00".repeat(16)
    ));
    assert_eq!(printed(&dictionary, &octets, None), "Attr-26.24757 = 0x05048001");
}

#[test]
fn hidden_values_go_both_ways_and_stay_raw_without_the_secret() {
    let text = "User-Password = \"arctangent\", Tunnel-Password:1 = \"p\", Wimax-Key = 0x0102, P-Secret = \"s\", MS-MPPE-Send-Key = 0x\
                00, Tunnel-Password = \"\"";
    both_ways(text, "");
    let dictionary = dictionary();
    let request = encoded(
        &dictionary,
        "Access-Request id=9 authenticator=0x07070707070707070707070707070707 User-Name = \"x\"",
    );
    let request = Packet::parse(&request).unwrap().authenticator();
    assert_eq!(request, &[7; 16]);
    let reply = encoded(
        &dictionary,
        "Access-Accept id=9 request=0x07070707070707070707070707070707 MS-MPPE-Recv-Key = 0xab",
    );
    assert_eq!(printed(&dictionary, &reply, Some(request)), "MS-MPPE-Recv-Key = 0xab");
    assert!(Packet::parse(&reply).unwrap().check_response(&secret(), request));
    let packet = Packet::parse(&reply).unwrap();
    let mut text = String::new();
    print_list(&mut text, packet.walk(&dictionary, None)).unwrap();
    assert!(
        text.starts_with("Attr-26.311.17 = 0x80") && text.len() == 19 + 36,
        "{text}"
    );
    // What is raw is written as it is.
    let again = encoded(
        &dictionary,
        &format!("Access-Accept id=9 request=0x07070707070707070707070707070707 {text}"),
    );
    assert_eq!(again, reply);
    // MS-CHAP-MPPE-Keys has 24 octets, though its blocks have 32.
    both_ways(&format!("MS-CHAP-MPPE-Keys = 0x{}", "00".repeat(24)), "");
}

#[test]
fn what_has_not_its_form_is_raw_and_comes_back() {
    for (text, octets) in [
        ("Attr-250 = 0x01", "fa 03 01"),
        ("Attr-4 = 0xc000", "04 04 c0 00"),
        ("Attr-26 = 0x0000", "1a 04 00 00"),
        ("Attr-26.9 = 0x", "1a 06 00 00 00 09"),
        ("Attr-26.9 = 0x0105", "1a 08 00 00 00 09 01 05"),
        ("Attr-26.9 = 0x0100", "1a 08 00 00 00 09 01 00"),
        ("Attr-26.9.99 = 0x61", "1a 09 00 00 00 09 63 03 61"),
        ("Attr-26.77777.1 = 0x61", "1a 09 00 01 2f d1 01 03 61"),
        ("Attr-26.32000.4 = 0x01", "1a 09 00 00 7d 00 04 03 01"),
        ("Attr-26.32000.11 = 0x0109", "1a 0a 00 00 7d 00 0b 04 01 09"),
        ("Attr-26.32000.11 = 0x", "1a 08 00 00 7d 00 0b 02"),
        (
            "P-Outer = { Attr-26.32000.11.1 = 0xff }",
            "1a 0b 00 00 7d 00 0b 05 01 03 ff",
        ),
        (
            "P-Outer = { Attr-26.32000.11.9 = 0xff }",
            "1a 0b 00 00 7d 00 0b 05 09 03 ff",
        ),
        ("Attr-241 = 0x", "f1 02"),
        ("Attr-241.3 = 0x01", "f1 04 03 01"),
        ("Attr-241.26 = 0x00007d", "f1 06 1a 00 00 7d"),
        ("Attr-241.26.1.2 = 0x05", "f1 09 1a 00 00 00 01 02 05"),
        ("Attr-245 = 0x01", "f5 03 01"),
        ("Attr-245.9 = 0x01", "f5 05 09 00 01"),
        ("Attr-97 = 0x00202001", "61 06 00 20 20 01"),
        ("Attr-97 = 0x0010ffffff", "61 07 00 10 ff ff ff"),
        ("Attr-97 = 0x0081", "61 04 00 81"),
    ] {
        if text == "Attr-97 = 0x00202001" {
            // Fewer octets than bits: the others are zero.
            both_ways("Framed-IPv6-Prefix = 2001::/32", "");
            continue;
        }
        both_ways(text, octets);
    }
}

#[test]
fn several_attributes_in_one_and_arrays_are_told_one_by_one() {
    let dictionary = dictionary();
    let print = |octets: &str| {
        let octets = hex(octets);
        let header = [&[1, 1, 0, 20 + u8::try_from(octets.len()).unwrap()], &[0; 16][..]].concat();
        printed(&dictionary, &[header, octets].concat(), None)
    };
    assert_eq!(
        print("1a 0f 00 00 00 09 01 03 61 02 03 62 63 03 00"),
        "Cisco-AVPair = \"a\", Cisco-NAS-Port = \"b\", Attr-26.9.99 = 0x00"
    );
    assert_eq!(
        print("1a 10 00 00 7d 00 09 0a c0 00 02 01 c0 00 02 02 01 03 61"),
        "P-Servers = 192.0.2.1, P-Servers = 192.0.2.2, User-Name = \"a\""
    );
}

#[test]
fn texts_are_quoted_and_unquoted() {
    both_ways("User-Name = \"a\\\"b\\\\c\\n\\r\\t\\001\\377é\u{1f600}\"", "");
    let dictionary = dictionary();
    for (text, value) in [
        ("User-Name = bob", &b"bob"[..]),
        ("User-Name = 'b\\o\"b'", b"b\\o\"b"),
        ("User-Name=\"\\x41\\101\"", b"AA"),
        ("  user-NAME   =   \"a, b } c\"  ", b"a, b } c"),
    ] {
        let items = parse_list(&dictionary, text).unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].content, Content::Value(value.to_vec().into()), "{text}");
    }
}

/// As in a users file: the tlvs around a leaf need not be written, and neighbours share them.
#[test]
fn leaves_get_the_tlvs_around_them() {
    let dictionary = dictionary();
    let text = "P-Deep = \"d\", P-Number = 5, User-Name = \"a\", P-Number = 6";
    let datagram = encoded(&dictionary, &format!("Access-Request {text}"));
    assert_eq!(
        printed(&dictionary, &datagram, None),
        "P-Outer = { P-Middle = { P-Deep = \"d\" }, P-Number = 5 }, User-Name = \"a\", P-Outer = { P-Number = 6 }"
    );
}

#[test]
fn one_attribute_is_found_wherever_it_is() {
    let dictionary = dictionary();
    let text = "Access-Request P-Number = 5, Cisco-AVPair = \"a\", P-Deep = \"d\", Cisco-AVPair = \"b\", X-Evs = \"e\"";
    let datagram = encoded(&dictionary, text);
    let packet = Packet::parse(&datagram).unwrap();
    let find = |name: &str| -> Vec<String> {
        let definition = dictionary.named(name).unwrap();
        packet
            .values(&dictionary, definition, None)
            .map(|pair| pair.value().to_string())
            .collect()
    };
    assert_eq!(find("Cisco-AVPair"), ["\"a\"", "\"b\""]);
    assert_eq!(find("P-Number"), ["5"]);
    assert_eq!(find("P-Deep"), ["\"d\""]);
    assert_eq!(find("X-Evs"), ["\"e\""]);
    assert!(find("User-Name").is_empty() && find("Cleartext-Password").is_empty());
}

#[test]
fn a_pair_is_written_as_its_item_is() {
    let dictionary = dictionary();
    let secret = secret();
    for text in [
        "User-Name = \"bob\"",
        "Tunnel-Type:3 = VLAN",
        "Cisco-AVPair = \"x\"",
        "P-Deep = \"d\"",
        "Usr-Event = 1",
        "X-Evs = \"e\"",
        "L-Octets = 0x0102",
        "User-Password = \"p\"",
        "Tunnel-Password:1 = \"p\"",
        "MS-MPPE-Send-Key = 0x01",
        "P-Secret = \"s\"",
    ] {
        let item = &parse_list(&dictionary, text).unwrap()[0];
        let mut leaf = item;
        while let Content::Inside(inner) = &leaf.content {
            leaf = &inner[0];
        }
        let Content::Value(octets) = &leaf.content else {
            panic!("{text}")
        };
        let definition = dictionary.at(leaf.path.numbers()).unwrap();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let hide = Hide {
            secret: &secret,
            salt: 5,
        };
        let mut writer = Writer::bare(&mut one, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer
            .pair(&dictionary, definition, leaf.tag, octets, Some(hide))
            .unwrap();
        writer.finish(&secret).unwrap();
        let mut writer = Writer::bare(&mut other, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer.item(&dictionary, item, Some(&secret), &mut || 5).unwrap();
        let refused = writer.pair(&dictionary, definition, leaf.tag, octets, None);
        assert_eq!(refused.is_err(), definition.hiding.is_some());
        if refused.is_ok() {
            writer.truncate(one.len());
        }
        writer.finish(&secret).unwrap();
        assert_eq!(one, other, "{text}");
    }
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
    let internal = dictionary.named("Cleartext-Password").unwrap();
    assert_eq!(
        writer.pair(&dictionary, internal, None, b"x", None),
        Err(Unwritable::Internal)
    );
    let vsa = dictionary.named("Vendor-Specific").unwrap();
    assert_eq!(
        writer.pair(&dictionary, vsa, None, b"x", None),
        Err(Unwritable::NoValue)
    );
    let long = dictionary.named("Cisco-AVPair").unwrap();
    assert_eq!(
        writer.pair(&dictionary, long, None, &[0; 248], None),
        Err(Unwritable::Full(Full::Value))
    );
    assert_eq!(writer.bytes(), 20);
}

#[test]
fn the_line_of_a_packet_goes_both_ways() {
    let dictionary = dictionary();
    let text = "Access-Request id=7 authenticator=0x0102030405060708090a0b0c0d0e0f10 User-Name = \"bob\", Message-Authenticator = 0x";
    let datagram = encoded(&dictionary, text);
    let packet = Packet::parse(&datagram).unwrap();
    assert_eq!(
        packet.check_message_authenticator(&secret(), None),
        MessageAuthenticator::Valid
    );
    let mut head = String::new();
    print_head(&mut head, &packet, None).unwrap();
    assert_eq!(
        head,
        "Access-Request id=7 authenticator=0x0102030405060708090a0b0c0d0e0f10"
    );
    let again = format!("{head} {}", printed(&dictionary, &datagram, None));
    assert_eq!(encoded(&dictionary, &again), datagram);
    // Without the secret the octets are the same, too.
    let line = Line::parse(&dictionary, &again).unwrap();
    let mut out = Vec::new();
    line.write(&dictionary, None, &[0; 16], &mut || 0, &mut out).unwrap();
    assert_eq!(out, datagram);
    let unsealed = |text: &str, secret: Option<&Secret>| {
        let line = Line::parse(&dictionary, text).unwrap();
        line.write(&dictionary, secret, &[0; 16], &mut || 0, &mut Vec::new())
            .unwrap_err()
    };
    assert_eq!(unsealed("Access-Accept", Some(&secret())), Unsealed::NoRequest);
    assert_eq!(unsealed("Access-Accept", None), Unsealed::NoAuthenticator);
    assert_eq!(unsealed("Accounting-Request", None), Unsealed::NoAuthenticator);
    assert_eq!(unsealed("Code-99", Some(&secret())), Unsealed::NoRequest);
    assert_eq!(
        unsealed("Access-Request Class = 0x, User-Password = \"x\"", None),
        Unsealed::Item(1, Unwritable::NoSecret)
    );
}

#[test]
fn mistakes_are_told_with_column_and_what_is_right() {
    let dictionary = dictionary();
    let mistake = |text: &str| Line::parse(&dictionary, text).unwrap_err().to_string();
    assert_eq!(
        mistake("Accept User-Name = a"),
        "column 1: code Accept; the name of a code, like Access-Request, or Code- and its number"
    );
    assert_eq!(
        mistake("Access-Request id=256"),
        "column 16: id=256; id= and a number of 0 to 255"
    );
    assert_eq!(
        mistake("Access-Request authenticator=0x00"),
        "column 16: authenticator=0x00; authenticator=0x and 32 hex digits"
    );
    assert_eq!(
        mistake("Access-Request User-Nam = a"),
        "column 16: unknown attribute User-Nam; User-Name"
    );
    let found = mistake("Access-Request User-Name = \"é\", Frobnicate = a");
    assert_eq!(
        found,
        "column 33: unknown attribute Frobnicate; an attribute of the dictionary, or Attr- and its number"
    );
    assert!(mistake("Access-Request NAS-Port = x").starts_with("column 27: NAS-Port = x; a number"));
    assert!(mistake("Access-Request NAS-Port 3").contains("no = behind the name; NAS-Port = value"));
    assert!(mistake("Access-Request NAS-Port = ").contains("no value for NAS-Port"));
    assert!(mistake("Access-Request NAS-Port:1 = 3").contains("no tag"));
    assert!(mistake("Access-Request Tunnel-Type:32 = 3").contains("a number of 0 to 31"));
    assert!(mistake("Access-Request User-Name = \"a").contains("a quote that does not end"));
    assert!(mistake("Access-Request User-Name = \"\\q\"").contains("an unknown escape"));
    assert!(mistake("Access-Request User-Name = a b").contains("a comma before the next attribute"));
    assert!(mistake("Access-Request P-Outer = 1").contains("attributes in braces"));
    assert!(mistake("Access-Request P-Outer = { P-Number = 1").contains("the end of the line"));
    assert!(mistake("Access-Request P-Outer = { }").contains("at least one attribute"));
    assert!(mistake("Access-Request P-Outer = { User-Name = a }").contains("an attribute inside the tlv 26.32000.11"));
    assert!(mistake("Access-Request User-Name = a }").contains("a { before it"));
    assert!(mistake("Access-Request Attr-26.9.1 = a").contains("pairs of hex digits"));
    assert!(mistake("Access-Request Attr-1.2.3.4.5.6.7.8.9 = 0x").contains("unknown attribute"));
    assert!(mistake("Access-Request Vendor-Specific = 0x").contains("no value"));
    let deep = "P-Outer = { ".repeat(100);
    assert!(mistake(&format!("Access-Request {deep}")).contains("inside the tlv"));
}

fn items() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    let numbers = prop_oneof![
        Just(26u32),
        Just(241),
        Just(245),
        Just(64),
        Just(69),
        Just(79),
        Just(97),
        Just(173),
        1u32..=255
    ];
    let values = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (
            prop_oneof![Just(9u32), Just(311), Just(429), Just(8164), Just(24757), Just(32000)],
            proptest::collection::vec(0u8..16, 0..40)
        )
            .prop_map(|(vendor, rest)| [&vendor.to_be_bytes()[..], &rest].concat()),
    ];
    proptest::collection::vec((numbers, values), 0..8)
}

proptest! {
    /// Any packet is printed, and what is printed is read as the same attributes.
    #[test]
    fn what_is_printed_is_read_again(list in items(), code in prop_oneof![Just(1u8), Just(4)]) {
        let dictionary = dictionary();
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code(code), 1, &[9; 16]);
        for (number, value) in list {
            let number = u8::try_from(number).unwrap();
            if number != number::MESSAGE_AUTHENTICATOR {
                writer.attribute(number, &value).unwrap();
            }
        }
        writer.finish(&secret()).unwrap();
        let text = printed(&dictionary, &out, None);
        let again = encoded(&dictionary, &format!("{} id=1 authenticator=0x{} {text}", Code(code), "09".repeat(16)));
        prop_assert_eq!(printed(&dictionary, &again, None), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(Access-Request )?[ -~é]{0,60}") {
        let dictionary = Dictionary::standard();
        let _ = Line::parse(&dictionary, &text);
    }

    #[test]
    fn dates_go_both_ways(seconds: u32) {
        let text = date::print(seconds);
        prop_assert_eq!(date::parse(&text), Some(seconds));
    }
}

#[test]
fn dates_are_what_they_are() {
    use super::date::{parse, print};
    assert_eq!(print(0), "Jan  1 1970 00:00:00 UTC");
    assert_eq!(print(951_782_400), "Feb 29 2000 00:00:00 UTC");
    assert_eq!(print(u32::MAX), "Feb  7 2106 06:28:15 UTC");
    assert_eq!(parse("2000-02-29T00:00:00Z"), Some(951_782_400));
    for wrong in [
        "2001-02-29T00:00:00Z",
        "Feb 30 2000 00:00:00 UTC",
        "Jan  1 2107 00:00:00 UTC",
        "x",
        "-1",
        "2000-13-01T00:00:00Z",
    ] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
    let path = Path::parse("26.9.1").unwrap();
    assert_eq!(
        (path.to_string(), Path::parse("26..1"), Path::parse("")),
        ("26.9.1".to_string(), None, None)
    );
}
