//! The maps of networks (RFC 2307 section 3): hosts, networks, services, protocols, RPC programs, ethernet addresses,
//! netgroups and mail aliases. Their attributes have the names of the RFC.

use std::net::IpAddr;

use wire::nslcd::{self, Key, Map};

use super::entries::{first, values, wanted};
use super::maps::Maps;
use crate::ask::{Entry, name_parts};

/// The condition that finds what this key asks for; none: nothing can.
pub(super) fn condition(map: Map, key: &Key<'_>) -> Option<Vec<u8>> {
    use crate::ask::filter::{and, equal};
    Some(match (map, key) {
        (_, Key::All) => crate::ask::filter::ANY.to_vec(),
        (Map::Service, Key::ServiceName(name, protocol)) => with_protocol(equal("cn", name), protocol),
        (Map::Service, Key::ServicePort(port, protocol)) => {
            with_protocol(equal("ipServicePort", port.to_string().as_bytes()), protocol)
        }
        (Map::Protocol, Key::Id(number)) => equal("ipProtocolNumber", number.to_string().as_bytes()),
        (Map::Rpc, Key::Id(number)) => equal("oncRpcNumber", number.to_string().as_bytes()),
        (Map::Ether, Key::Ether(address)) => {
            // Written with or without leading zeros.
            let short: Vec<String> = address.iter().map(|byte| format!("{byte:x}")).collect();
            let long: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
            let forms = [short.join(":"), long.join(":")].map(|form| equal("macAddress", form.as_bytes()));
            crate::ask::filter::or(forms.iter().map(Vec::as_slice))
        }
        (Map::Host, Key::Address(_, address)) => equal("ipHostNumber", ip(address)?.to_string().as_bytes()),
        (Map::Network, Key::Address(_, address)) => equal("ipNetworkNumber", ip(address)?.to_string().as_bytes()),
        (_, Key::Name(name)) => and([equal("cn", name).as_slice()]),
        _ => return None,
    })
}

fn with_protocol(condition: Vec<u8>, protocol: &[u8]) -> Vec<u8> {
    use crate::ask::filter::{and, equal};
    if protocol.is_empty() {
        return condition;
    }
    let protocol = equal("ipServiceProtocol", protocol);
    and([condition.as_slice(), protocol.as_slice()])
}

fn ip(address: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(address) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(address).ok().map(IpAddr::from)
}

/// Appends what an entry is in this map.
pub(super) fn write(maps: &Maps, map: Map, key: &Key<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let names = wanted(maps, key, entry, "cn");
    let all: Vec<&[u8]> = values(entry, "cn").into_iter().flatten().collect();
    let number = |attribute| -> Option<u32> { std::str::from_utf8(first(entry, attribute)?).ok()?.parse().ok() };
    let Some(asked) = names.first().copied() else { return };
    // Of these maps an entry is known by one name, whatever it was found by; the others are aliases.
    let name = match map {
        Map::Alias | Map::Ether | Map::Netgroup => asked,
        _ => canonical(entry, &all).unwrap_or(asked),
    };
    let aliases = || -> Vec<&[u8]> { all.iter().copied().filter(|other| *other != name).collect() };
    match map {
        Map::Alias => {
            let to: Vec<&[u8]> = values(entry, "rfc822MailMember").into_iter().flatten().collect();
            nslcd::alias(out, name, to.into_iter());
        }
        Map::Ether => {
            for address in values(entry, "macAddress").into_iter().flatten().filter_map(ethernet) {
                nslcd::ether(out, name, address);
            }
        }
        Map::Host => host(entry, "ipHostNumber", name, aliases(), out),
        Map::Network => host(entry, "ipNetworkNumber", name, aliases(), out),
        Map::Netgroup => netgroup(entry, name, out),
        Map::Protocol => {
            if let Some(number) = number("ipProtocolNumber") {
                nslcd::numbered(out, name, aliases().into_iter(), number);
            }
        }
        Map::Rpc => {
            if let Some(number) = number("oncRpcNumber") {
                nslcd::numbered(out, name, aliases().into_iter(), number);
            }
        }
        Map::Service => {
            let Some(port) = number("ipServicePort") else { return };
            for protocol in values(entry, "ipServiceProtocol").into_iter().flatten() {
                let asked = match key {
                    Key::ServiceName(_, asked) | Key::ServicePort(_, asked) => *asked,
                    _ => b"",
                };
                if asked.is_empty() || asked == protocol {
                    nslcd::service(out, name, aliases().into_iter(), port, protocol);
                }
            }
        }
        Map::Passwd | Map::Group | Map::Shadow => {}
    }
}

/// The name that is a part of the entry's own name.
fn canonical<'a>(entry: &Entry<'_>, all: &[&'a [u8]]) -> Option<&'a [u8]> {
    let first = name_parts(entry.dn).next()?.ok()?;
    let value = first
        .attribute
        .eq_ignore_ascii_case(b"cn")
        .then(|| first.value.bytes())?;
    all.iter()
        .copied()
        .find(|name| name.eq_ignore_ascii_case(value.as_ref()))
}

fn host(entry: &Entry<'_>, attribute: &str, name: &[u8], aliases: Vec<&[u8]>, out: &mut Vec<u8>) {
    let texts = values(entry, attribute).into_iter().flatten();
    let parsed = texts.filter_map(|text| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok());
    let addresses: Vec<Vec<u8>> = parsed
        .map(|address| match address {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        })
        .collect();
    if !addresses.is_empty() {
        nslcd::host(out, name, aliases.into_iter(), addresses.iter().map(Vec::as_slice));
    }
}

fn netgroup(entry: &Entry<'_>, name: &[u8], out: &mut Vec<u8>) {
    nslcd::netgroup_begin(out, name);
    for triple in values(entry, "nisNetgroupTriple").into_iter().flatten() {
        if let Some([host, user, domain]) = read_triple(triple) {
            nslcd::netgroup_triple(out, host, user, domain);
        }
    }
    for member in values(entry, "memberNisNetgroup").into_iter().flatten() {
        nslcd::netgroup_member(out, member);
    }
    nslcd::netgroup_end(out);
}

/// `(host,user,domain)`, with spaces anywhere between.
fn read_triple(triple: &[u8]) -> Option<[&[u8]; 3]> {
    let inner = triple.trim_ascii().strip_prefix(b"(")?.strip_suffix(b")")?;
    let mut parts = inner.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

/// `00:1b:44:11:3a:b7`, with or without leading zeros.
fn ethernet(text: &[u8]) -> Option<[u8; 6]> {
    let text = std::str::from_utf8(text).ok()?;
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_and_addresses_are_read_or_left_out() {
        assert_eq!(read_triple(b" ( h , u,d ) "), Some([b"h".as_slice(), b"u", b"d"]));
        assert_eq!(read_triple(b"(,,)"), Some([b"".as_slice(), b"", b""]));
        for wrong in [b"(a,b)".as_slice(), b"a,b,c", b"(a,b,c,d)", b""] {
            assert_eq!(read_triple(wrong), None);
        }
        assert_eq!(ethernet(b"0:1b:44:11:3a:b7"), Some([0, 0x1b, 0x44, 0x11, 0x3a, 0xb7]));
        assert_eq!(ethernet(b"0:1b:44:11:3a"), None);
        assert_eq!(ethernet(b"0:1b:44:11:3a:1b7"), None);
    }
}
