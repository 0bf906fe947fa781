//! The demo's RADIUS: for the people of the directory, asked by whoever is on this machine and knows what everybody knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::ask::Scope;
use engine::ask::template::Template;
use engine::radius::clients::{Client, Clients, Network};
use engine::session::radius::plan::{
    Backend, Chain, Check, Directory, Kind, Link, Mode, Port, USER_NAME_PLACE, Unavailable,
};
use wire::radius::Dictionary;

use crate::config::one_line::{DIRECTORY, datagrams};
use crate::config::plan::{Address, Behind, Face, Listener, Radius};

/// What clients on this machine share with the demo: the example that every RADIUS server has.
pub const SECRET: &str = "testing123";

/// A listener for authentication and accounting.
pub fn listener(address: SocketAddr, base: &str) -> Result<Listener, String> {
    let mut clients = Clients::default();
    let networks = ["127.0.0.0/8", "::1"].map(Network::read);
    let networks: Vec<Network> = networks.into_iter().collect::<Result<_, _>>()?;
    clients.add(Client::new("here", SECRET.as_bytes()), &networks)?;
    let dictionary = Arc::new(Dictionary::standard());
    let mut plan = engine::session::radius::plan::Plan::new(Port::Both, Arc::new(clients), dictionary);
    plan.listener = address.to_string();
    plan.backends.push(Backend {
        name: DIRECTORY.to_owned(),
        kind: Kind::Directory(Directory {
            pool: 0,
            bases: vec![base.to_owned()],
            scope: Scope::Subtree,
            filter: Template::braces("(uid={User-Name})", &[USER_NAME_PLACE])?,
            check: Check::Bind,
            groups: None,
            reply: Vec::new(),
        }),
    });
    plan.chains.push(Chain {
        name: "default".to_owned(),
        mode: Mode::First,
        links: vec![Link {
            backend: 0,
            unavailable: Unavailable::Silence,
        }],
    });
    let radius = Radius {
        plan: Arc::new(plan),
        targets: vec![Behind::Directory(DIRECTORY.to_owned())],
        accounting: None,
        receive_buffer_bytes: 1 << 20,
        moderation: Duration::ZERO,
    };
    Ok(datagrams(Address::Udp(address), Face::Radius(Arc::new(radius))))
}
