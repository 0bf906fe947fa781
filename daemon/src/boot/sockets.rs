//! Sockets of listeners: bound before anything is started or changed, handed out afterwards.

use std::net::SocketAddr;
use std::sync::Arc;

use super::records::Records;
use super::snapshot::{protocol, show};
use super::{Daemon, workers_of};
use crate::config::plan::{Address, Face, Listener, Plan, Radius};
use crate::drive::{Job, listener_id};
use crate::net::bound::{self, Bound};
use crate::net::datagram::{self, Socket};
use crate::net::listen::Acceptor;
use crate::shared::Shared;
use crate::upgrade::taking::Taken;
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

/// Binds all that another process has not handed over, or says of each that cannot be bound why.
pub(super) fn bind_all(
    listeners: &[Arc<Listener>],
    workers: usize,
    mut taken: Option<&mut Taken>,
) -> Result<Vec<(u64, Opened)>, Vec<String>> {
    let (mut bound, mut wrong) = (Vec::new(), Vec::new());
    for listener in listeners {
        let opened = match taken.as_deref_mut().map(|taken| adopt(listener, taken)) {
            None | Some(Ok(None)) => bind(listener, workers),
            Some(Ok(Some(adopted))) => Ok(adopted),
            Some(Err(why)) => Err(why),
        };
        match opened {
            Ok(socket) => bound.push((listener_id(listener), socket)),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(bound) } else { Err(wrong) }
}

/// What another process has handed over for a listener, if it has.
fn adopt(listener: &Listener, taken: &mut Taken) -> Result<Option<Opened>, String> {
    let Some(mut sockets) = taken.listener(listener)? else {
        return Ok(None);
    };
    let wrong = |error| format!("{}: what was handed over: {error}", show(&listener.address));
    match &listener.face {
        Face::Radius(radius) => {
            let sockets = datagram::adopt(sockets, settings(radius)).map_err(wrong)?;
            let Some(at) = sockets.first().map(Socket::local_addr) else {
                return Ok(None);
            };
            Ok(Some(Opened::Datagrams(at, sockets)))
        }
        _ => match sockets.pop() {
            Some(socket) => {
                bound::adopt(&listener.address, socket, taken.ours()).map(|bound| Some(Opened::Stream(bound)))
            }
            None => Ok(None),
        },
    }
}

fn settings(radius: &Radius) -> datagram::Settings {
    datagram::Settings {
        receive_buffer_bytes: radius.receive_buffer_bytes,
        together: true,
    }
}

fn bind(listener: &Listener, workers: usize) -> Result<Opened, String> {
    match (&listener.address, &listener.face) {
        (Address::Udp(at), Face::Radius(radius)) => {
            let explain = |error| bound::explain(&at.to_string(), &error);
            let sockets = datagram::bind(*at, workers, settings(radius)).map_err(explain)?;
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
        (address, _) => bound::bind(address).map(Opened::Stream),
    }
}

impl Daemon {
    /// How the listeners that are open are to be.
    pub(super) fn tell_acceptor(&self, plan: &Plan) {
        for listener in &plan.listeners {
            let workers = workers_of(plan, listener);
            self.acceptor
                .change(listener_id(listener), Arc::clone(listener), workers);
        }
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
    /// As [`Giving::give`], for all listeners of the plan, in their order.
    pub(super) fn give_all(&self, sockets: Vec<(u64, Opened)>) {
        for (listener, (id, socket)) in self.plan.listeners.iter().zip(sockets) {
            self.give(listener, id, socket);
        }
    }

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
