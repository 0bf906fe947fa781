use super::*;
use proptest::prelude::*;
use wire::radius::Writer;

fn network(text: &str) -> Network {
    Network::read(text).unwrap()
}

fn clients(list: &[(&str, &[&str])]) -> Clients {
    let mut clients = Clients::default();
    for (name, networks) in list {
        let networks: Vec<Network> = networks.iter().map(|text| network(text)).collect();
        clients.add(Client::new(name, b"testing123"), &networks).unwrap();
    }
    clients
}

fn found<'c>(clients: &'c Clients, address: &str) -> Option<&'c str> {
    let id = clients.find(address.parse().unwrap())?;
    Some(clients.get(id).unwrap().name.as_str())
}

#[test]
fn the_longest_prefix_is_the_client() {
    let clients = clients(&[
        ("all", &["*"]),
        ("site", &["10.0.0.0/8", "2001:db8::/32"]),
        ("floor", &["10.1.0.0/16"]),
        ("switch", &["10.1.0.7", "2001:db8::7"]),
    ]);
    assert_eq!(found(&clients, "192.0.2.1"), Some("all"));
    assert_eq!(found(&clients, "10.9.9.9"), Some("site"));
    assert_eq!(found(&clients, "10.1.9.9"), Some("floor"));
    assert_eq!(found(&clients, "10.1.0.7"), Some("switch"));
    assert_eq!(found(&clients, "::ffff:10.1.0.7"), Some("switch"));
    assert_eq!(found(&clients, "2001:db8:1::1"), Some("site"));
    assert_eq!(found(&clients, "2001:db8::7"), Some("switch"));
    assert_eq!(found(&clients, "2001:db9::7"), None);
}

#[test]
fn a_client_of_one_address_has_one() {
    let clients = clients(&[
        ("four", &["192.0.2.7"]),
        ("six", &["2001:db8::7"]),
        ("both", &["192.0.2.8", "2001:db8::8"]),
        ("network", &["198.51.100.0/24"]),
        ("mixed", &["203.0.113.7", "203.0.113.128/25"]),
    ]);
    let address = |name: &str| clients.only_address(name).map(|address| address.to_string());
    assert_eq!(address("four").as_deref(), Some("192.0.2.7"));
    assert_eq!(address("six").as_deref(), Some("2001:db8::7"));
    for name in ["both", "network", "mixed", "nobody"] {
        assert_eq!(address(name), None, "{name}");
    }
}

#[test]
fn what_is_no_network_says_what_would_be_right() {
    for (text, right) in [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("10.0.0.0/33", "0 to 32"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("localhost", "192.0.2.7"),
    ] {
        let why = Network::read(text).unwrap_err();
        assert!(why.contains(right), "{why}");
    }
    let mut known = clients(&[("one", &["10.0.0.0/8"])]);
    let twice = known
        .add(Client::new("two", b"x"), &[network("10.0.0.0/8")])
        .unwrap_err();
    assert!(twice.contains("one") && twice.contains("two"), "{twice}");
    assert!(known.add(Client::new("one", b"x"), &[]).unwrap_err().contains("one"));
    let itself = known.add(Client::new("three", b"x"), &[network("::1"), network("::1")]);
    assert!(itself.unwrap_err().contains("three"));
}

/// A packet that is no good in this way or that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signed {
    None,
    Right,
    Wrong,
}

fn packet(code: Code, signed: Signed, proxied: bool, eap: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, code, 7, &[9; 16]);
    if signed != Signed::None {
        writer.message_authenticator().unwrap();
    }
    writer.attribute(number::USER_NAME, b"bob").unwrap();
    if proxied {
        writer.attribute(number::PROXY_STATE, b"p").unwrap();
    }
    if eap {
        writer.attribute(number::EAP_MESSAGE, b"\x02\x01\x00\x05\x01").unwrap();
    }
    let secret: &[u8] = if signed == Signed::Wrong {
        b"other"
    } else {
        b"testing123"
    };
    writer.finish(&Secret::new(secret)).unwrap();
    out
}

