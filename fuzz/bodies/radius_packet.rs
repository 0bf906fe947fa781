//! Any bytes as a datagram: what is a packet is printed, read, written and printed again, with the secret and without.

use std::sync::OnceLock;

use wire::radius::dictionary::Source;
use wire::radius::text::{Line, Unsealed, print_head, print_list};
use wire::radius::{Dictionary, Full, MessageAuthenticator, Packet, Reveal, Secret, Unwritable};

/// What our own dictionary has not: vendors with other headers, fragments, arrays, TLVs in TLVs.
const EXTRA: &str = "
VENDOR Usr 429 format=4,0
VENDOR Wide 8164 format=2,2
VENDOR Wimax 24757 format=1,1,c
BEGIN-VENDOR Wide
ATTRIBUTE Wide-Tlv 3 tlv
ATTRIBUTE Wide-Inner 3.1 tlv
ATTRIBUTE Wide-Leaf 3.1.1 integer
ATTRIBUTE Wide-Hosts 4 ipaddr array
ATTRIBUTE Wide-Key 5 string encrypt=2
END-VENDOR Wide
BEGIN-VENDOR Wimax
ATTRIBUTE Wimax-Long 5 octets
ATTRIBUTE Wimax-Tlv 1 tlv
ATTRIBUTE Wimax-Byte 1.1 byte
END-VENDOR Wimax
ATTRIBUTE Long-Tlv 245.1 tlv
ATTRIBUTE Long-Leaf 245.1.1 octets
";

const REQUEST: [u8; 16] = [7; 16];

fn dictionary() -> &'static Dictionary {
    static DICTIONARY: OnceLock<Dictionary> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let extra = Source {
            name: "extra".to_string(),
            text: EXTRA.to_string(),
        };
        let loaded = Dictionary::standard().load("extra", &mut |_, _| Ok(Some(extra.clone())));
        loaded.expect("it is right").dictionary
    })
}

pub(crate) fn run(data: &[u8]) {
    let secret = Secret::new(b"xyzzy5461");
    let Ok(packet) = Packet::parse(data) else { return };
    assert!(packet.as_bytes().len() <= data.len());
    let _ = packet.check_request(&secret);
    let _ = packet.chap();
    for definition in ["Wide-Leaf", "Tunnel-Password", "EAP-Message"] {
        let definition = dictionary().named(definition).expect("it is there");
        let _ = packet.values(dictionary(), definition, None).count();
    }
    let text = printed(&packet, None);
    if let Some(again) = written(&packet, &text, None) {
        assert_eq!(printed(&Packet::parse(&again).expect("we wrote it"), None), text);
    }
    let text = printed(&packet, Some(&secret));
    if let Some(sealed) = written(&packet, &text, Some(&secret)) {
        let sealed = Packet::parse(&sealed).expect("we wrote it");
        let of = (!sealed.code().is_request()).then_some(&REQUEST);
        assert_ne!(
            sealed.check_message_authenticator(&secret, of),
            MessageAuthenticator::Invalid
        );
        assert!(of.is_none_or(|of| sealed.check_response(&secret, of)) && sealed.check_request(&secret));
    }
}

fn printed(packet: &Packet<'_>, secret: Option<&Secret>) -> String {
    let request = (!packet.code().is_request()).then_some(&REQUEST);
    let reveal = secret.map(|secret| Reveal {
        secret,
        authenticator: packet.hiding_authenticator(request),
    });
    let mut text = String::new();
    print_list(&mut text, packet.walk(dictionary(), reveal)).expect("a String takes all");
    text
}

/// None: with the header that each of a vendor's attributes gets, they no longer fit.
fn written(packet: &Packet<'_>, list: &str, secret: Option<&Secret>) -> Option<Vec<u8>> {
    let mut text = String::new();
    let request = (!packet.code().is_request()).then_some(&REQUEST);
    print_head(&mut text, packet, request).expect("a String takes all");
    let text = format!("{text} {list}");
    let line = Line::parse(dictionary(), &text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    let (mut out, mut salt) = (Vec::new(), 0_u16);
    let mut salts = || {
        salt = salt.wrapping_add(1);
        salt
    };
    match line.write(dictionary(), secret, &[0; 16], &mut salts, &mut out) {
        Ok(()) => Some(out),
        Err(Unsealed::Item(_, Unwritable::Full(Full::Packet))) => None,
        Err(why) => panic!("{text}: {why}"),
    }
}
