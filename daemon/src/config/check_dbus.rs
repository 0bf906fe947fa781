//! D-Bus listeners: a private socket, or a bus on which the services are offered.

use std::sync::Arc;

use super::check_proxy;
use super::diagnostic::Problems;
use super::plan::{self, Bus, BusAddress};
use super::raw::{Listen, Protocol, Raw};

const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Whether this is offered on a bus, and so listens nowhere.
pub(super) fn is_bus(listen: &Listen) -> bool {
    is_dbus(listen) && listen.bus.is_some()
}

fn is_dbus(listen: &Listen) -> bool {
    listen.protocol.as_ref().is_some_and(|at| at.value == Protocol::Dbus)
}

/// The buses of all listeners.
pub(super) fn buses(p: &mut Problems, raw: &Raw) -> Vec<Arc<Bus>> {
    let mut buses: Vec<Arc<Bus>> = Vec::new();
    for listen in &raw.listeners {
        let Some(written) = &listen.bus else { continue };
        if !is_dbus(listen) {
            if listen.protocol.is_some() {
                p.error(&written.place, "`bus` is for dbus listeners")
                    .help("write protocol = \"dbus\", or remove `bus`");
            }
            continue;
        }
        refuse_settings(p, listen);
        check_proxy::listener(p, listen, Protocol::Dbus, None);
        if let Some(address) = &listen.address {
            p.error(&address.place, "a dbus listener has a `bus` or an `address`")
                .label("it listens here")
                .also(&written.place, "and is offered there")
                .help("make two [[listen]] of it");
        }
        let address = match written.value.as_str() {
            "system" => BusAddress::System,
            "session" => BusAddress::Session,
            address if address.contains(':') => BusAddress::At(address.to_owned()),
            _ => {
                p.error(&written.place, "`bus` is not a bus")
                    .label(format!("found \"{}\"", written.value))
                    .help(
                        "write \"system\", \"session\", or a D-Bus address: \"unix:path=/run/dbus/system_bus_socket\"",
                    );
                continue;
            }
        };
        if buses.iter().any(|bus| bus.address == address) {
            p.error(&written.place, format!("the bus {address} is used twice"));
        }
        buses.push(Arc::new(Bus {
            address,
            payload_bytes_max: payload(listen),
        }));
    }
    buses
}

/// The face of a private socket.
pub(super) fn face(p: &mut Problems, listen: &Listen) -> plan::Face {
    refuse_settings(p, listen);
    plan::Face::Dbus {
        payload_bytes_max: payload(listen),
    }
}

fn payload(listen: &Listen) -> usize {
    listen
        .payload_bytes_max
        .as_ref()
        .map_or(PAYLOAD_BYTES_MAX, |at| at.value)
}

fn refuse_settings(p: &mut Problems, listen: &Listen) {
    if let Some(directory) = &listen.directory {
        p.error(&directory.place, "a dbus listener serves services, not a directory")
            .help("remove `directory`");
    }
    if let Some(tls) = &listen.tls {
        p.error(&tls.place, "D-Bus has no TLS").help("remove `tls`");
    }
    if let Some(token) = &listen.token_file {
        p.error(&token.place, "`token_file` is for rpc listeners")
            .help("who may open the socket may call: see `mode`");
    }
}
