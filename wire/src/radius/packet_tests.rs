use proptest::prelude::*;

use super::*;

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn secret() -> Secret {
    Secret::new(b"xyzzy5461")
}

/// RFC 2865 section 7.1: User Telnet to Specified Host.
const TELNET_REQUEST: &str = "01 00 00 38 0f 40 3f 94 73 97 80 57 bd 83 d5 cb 98 f4 22 7a 01 06 6e 65 6d 6f 02 12 \
    0d be 70 8d 93 d4 13 ce 31 96 e4 3f 78 2a 0a ee 04 06 c0 a8 01 10 05 06 00 00 00 03";
const TELNET_ACCEPT: &str = "02 00 00 26 86 fe 22 0e 76 24 ba 2a 10 05 f6 bf 9b 55 e0 b2 06 06 00 00 00 01 0f 06 \
    00 00 00 00 0e 06 c0 a8 01 03";
/// RFC 2865 section 7.2: Framed User Authenticating with CHAP.
const CHAP_REQUEST: &str = "01 01 00 47 2a ee 86 f0 8d 0d 55 96 9c a5 97 8e 0d 33 67 a2 01 08 66 6c 6f 70 73 79 03 \
    13 16 e9 75 57 c3 16 18 58 95 f2 93 ff 63 44 07 72 75 04 06 c0 a8 01 10 05 06 00 00 00 14 06 06 00 00 00 02 07 \
    06 00 00 00 01";
const CHAP_ACCEPT: &str = "02 01 00 38 15 ef bc 7d ab 26 cf a3 dc 34 d9 c0 3c 86 01 a4 06 06 00 00 00 02 07 06 00 \
    00 00 01 08 06 ff ff ff fe 0a 06 00 00 00 02 0d 06 00 00 00 01 0c 06 00 00 05 dc";
/// RFC 5997 section 6.1 and 6.2.
const STATUS_REQUEST: &str = "0c da 00 26 8a 54 f4 68 6f b3 94 c5 28 66 e3 02 18 5d 06 23 50 12 5a 66 5e 2e 1e 84 11 \
    f3 e2 43 82 20 97 c8 4f a3";
const STATUS_ACCEPT: &str = "02 da 00 14 ef 0d 55 2a 4b f2 d6 93 ec 2b 6f e8 b5 41 1d 66";
const STATUS_ACCOUNTING_REQUEST: &str = "0c b3 00 26 92 5f 6b 66 dd 5f ed 57 1f cb 1d b7 ad 38 82 60 50 12 e8 d6 ea \
    bd a9 10 87 5c d9 1f da de 26 36 78 58";
const STATUS_ACCOUNTING_RESPONSE: &str = "05 b3 00 14 0f 6f 92 14 5f 10 7e 2f 50 4e 86 0a 48 60 66 9c";

#[test]
fn the_password_of_the_rfc_is_found_and_hidden_again() {
    let datagram = hex(TELNET_REQUEST);
    let request = Packet::parse(&datagram).unwrap();
    assert_eq!((request.code(), request.identifier()), (Code::ACCESS_REQUEST, 0));
    assert_eq!(request.find(number::USER_NAME), Some(&b"nemo"[..]));
    assert_eq!(request.user_password(&secret()).unwrap().as_bytes(), b"arctangent");

    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 0, request.authenticator());
    writer.attribute(number::USER_NAME, b"nemo").unwrap();
    writer.user_password(b"arctangent", &secret()).unwrap();
    writer.attribute(number::NAS_IP_ADDRESS, &[192, 168, 1, 16]).unwrap();
    writer.attribute(number::NAS_PORT, &[0, 0, 0, 3]).unwrap();
    writer.finish(&secret()).unwrap();
    assert_eq!(out, datagram);
}

