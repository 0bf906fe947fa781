use proptest::prelude::*;

use super::*;

fn written(version: Version, ends: Ends<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, version, ends);
    out
}

fn between(source: &str, destination: &str) -> Ends<'static> {
    Ends::Ip {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A header of version 2 with any content.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn the_lines_are_those_of_the_definition() {
    let v4 = between("255.255.255.255:65535", "192.0.2.1:389");
    assert_eq!(
        written(Version::V1, v4),
        b"PROXY TCP4 255.255.255.255 192.0.2.1 65535 389\r\n"
    );
    let v6 = between("[2001:db8::1]:1", "[2001:db8::2]:389");
    assert_eq!(
        written(Version::V1, v6),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 1 389\r\n"
    );
    assert_eq!(written(Version::V1, Ends::Local), b"PROXY UNKNOWN\r\n");
    // The worst case of section 2.1 is as long as a header may be.
    let longest =
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), V1_BYTES_MAX);
    assert_eq!(Header::read(longest.as_bytes()).unwrap().ends, Ends::Unknown);
}

#[test]
fn the_blocks_are_those_of_the_definition() {
    let v4 = written(Version::V2, between("192.0.2.7:4660", "192.0.2.1:389"));
    let body = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 0x01, 0x85];
    assert_eq!(v4, v2(0x21, 0x11, &body));
    assert_eq!(written(Version::V2, Ends::Local), v2(0x20, 0, &[]));
    assert_eq!(written(Version::V2, Ends::Unknown), v2(0x21, 0, &[]));
    // LOCAL says nothing else, whatever stands there.
    assert_eq!(Header::read(&v2(0x20, 0x11, b"x")).unwrap().ends, Ends::Local);
    // Datagrams fall back to the socket's own addresses.
    assert_eq!(Header::read(&v2(0x21, 0x12, &body)).unwrap().ends, Ends::Unknown);
    let mut unix = [0; 216];
    unix[..4].copy_from_slice(b"/run");
    let block = v2(0x21, 0x31, &unix);
    let ends = Header::read(&block).map(|header| header.ends);
    assert_eq!(
        ends,
        Ok(Ends::Unix {
            source: b"/run",
            destination: b""
        })
    );
}

#[test]
fn mapped_addresses_are_written_as_what_they_are() {
    let mapped = between("[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.1]:2");
    assert_eq!(written(Version::V1, mapped), b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n");
    let mixed = written(Version::V2, between("192.0.2.7:1", "[2001:db8::1]:2"));
    let ends = Header::read(&mixed).map(|header| header.ends);
    assert_eq!(ends, Ok(between("[::ffff:192.0.2.7]:1", "[2001:db8::1]:2")));
}

#[test]
fn extensions_are_carried_and_must_be_whole() {
    let mut body = vec![192, 0, 2, 7, 192, 0, 2, 1, 0, 1, 0, 2];
    body.extend_from_slice(b"\x02\0\x04name\x04\0\0");
    let whole = v2(0x21, 0x11, &body);
    let header = Header::read(&whole).unwrap();
    let found: Vec<_> = header.tlvs.collect();
    assert_eq!(found, [(2, &b"name"[..]), (4, &b""[..])]);
    body.pop();
    assert_eq!(Header::read(&v2(0x21, 0x11, &body)), Err(Malformed::Truncated));
}

#[test]
fn what_is_no_header_is_refused() {
    let refused = |bytes: &[u8]| Header::read(bytes).is_err();
    for line in [
        "PROXY",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.007 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 -2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
        "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY UNKNOWNED\r\n",
        "PROXY UNKNOWN\n",
        "proxy UNKNOWN\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nx",
    ] {
        assert!(refused(line.as_bytes()), "{line:?}");
    }
    assert!(refused(&v2(0x22, 0x11, &[0; 12])), "an unknown command");
    assert!(refused(&v2(0x21, 0x13, &[0; 12])), "an unknown protocol");
    assert!(refused(&v2(0x21, 0x11, &[0; 11])), "less than two addresses");
    assert!(refused(&v2(0x21, 0x21, &[0; 12])), "v4 said to be v6");
    assert!(refused(&v2(0x21, 0x31, &[0; 215])), "less than two paths");
}

#[test]
fn what_cannot_become_a_header_is_known_at_once() {
    let any = |bytes: &[u8]| split(bytes, Accepted::Any);
    assert_eq!(any(b""), Step::NeedMore { total: None });
    assert_eq!(any(b"0"), Step::Malformed(Malformed::BadMagic));
    assert_eq!(any(b"PROXI"), Step::Malformed(Malformed::BadMagic));
    assert_eq!(any(b"\r\n\r\n\0\r\nQUIX"), Step::Malformed(Malformed::BadMagic));
    assert_eq!(any(&v2(0x11, 0x11, &[])[..13]), Step::Malformed(Malformed::BadVersion));
    assert_eq!(
        any(&[b"PROXY ", &[b'x'; 101][..]].concat()),
        Step::Malformed(Malformed::TooLarge)
    );
    assert_eq!(
        any(&[b"PROXY ", &[b'x'; 100][..]].concat()),
        Step::NeedMore { total: None }
    );
    let large = v2(0x21, 0, &[0; V2_BYTES_MAX - V2_HEAD_BYTES + 1]);
    assert_eq!(any(&large[..16]), Step::Malformed(Malformed::TooLarge));
    let largest = v2(0x21, 0, &[0; V2_BYTES_MAX - V2_HEAD_BYTES]);
    let total = Some(V2_BYTES_MAX);
    assert_eq!(any(&largest[..16]), Step::NeedMore { total });
    // The other version is refused by its first byte.
    let wrong = Step::Malformed(Malformed::BadVersion);
    assert_eq!(split(b"P", Accepted::Only(Version::V2)), wrong);
    assert_eq!(split(b"\r", Accepted::Only(Version::V1)), wrong);
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical());
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_every_beginning_waits(
        source in address(),
        destination in address(),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        version in prop_oneof![Just(Version::V1), Just(Version::V2)],
    ) {
        let bytes = written(version, Ends::Ip { source, destination });
        for cut in 0..bytes.len() {
            let waits = matches!(split(&bytes[..cut], Accepted::Only(version)), Step::NeedMore { .. });
            prop_assert!(waits, "{}", bytes[..cut].escape_ascii());
        }
        let followed = [&bytes[..], &behind].concat();
        prop_assert_eq!(split(&followed, Accepted::Any), Step::Frame { len: bytes.len() });
        let header = Header::read(&bytes).unwrap();
        let Ends::Ip { source: from, destination: to } = header.ends else {
            panic!("{header:?}");
        };
        prop_assert_eq!(header.version, version);
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        prop_assert_eq!((plain(from), plain(to)), (source, destination));
    }

    #[test]
    fn any_bytes_have_one_answer(
        begin in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&SIGNATURE[..])],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [begin, &bytes].concat();
        if let Step::Frame { len } = split(&bytes, Accepted::Any) {
            // Every beginning of a frame waits for the rest, so that it does not matter how it comes.
            for cut in 0..len {
                let waits = matches!(split(&bytes[..cut], Accepted::Any), Step::NeedMore { .. });
                prop_assert!(waits);
            }
            if let Ok(header) = Header::read(&bytes[..len]) {
                let again = written(header.version, header.ends);
                let read = Header::read(&again).unwrap();
                prop_assert!(again.len() <= len || header.version == Version::V1);
                prop_assert_eq!(written(header.version, read.ends), again);
            }
        } else {
            prop_assert!(Header::read(&bytes).is_err());
        }
    }
}
