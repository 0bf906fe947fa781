//! Sockets of listeners: bound before anything is started or changed, handed out afterwards.

use std::net::SocketAddr;
use std::sync::Arc;

use super::records::Records;
use super::snapshot::{protocol, show};
use super::workers_of;
use crate::config::plan::{Address, Face, Listener, Plan};
use crate::drive::{Job, listener_id};
use crate::net::datagram::{self, Socket};
use crate::net::listen::{self, Acceptor, Bound};
use crate::shared::Shared;
use crate::worker::Inbox;

/// A listener's socket, or one for each worker.
pub(super) enum Opened {
    /// Its clients are accepted.
    Stream(Bound),
    /// Every worker reads for itself.
    Datagrams(SocketAddr, Vec<Socket>),
}

impl Opened {
    /// Where it listens; the port is the kernel's choice where 0 was asked for.
    pub(super) fn address(&self) -> Address {
        match self {
            Opened::Stream(bound) => bound.address.clone(),
            Opened::Datagrams(at, _) => Address::Udp(*at),
        }
    }
}

/// Binds all, or says of each that cannot be bound why.
pub(super) fn bind_all(listeners: &[Arc<Listener>], workers: usize) -> Result<Vec<(u64, Opened)>, Vec<String>> {
    let (mut bound, mut wrong) = (Vec::new(), Vec::new());
    for listener in listeners {
        match bind(listener, workers) {
            Ok(socket) => bound.push((listener_id(listener), socket)),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(bound) } else { Err(wrong) }
}

fn bind(listener: &Listener, workers: usize) -> Result<Opened, String> {
    match (&listener.address, &listener.face) {
        (Address::Udp(at), Face::Radius(radius)) => {
            let settings = datagram::Settings {
                receive_buffer_bytes: radius.receive_buffer_bytes,
                together: true,
            };
            let explain = |error| listen::explain(&at.to_string(), &error);
            let sockets = datagram::bind(*at, workers, settings).map_err(explain)?;
            let bound = sockets.first().map_or(*at, Socket::local_addr);
            if let Some(Ok(granted)) = sockets.first().map(Socket::receive_buffer_bytes)
                && granted < radius.receive_buffer_bytes
            {
                tracing::warn!(
                    address = %bound,
                    wanted = radius.receive_buffer_bytes,
                    granted,
                    "the system grants a smaller receive buffer: raise net.core.rmem_max, or lower receive_buffer_bytes"
                );
            }
            Ok(Opened::Datagrams(bound, sockets))
        }
        (address, _) => listen::bind(address).map(Opened::Stream),
    }
}

/// Lets clients come.
pub(super) struct Giving<'a> {
    pub(super) plan: &'a Plan,
    pub(super) acceptor: &'a Acceptor,
    pub(super) shared: &'a Shared,
    pub(super) inboxes: &'a [Arc<Inbox>],
    pub(super) records: &'a Records,
}

impl Giving<'_> {
    /// The workers have been told of the listener before.
    pub(super) fn give(&self, listener: &Arc<Listener>, id: u64, socket: Opened) {
        tracing::info!(address = %show(&socket.address()), protocol = protocol(listener), "listening");
        match socket {
            Opened::Stream(bound) => {
                let workers = workers_of(self.plan, listener);
                self.acceptor.add(id, bound, Arc::clone(listener), workers);
            }
            Opened::Datagrams(_, sockets) => {
                self.shared.sockets_come(sockets.len());
                for (inbox, socket) in self.inboxes.iter().zip(sockets) {
                    inbox.push_always(Job::RadiusOpened {
                        listener: id,
                        socket: Box::new(socket),
                        records: self.records.handle(id),
                    });
                }
            }
        }
    }
}
