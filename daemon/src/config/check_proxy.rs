//! PROXY headers of a listener: which, and whom they are believed.

use std::sync::Arc;

use engine::radius::clients::Network;

use super::diagnostic::{At, Problems};
use super::plan::{Address, ProxyHeaders};
use super::raw::{Listen, Protocol};

/// What a listener says of them; the outer none: something is wrong.
#[allow(clippy::option_option)]
pub(super) fn listener(
    p: &mut Problems,
    listen: &Listen,
    protocol: Protocol,
    address: Option<&Address>,
) -> Option<Option<Arc<ProxyHeaders>>> {
    let Some(written) = &listen.proxy_protocol else {
        if let Some(from) = &listen.proxy_from
            && p.absent(&listen.place, "proxy_protocol")
        {
            p.error(&from.place, "`proxy_from` without `proxy_protocol`")
                .help("add proxy_protocol = \"v2\" (\"v1\", \"any\"), or remove `proxy_from`");
            return None;
        }
        return p.absent(&listen.place, "proxy_protocol").then_some(None);
    };
    let from = from(p, listen, written);
    if !matches!(protocol, Protocol::Ldap | Protocol::Ldaps | Protocol::Rpc) {
        p.error(&written.place, "`proxy_protocol` is for ldap, ldaps and rpc listeners")
            .help("remove it");
        return None;
    }
    if let Some(Address::Unix(path, _)) = address {
        p.error(&written.place, "`proxy_protocol` is for listeners over TCP")
            .label(format!("{} is a unix socket", path.display()))
            .help("remove it");
        return None;
    }
    Some(Some(Arc::new(ProxyHeaders {
        accepted: written.value,
        from: from?,
    })))
}

/// The networks that are believed.
fn from<T>(p: &mut Problems, listen: &Listen, protocol: &At<T>) -> Option<Vec<Network>> {
    const RIGHT: &str = "name the balancers: proxy_from = [\"192.0.2.10\", \"2001:db8::/64\"]";
    let Some(from) = &listen.proxy_from else {
        if p.absent(&listen.place, "proxy_from") {
            p.error(&protocol.place, "`proxy_protocol` without `proxy_from`")
                .label("whoever may send a header may say that they are anybody")
                .help(RIGHT);
        }
        return None;
    };
    if from.value.is_empty() {
        p.error(&from.place, "`proxy_from` is empty")
            .label("nobody could connect")
            .help(RIGHT);
        return None;
    }
    let mut networks = Vec::with_capacity(from.value.len());
    for text in &from.value {
        match network(&text.value) {
            Ok(network) => networks.push(network),
            Err(right) => {
                p.error(&text.place, "`proxy_from` is a list of networks")
                    .label(format!("found \"{}\"", text.value))
                    .help(right);
            }
        }
    }
    let everybody = networks.iter().position(|network| network.prefix() == 0);
    if let Some(text) = everybody.and_then(|at| from.value.get(at)) {
        p.warning(&text.place, "`proxy_from` believes everybody")
            .label("who connects past the balancer may say that they are anybody")
            .help(RIGHT);
    }
    (networks.len() == from.value.len()).then_some(networks)
}

/// A network of peers, as they are compared.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let network = Network::read(text)?;
    match network.address().to_canonical() {
        address if address.is_ipv4() != network.address().is_ipv4() => Err(format!(
            "write `{address}`, with the prefix that IPv4 has: peers of IPv4 are compared as such"
        )),
        _ => Ok(network),
    }
}