/// The whole matrix of BlastRADIUS: code, Message-Authenticator, Proxy-State, EAP and both settings, against the rules said in
/// one sentence each.
#[test]
fn the_blast_radius_matrix() {
    let demands = [Demand::Yes, Demand::No, Demand::Auto];
    let mut accepted = 0;
    for code in [Code::ACCESS_REQUEST, Code::ACCOUNTING_REQUEST, Code::STATUS_SERVER] {
        for signed in [Signed::None, Signed::Right, Signed::Wrong] {
            for (proxied, eap) in [(false, false), (true, false), (false, true), (true, true)] {
                for require in demands {
                    for limit in demands {
                        for shown in [false, true] {
                            let mut client = Client::new("c", b"testing123");
                            client.require_message_authenticator = require;
                            client.limit_proxy_state = limit;
                            if shown {
                                let good = packet(Code::ACCESS_REQUEST, Signed::Right, false, false);
                                client.verify(&Packet::parse(&good).unwrap()).unwrap();
                            }
                            let bytes = packet(code, signed, proxied, eap);
                            let got = client.verify(&Packet::parse(&bytes).unwrap()).is_ok();
                            let access = code == Code::ACCESS_REQUEST;
                            let must = require == Demand::Yes || (require == Demand::Auto && shown);
                            let limited = limit == Demand::Yes || (limit == Demand::Auto && shown);
                            let expected = match signed {
                                Signed::Wrong => false,
                                Signed::Right => true,
                                Signed::None if access => !(must || eap || (proxied && limited)),
                                Signed::None => code == Code::ACCOUNTING_REQUEST,
                            };
                            accepted += usize::from(got);
                            assert_eq!(
                                got, expected,
                                "{code} {signed:?} proxied {proxied} eap {eap} {require:?} {limit:?} shown {shown}"
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(accepted > 200, "{accepted}");
}

#[test]
fn the_first_request_decides_about_proxy_states() {
    let verify = |client: &Client, signed, proxied| {
        client.verify(&Packet::parse(&packet(Code::ACCESS_REQUEST, signed, proxied, false)).unwrap())
    };
    let mut client = Client::new("c", b"testing123");
    client.limit_proxy_state = Demand::Auto;
    client.require_message_authenticator = Demand::No;
    assert_eq!(verify(&client, Signed::None, true), Ok(()));
    assert_eq!(verify(&client, Signed::None, false), Ok(()));
    assert_eq!(
        verify(&client, Signed::None, true),
        Ok(()),
        "a proxy that is old stays one"
    );
    assert_eq!(verify(&client, Signed::Right, true), Ok(()));
    assert_eq!(verify(&client, Signed::None, true), Err(Dropped::ProxyStateUnprotected));

    let mut other = Client::new("c", b"testing123");
    other.limit_proxy_state = Demand::Auto;
    assert_eq!(verify(&other, Signed::None, false), Ok(()));
    assert_eq!(verify(&other, Signed::None, true), Err(Dropped::ProxyStateUnprotected));
}

#[test]
fn a_forged_signature_teaches_nothing_and_a_reload_forgets_nothing() {
    let old = clients(&[("c", &["10.0.0.1"])]);
    let client = old.named("c").unwrap();
    for (signed, shown) in [(Signed::Wrong, false), (Signed::None, false), (Signed::Right, true)] {
        let _ = client.verify(&Packet::parse(&packet(Code::ACCESS_REQUEST, signed, false, false)).unwrap());
        assert_eq!(client.learned.is_protected(), shown, "{signed:?}");
    }
    let new = clients(&[("c", &["10.0.0.2"])]);
    new.inherit(&old);
    assert!(new.named("c").unwrap().learned.is_protected());
    let mut changed = Clients::default();
    changed.add(Client::new("c", b"another"), &[]).unwrap();
    changed.inherit(&old);
    assert!(!changed.named("c").unwrap().learned.is_protected());
}

#[test]
fn another_secret_s_accounting_is_told_apart() {
    let client = Client::new("c", b"another");
    let bytes = packet(Code::ACCOUNTING_REQUEST, Signed::None, false, false);
    let verdict = client.verify(&Packet::parse(&bytes).unwrap());
    assert_eq!(verdict, Err(Dropped::WrongAuthenticator));
}

proptest! {
    /// Whoever sends for a while gets its rate and its burst, and not one more.
    #[test]
    fn a_rate_is_kept(per_sec in 1u32..2000, burst in 1u32..50, gaps in prop::collection::vec(0u64..20_000, 1..300)) {
        let mut client = Client::new("c", b"x");
        client.rate = Some(Rate { per_sec, burst });
        let begin = Instant::from_secs(100);
        let (mut now, mut taken) = (begin, 0u64);
        for gap in gaps {
            now += crate::core::time::Span::from_micros(gap);
            taken += u64::from(client.admits(now));
        }
        let micros = now.since(begin).as_micros();
        let each = 1_000_000 / u64::from(per_sec);
        prop_assert!(taken >= 1);
        prop_assert!(taken <= u64::from(burst) + micros / each.max(1) + 1);
    }

    /// As if every network were looked at.
    #[test]
    fn look_up_agrees_with_looking_at_all(
        networks in prop::collection::vec((any::<u16>(), 16u8..=32), 1..20), asked in any::<u16>(),
    ) {
        let mut all = Clients::default();
        let mut list: Vec<(Network, ClientId)> = Vec::new();
        for (at, (low, prefix)) in networks.iter().enumerate() {
            let bits = masked(u128::from(0x0a00_0000 | u32::from(*low)) << 96, *prefix);
            let address = IpAddr::from(u32::try_from(bits >> 96).unwrap().to_be_bytes());
            let network = Network { address, prefix: *prefix };
            if let Ok(id) = all.add(Client::new(&at.to_string(), b"x"), &[network]) {
                list.push((network, id));
            }
        }
        let address = IpAddr::from((0x0a00_0000 | u32::from(asked)).to_be_bytes());
        let holds = |network: &Network| network.key(address) == network.key(network.address);
        let expected = list.iter().filter(|(network, _)| holds(network)).max_by_key(|(network, _)| network.prefix);
        prop_assert_eq!(all.find(address), expected.map(|(_, id)| *id));
    }
}
