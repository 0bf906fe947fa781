//! Where lloadd listens: a list of URLs, as after `-h`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::rc::Rc;

use wire::ldap::url::{Host, Scheme, Url};

use super::model::Listener;
use super::told::{At, Told};
use crate::config::values;

/// What lloadd does without `-h`.
const DEFAULT: &str = "ldap:///";

/// The listeners of a list of URLs. `at`: where it is written; none: on the command line, or nowhere.
pub fn listeners(urls: Option<&str>, at: Option<&At>, told: &mut Told) -> Vec<Listener> {
    let at = at.cloned().unwrap_or_else(|| At {
        file: Rc::from("--listen"),
        line: 0,
    });
    let mut all = Vec::new();
    for url in urls.unwrap_or(DEFAULT).split_whitespace() {
        match listener(url, &at, told) {
            Ok(found) => all.extend(found),
            Err(why) => told.fault(&at, &format!("{url}: nothing listens there"), &why),
        }
    }
    all
}

fn listener(text: &str, at: &At, told: &mut Told) -> Result<Vec<Listener>, String> {
    let scheme = text.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if scheme == "pldap" || scheme == "pldaps" {
        return Err("PROXY headers need a list of those who may send them: write the listener yourself".to_owned());
    }
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    let mode = mode(&url, at, told)?;
    let listener = |address: String| Listener {
        address,
        is_ldaps: url.scheme == Scheme::Ldaps,
        is_unix: url.scheme == Scheme::Ldapi,
        mode: mode.clone(),
    };
    let Some(port) = url.port_or_default() else {
        let path = url
            .path
            .as_deref()
            .ok_or("the path depends on how lloadd was built: write ldapi://%2Frun%2Fldapi")?;
        values::unix_path(path)?;
        return Ok(vec![listener(format!("unix:{path}"))]);
    };
    let addresses = match &url.host {
        None => vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        Some(Host::Address(ip)) => vec![*ip],
        Some(Host::Name(name)) => {
            let found = own_addresses(name)?;
            let list: Vec<String> = found.iter().map(ToString::to_string).collect();
            told.notice(
                at,
                &format!("{text} names no address"),
                &format!("{} is meant now", list.join(" and ")),
            );
            found
        }
    };
    let scheme = url.scheme.as_str();
    let written = addresses
        .into_iter()
        .map(|ip| listener(format!("{scheme}://{}", SocketAddr::new(ip, port))));
    Ok(written.collect())
}

/// The addresses of a name that are this machine's.
fn own_addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs();
    let found = found.map_err(|error| format!("the name cannot be looked up ({error}): write an address"))?;
    let mut own: Vec<IpAddr> = Vec::new();
    for address in found {
        if UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok() && !own.contains(&address.ip()) {
            own.push(address.ip());
        }
    }
    if own.is_empty() {
        return Err("no address of this machine has this name: write an address".to_owned());
    }
    Ok(own)
}

/// `x-mod`: the mode of a unix socket, in octal or as `ls` shows it.
fn mode(url: &Url, at: &At, told: &mut Told) -> Result<Option<String>, String> {
    let mut mode = None;
    for extension in &url.extensions {
        let value = extension.value.as_deref().unwrap_or_default();
        if !extension.name.eq_ignore_ascii_case("x-mod") {
            let found = format!("the extension {} of a URL is left out", extension.name);
            told.fault(at, &found, "only x-mod is known");
            continue;
        }
        let bits = octal(value).or_else(|| symbolic(value));
        let bits = bits.ok_or("x-mod is written like 0770 or -rwxrwx---")?;
        mode = Some(format!("{bits:04o}"));
    }
    Ok(mode.filter(|_| url.scheme == Scheme::Ldapi))
}

fn octal(text: &str) -> Option<u32> {
    let is_octal = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| is_octal && *bits <= 0o777)
}

fn symbolic(text: &str) -> Option<u32> {
    let letters = text.strip_prefix('-')?;
    if letters.chars().count() != 9 {
        return None;
    }
    let right = "rwx".chars().cycle();
    letters
        .chars()
        .zip(right)
        .try_fold(0, |bits, (found, letter)| match found {
            '-' => Some(bits << 1),
            c if c == letter => Some(bits << 1 | 1),
            _ => None,
        })
}