#[test]
fn the_answers_of_the_rfcs_are_right_and_wrong_where_they_should() {
    let pairs = [
        (TELNET_REQUEST, TELNET_ACCEPT),
        (CHAP_REQUEST, CHAP_ACCEPT),
        (STATUS_REQUEST, STATUS_ACCEPT),
        (STATUS_ACCOUNTING_REQUEST, STATUS_ACCOUNTING_RESPONSE),
    ];
    for (request, reply) in pairs {
        let (request, mut reply) = (hex(request), hex(reply));
        let request = Packet::parse(&request).unwrap();
        let check = |reply: &[u8], secret: &Secret| {
            let reply = Packet::parse(reply).unwrap();
            reply.check_response(secret, request.authenticator())
        };
        assert!(check(&reply, &secret()), "{request:?}");
        assert!(!check(&reply, &Secret::new(b"xyzzy5462")));
        let mut written = b"before".to_vec();
        let mut writer = Writer::bare(&mut written, Code(reply[0]), reply[1], request.authenticator());
        for attribute in Packet::parse(&reply).unwrap().attributes() {
            writer.attribute(attribute.number, attribute.value).unwrap();
        }
        writer.finish(&secret()).unwrap();
        assert_eq!(written, [b"before", &reply[..]].concat());
        reply[1] ^= 1;
        assert!(!check(&reply, &secret()));
    }
}

#[test]
fn the_message_authenticators_of_the_rfc_are_right() {
    for text in [STATUS_REQUEST, STATUS_ACCOUNTING_REQUEST] {
        let datagram = hex(text);
        let request = Packet::parse(&datagram).unwrap();
        assert!(request.message_authenticator_is_first());
        assert_eq!(
            request.check_message_authenticator(&secret(), None),
            MessageAuthenticator::Valid
        );
        let mut out = Vec::new();
        let writer = Writer::request(&mut out, request.code(), request.identifier(), request.authenticator());
        writer.finish(&secret()).unwrap();
        assert_eq!(out, datagram);
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(packet) = Packet::parse(&changed) {
                assert_ne!(
                    packet.check_message_authenticator(&secret(), None),
                    MessageAuthenticator::Valid
                );
            }
        }
    }
}

#[test]
fn chap_is_checked_against_either_challenge() {
    let response: [u8; 16] = md5_of(&[&[0x16], b"secret", &[5; 16]]);
    let chap = Chap {
        identifier: 0x16,
        response: &response,
        challenge: &[5; 16],
    };
    assert!(chap.check(b"secret") && !chap.check(b"secre") && !chap.check(b""));

    let datagram = hex(CHAP_REQUEST);
    let request = Packet::parse(&datagram).unwrap();
    let chap = request.chap().unwrap();
    assert_eq!((chap.identifier, chap.response[0]), (0x16, 0xe9));
    assert_eq!(chap.challenge, request.authenticator());
    let mut out = Vec::new();
    let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 0, &[1; 16]);
    writer.attribute(number::CHAP_PASSWORD, &[7; 17]).unwrap();
    writer.attribute(number::CHAP_CHALLENGE, b"challenge").unwrap();
    writer.finish(&secret()).unwrap();
    let request = Packet::parse(&out).unwrap();
    assert_eq!(request.chap().unwrap().challenge, b"challenge");
}

fn md5_of(parts: &[&[u8]]) -> [u8; 16] {
    use md5::{Digest, Md5};
    Md5::digest(parts.concat()).into()
}

