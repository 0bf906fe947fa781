//! Headers of both versions, as a balancer writes them.

use wire::proxy_header::{Ends, Version, write};

pub(crate) fn all() -> Vec<Vec<u8>> {
    let pairs = [
        ("192.0.2.7:49152", "192.0.2.1:389"),
        ("[2001:db8::7]:49152", "[2001:db8::1]:636"),
    ];
    let mut ends = vec![Ends::Local, Ends::Unknown];
    ends.extend(pairs.map(|(source, destination)| Ends::Ip {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }));
    ends.push(Ends::Unix {
        source: b"",
        destination: b"/run/balancer.sock",
    });
    let mut seeds = Vec::new();
    for version in [Version::V1, Version::V2] {
        for end in &ends {
            let mut out = Vec::new();
            write(&mut out, version, *end);
            // With what follows it.
            out.extend_from_slice(b"0\x05\x02\x01\x01B\0");
            seeds.push(out);
        }
    }
    // Extensions: the protocol, and a name.
    let mut extended = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1b\xc0\0\x02\x07\xc0\0\x02\x01\xc0\0\x01\x85".to_vec();
    extended.extend_from_slice(b"\x01\0\x04ldap\x02\0\x05names");
    seeds.push(extended);
    seeds
}
