//! The examples of RFC 6929 section 9, and adversarial packets.

use super::dictionary::Source;
use super::packet_tests::hex;
use super::text::{parse_list, print_list};
use super::*;

/// The RFC's examples name no attributes: these are as its values are.
const EXAMPLES: &str = "
ATTRIBUTE Ext-1 241 extended
ATTRIBUTE Ext-5 245 long-extended
ATTRIBUTE Evs-1 241.26 evs
ATTRIBUTE Evs-5 245.26 evs
ATTRIBUTE Text 241.1 string
ATTRIBUTE Box 241.2 tlv
ATTRIBUTE Box-1 241.2.1 octets
ATTRIBUTE Box-2 241.2.2 octets
ATTRIBUTE Box-3 241.2.3 tlv
ATTRIBUTE Box-3-1 241.2.3.1 octets
ATTRIBUTE Box-3-2 241.2.3.2 string
ATTRIBUTE Deep 241.3 tlv
ATTRIBUTE Deep-1 241.3.1 tlv
ATTRIBUTE Deep-2 241.3.1.2 tlv
ATTRIBUTE Deep-3 241.3.1.2.3 tlv
ATTRIBUTE Deep-4 241.3.1.2.3.4 tlv
ATTRIBUTE Deep-5 241.3.1.2.3.4.5 octets
ATTRIBUTE Long 245.4 string
VENDOR One 1
BEGIN-VENDOR One parent=Evs-1
ATTRIBUTE One-4 4 string
ATTRIBUTE One-5 5 tlv
ATTRIBUTE One-5-3 5.3 string
END-VENDOR One
BEGIN-VENDOR One parent=Evs-5
ATTRIBUTE Long-6 6 octets
END-VENDOR One
";

fn dictionary() -> Dictionary {
    let source = Source {
        name: "examples".to_string(),
        text: EXAMPLES.to_string(),
    };
    let loaded = Dictionary::empty().load("examples", &mut |_, _| Ok(Some(source.clone())));
    loaded.unwrap().dictionary
}

fn packet(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + attributes.len()).unwrap().to_be_bytes();
    [&[1, 1], &length[..], &[0; 16], attributes].concat()
}

fn printed(dictionary: &Dictionary, datagram: &[u8]) -> String {
    let mut text = String::new();
    print_list(&mut text, Packet::parse(datagram).unwrap().walk(dictionary, None)).unwrap();
    text
}

#[test]
fn the_examples_of_rfc_6929_go_both_ways() {
    let after = "aa".repeat(246);
    let long = format!("f5 ff 04 80 {} f5 07 04 00 62 6f 62", "61".repeat(251));
    let a = "a".repeat(251);
    let evs = format!("f5 ff 1a 80 00 00 00 01 06 {after} f5 0c 1a 00 {}", "bb".repeat(8));
    let (long_text, evs_text) = (
        format!("Long = \"{a}bob\""),
        format!("Long-6 = 0x{after}{}", "bb".repeat(8)),
    );
    for (text, octets) in [
        ("Text = \"bob\"", "f1 06 01 62 6f 62"),
        ("Box = { Box-1 = 0x2345 }", "f1 07 02 01 04 23 45"),
        (
            "Box = { Box-1 = 0x2345, Box-2 = 0x6789 }",
            "f1 0b 02 01 04 23 45 02 04 67 89",
        ),
        (
            "Box = { Box-1 = 0x2345, Box-3 = { Box-3-1 = 0xabcd } }",
            "f1 0d 02 01 04 23 45 03 06 01 04 ab cd",
        ),
        (
            "Box = { Box-1 = 0x2345, Box-3 = { Box-3-1 = 0xabcd, Box-3-2 = \"foo\" } }",
            "f1 12 02 01 04 23 45 03 0b 01 04 ab cd 02 05 66 6f 6f",
        ),
        (
            "Deep = { Deep-1 = { Deep-2 = { Deep-3 = { Deep-4 = { Deep-5 = 0xcdef } } } } }",
            "f1 0f 03 01 0c 02 0a 03 08 04 06 05 04 cd ef",
        ),
        ("One-4 = \"test\"", "f1 0c 1a 00 00 00 01 04 74 65 73 74"),
        (
            "One-5 = { One-5-3 = \"test\" }",
            "f1 0e 1a 00 00 00 01 05 03 06 74 65 73 74",
        ),
        ("Long = \"bob\"", "f5 07 04 00 62 6f 62"),
        (&long_text, &long),
        (&evs_text, &evs),
    ] {
        let dictionary = dictionary();
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
        for item in parse_list(&dictionary, text).unwrap() {
            writer.item(&dictionary, &item, None, &mut || 0).unwrap();
        }
        writer.finish_unsealed(&[0; 16]).unwrap();
        assert_eq!(out[20..], hex(octets), "{text}");
        assert_eq!(printed(&dictionary, &packet(&hex(octets))), text);
    }
}

/// The text is as long as the packet, whatever the packet says of itself: nothing is told twice, and nothing forever.
#[test]
fn nesting_and_fragments_without_end_are_bounded() {
    let dictionary = dictionary();
    // A tlv in a tlv as deep as an attribute holds.
    let mut nested = Vec::new();
    for depth in 1..=125_u8 {
        nested.splice(0..0, [1, 2 * depth]);
    }
    let text = printed(&dictionary, &packet(&[&[241, 253, 3], &nested[..]].concat()));
    assert!(
        text.starts_with("Deep = { Deep-1 = { Attr-241.3.1.1 = 0x01f6"),
        "{text}"
    );
    // Fragments that all say that more follow: each is what it is.
    let text = printed(&dictionary, &packet(&[245, 5, 4, 0x80, 7].repeat(800)));
    assert_eq!(text.matches("Attr-245 = 0x048007").count(), 800);
    // As many as a packet holds, joined once.
    let mut many = [245, 5, 4, 0x80, b'a'].repeat(800);
    many.extend_from_slice(&[245, 4, 4, 0]);
    assert_eq!(
        printed(&dictionary, &packet(&many)),
        format!("Long = \"{}\"", "a".repeat(800))
    );
    // Numbers of attributes that look like one another's headers.
    for octets in [
        "f1 03 1a",
        "f1 07 1a 00 00 00 01",
        "f5 04 1a 00",
        "f5 03 1a",
        "f1 08 1a 00 00 00 01 05",
        "f1 0a 1a 00 00 00 01 05 03 00",
    ] {
        let text = printed(&dictionary, &packet(&hex(octets)));
        assert!(text.starts_with("Attr-24"), "{octets}: {text}");
    }
}