#[test]
fn every_code_has_the_authenticators_that_belong_to_it() {
    let request_bytes = hex(CHAP_REQUEST);
    let request = Packet::parse(&request_bytes).unwrap();
    for code in (0..=255).map(Code) {
        let mut out = Vec::new();
        let asks = code.is_request();
        let mut writer = if asks {
            Writer::request(&mut out, code, 9, &[3; 16])
        } else {
            Writer::reply(&mut out, code, &request)
        };
        writer.attribute(number::CLASS, b"class").unwrap();
        writer.finish(&secret()).unwrap();
        let packet = Packet::parse(&out).unwrap();
        let of = (!asks).then(|| request.authenticator());
        let accounting = matches!(code, Code::ACCOUNTING_REQUEST | Code::ACCOUNTING_RESPONSE);
        assert_eq!(packet.message_authenticator_is_first(), !accounting, "{code}");
        let expected = if accounting {
            MessageAuthenticator::Absent
        } else {
            MessageAuthenticator::Valid
        };
        assert_eq!(packet.check_message_authenticator(&secret(), of), expected, "{code}");
        let other = Secret::new(b"other");
        assert_ne!(
            packet.check_message_authenticator(&other, of),
            MessageAuthenticator::Valid
        );
        assert!(packet.check_request(&secret()), "{code}");
        assert_eq!(packet.check_request(&other), !code.is_signed_request(), "{code}");
        assert_eq!(
            packet.check_response(&secret(), request.authenticator()),
            !asks,
            "{code}"
        );
        if asks && !code.is_signed_request() {
            assert_eq!(packet.authenticator(), &[3; 16]);
        }
        if code.is_reply() && !accounting {
            assert_eq!(
                packet.check_message_authenticator(&secret(), None),
                MessageAuthenticator::Invalid
            );
        }
    }
}

/// From the definition (RFC 2104), with keys of every length around a block.
#[test]
fn the_hmac_is_the_hmac() {
    for bytes in [0, 1, 16, 63, 64, 65, 200] {
        let key = vec![0x5a; bytes];
        let mut block = if bytes > 64 {
            md5_of(&[&key]).to_vec()
        } else {
            key.clone()
        };
        block.resize(64, 0);
        let pad = |with: u8| -> Vec<u8> { block.iter().map(|octet| octet ^ with).collect() };
        let expected = md5_of(&[&pad(0x5c), &md5_of(&[&pad(0x36), b"what is said"])]);
        assert_eq!(
            Secret::new(&key).hmac([b"what ", b"is ", b"said", b"", b""]),
            expected,
            "{bytes}"
        );
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let with = |attributes: &[u8]| {
        let length = u8::try_from(20 + attributes.len()).unwrap();
        [&[1, 7, 0, length], &[9; 16][..], attributes].concat()
    };
    let parse = |datagram: &[u8]| Packet::parse(datagram).map(|packet| packet.attributes().count());
    assert_eq!(parse(&[]), Err(Malformed::NoHeader { bytes: 0 }));
    assert_eq!(parse(&[0; 19]), Err(Malformed::NoHeader { bytes: 19 }));
    assert_eq!(parse(&[0; 20]), Err(Malformed::LengthTooSmall { length: 0 }));
    assert_eq!(parse(&with(&[])), Ok(0));
    // Empty values are taken, RFC 2865 section 5 notwithstanding.
    assert_eq!(parse(&with(&[1, 2])), Ok(1));
    assert_eq!(parse(&with(&[1, 2, 1, 3, 0])), Ok(2));
    let lengths = |length, number, at| Err(Malformed::AttributeLength { at, number, length });
    assert_eq!(parse(&with(&[1, 0])), lengths(0, 1, 20));
    assert_eq!(parse(&with(&[1, 2, 5, 1])), lengths(1, 5, 22));
    let cut = |number, at| Err(Malformed::AttributeTruncated { at, number });
    assert_eq!(parse(&with(&[1])), cut(1, 20));
    assert_eq!(parse(&with(&[1, 2, 5])), cut(5, 22));
    assert_eq!(parse(&with(&[1, 4, 0])), cut(1, 20));
    assert_eq!(parse(&with(&[1, 255, 0])), cut(1, 20));
    // The header says more, or less, than there is.
    let mut datagram = with(&[1, 3, 0]);
    datagram[3] += 1;
    assert_eq!(parse(&datagram), Err(Malformed::Truncated { length: 24, bytes: 23 }));
    datagram[3] -= 1;
    datagram.extend_from_slice(&[0xff; 9]);
    assert_eq!(parse(&datagram), Ok(1));
    assert_eq!(Packet::parse(&datagram).unwrap().as_bytes().len(), 23);
    let mut large = vec![0; 5000];
    large[2..4].copy_from_slice(&4097u16.to_be_bytes());
    assert_eq!(parse(&large), Err(Malformed::LengthTooLarge { length: 4097 }));
    large[2..4].copy_from_slice(&4096u16.to_be_bytes());
    large[20..].fill(2);
    assert_eq!(parse(&large), Ok(2038));
}

#[test]
fn a_message_authenticator_is_one_and_has_sixteen_octets() {
    let with = |attributes: &[u8]| {
        let length = u8::try_from(20 + attributes.len()).unwrap();
        [&[1, 7, 0, length], &[9; 16][..], attributes].concat()
    };
    let right = [&[80, 18], &[0; 16][..]].concat();
    assert!(Packet::parse(&with(&right)).is_ok());
    assert!(
        !Packet::parse(&with(&[&[1, 2], &right[..]].concat()))
            .unwrap()
            .message_authenticator_is_first()
    );
    let twice = [&right[..], &right].concat();
    assert_eq!(
        Packet::parse(&with(&twice)).unwrap_err(),
        Malformed::MessageAuthenticator { at: 38 }
    );
    let short = [&[80, 17], &[0; 15][..]].concat();
    assert_eq!(
        Packet::parse(&with(&short)).unwrap_err(),
        Malformed::MessageAuthenticator { at: 20 }
    );
    assert_eq!(
        Packet::parse(&with(&[80, 2])).unwrap_err(),
        Malformed::MessageAuthenticator { at: 20 }
    );
}

#[test]
fn proxy_states_come_back_in_order_and_vendors_are_found() {
    let mut out = Vec::new();
    let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
    writer.attribute(number::PROXY_STATE, b"first").unwrap();
    writer.vendor(311, 25, b"response").unwrap();
    writer.vendor(9, 1, b"cisco").unwrap();
    writer.attribute(number::PROXY_STATE, b"").unwrap();
    writer
        .attribute(number::VENDOR_SPECIFIC, b"\0\0\x01\x37\x19\x03a\x19\x04bc\x19\x00")
        .unwrap();
    writer.attribute(number::PROXY_STATE, b"third").unwrap();
    writer.finish(&secret()).unwrap();
    let request = Packet::parse(&out).unwrap();
    assert_eq!(request.find_vendor(9, 1), Some(&b"cisco"[..]));
    assert_eq!(request.find_vendor(9, 2), None);
    let all: Vec<&[u8]> = request.all_vendor(311, 25).collect();
    assert_eq!(all, [&b"response"[..], b"a", b"bc"]);
    let mut reply = Vec::new();
    let mut writer = Writer::reply(&mut reply, Code::ACCESS_REJECT, &request);
    writer.proxy_states(&request).unwrap();
    writer.finish(&secret()).unwrap();
    let states: Vec<&[u8]> = Packet::parse(&reply).unwrap().all(number::PROXY_STATE).collect();
    assert_eq!(states, [&b"first"[..], b"", b"third"]);
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut out = b"kept".to_vec();
    let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
    assert_eq!(writer.attribute(1, &[0; 254]), Err(Full::Value));
    assert_eq!(writer.vendor(9, 1, &[0; 248]), Err(Full::Value));
    assert_eq!(writer.user_password(&[0; 129], &secret()), Err(Full::Value));
    assert_eq!(writer.bytes(), 38);
    writer.vendor(9, 1, &[0; 247]).unwrap();
    assert_eq!(writer.concat(79, &[0; 4096 - 38 - 255]), Err(Full::Packet));
    assert_eq!(writer.bytes(), 38 + 255);
    for _ in 0..14 {
        writer.attribute(1, &[0; 253]).unwrap();
    }
    writer.attribute(1, &[0; 4096 - 38 - 15 * 255 - 2]).unwrap();
    assert_eq!(writer.attribute(1, b""), Err(Full::Packet));
    assert_eq!(writer.finish(&secret()), Ok(4096));
    assert_eq!(out.len(), 4100);
    assert!(Packet::parse(&out[4..]).is_ok());
    // One that is given up leaves nothing behind.
    let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
    writer.attribute(1, b"bob").unwrap();
    drop(writer);
    assert_eq!(out.len(), 4100);
}

#[test]
fn long_values_become_several_attributes() {
    for bytes in [0, 1, 253, 254, 506, 507, 1000] {
        let value: Vec<u8> = (0u8..=250).cycle().take(bytes).collect();
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer.concat(number::EAP_MESSAGE, &value).unwrap();
        writer.finish(&secret()).unwrap();
        let packet = Packet::parse(&out).unwrap();
        let parts: Vec<&[u8]> = packet.all(number::EAP_MESSAGE).collect();
        assert_eq!(parts.concat(), value);
        assert_eq!(parts.len(), bytes.div_ceil(253).max(1));
    }
}

/// RFC 2868 section 3.5 in other words: the first key is of secret, authenticator and salt, the next of secret and the
/// hidden block before it.
#[test]
fn salted_values_are_hidden_as_the_rfc_says() {
    let (authenticator, password) = ([4; 16], b"a tunnel password of 31 octets.");
    let mut out = Vec::new();
    assert!(hide_tunnel_password(
        &mut out,
        3,
        password,
        0x0102,
        &secret(),
        &authenticator
    ));
    let salt = [0x81, 0x02];
    assert_eq!(out[..3], [3, 0x81, 0x02]);
    let first = md5_of(&[b"xyzzy5461", &authenticator, &salt]);
    let second = md5_of(&[b"xyzzy5461", &out[3..19]]);
    let plain = [&[31], &password[..]].concat();
    let expected: Vec<u8> = plain.iter().zip([first, second].concat()).map(|(a, b)| a ^ b).collect();
    assert_eq!(out[3..], expected);
    let (tag, plain) = reveal_tunnel_password(&out, &secret(), &authenticator).unwrap();
    assert_eq!((tag, plain.as_bytes()), (3, &password[..]));
    // A length that lies, no block, half a block.
    out[3] ^= 0xe0;
    assert!(reveal_tunnel_password(&out, &secret(), &authenticator).is_none());
    for bytes in [0, 1, 2, 3, 4, 18, 20] {
        assert!(reveal_tunnel_password(&out[..bytes], &secret(), &authenticator).is_none());
    }
    assert!(reveal_password(&[0; 144], &secret(), &authenticator).is_none());
    assert!(reveal_password(&[0; 17], &secret(), &authenticator).is_none());
    assert!(reveal_password(&[], &secret(), &authenticator).is_none());
}

proptest! {
    #[test]
    fn any_datagram_is_a_packet_or_not(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Packet::parse(&datagram);
    }

    /// What is parsed and written again is the same.
    #[test]
    fn attributes_survive(list in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..20)) {
        let list: Vec<_> = list.into_iter().filter(|(number, _)| *number != number::MESSAGE_AUTHENTICATOR).collect();
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code::ACCOUNTING_REQUEST, 5, &[0; 16]);
        for (number, value) in &list {
            writer.attribute(*number, value).unwrap();
        }
        writer.finish(&secret()).unwrap();
        let packet = Packet::parse(&out).unwrap();
        let found: Vec<_> = packet.attributes().map(|found| (found.number, found.value.to_vec())).collect();
        prop_assert_eq!(found, list);
        prop_assert!(packet.check_request(&secret()));
    }

    #[test]
    fn passwords_survive(password in proptest::collection::vec(1u8.., 0..=128), authenticator: [u8; 16]) {
        let mut value = Vec::new();
        prop_assert!(hide_password(&mut value, &password, &secret(), &authenticator));
        prop_assert_eq!(value.len(), password.len().div_ceil(16).max(1) * 16);
        let plain = reveal_password(&value, &secret(), &authenticator).unwrap();
        prop_assert_eq!(plain.as_bytes(), &password[..]);
    }

    #[test]
    fn salted_values_survive(plain in proptest::collection::vec(any::<u8>(), 0..240), salt: u16, authenticator: [u8; 16]) {
        let mut value = Vec::new();
        prop_assert!(hide_salted(&mut value, &plain, salt, &secret(), &authenticator));
        let again = reveal_salted(&value, &secret(), &authenticator).unwrap();
        prop_assert_eq!(again.as_bytes(), &plain[..]);
    }
}
