//! A pool and what stands beside it: the bytes of its requests, and where its upstreams are.

use std::os::fd::OwnedFd;

use engine::core::time::Instant;
use engine::core::{Effect, Pool, Ticket, UpstreamId};

use super::conn::ConnRef;
use super::directory::Directory;
use super::exec::RunRef;
use super::helper::HelperRef;
use super::local::LocalUpstream;
use super::search_caps::Capped;
use super::service::Service;
use crate::audit::record::Entry;
use crate::limits::Permit;
use crate::net::stream::wipe;

/// Request buffers larger than this are given back.
const FLIGHT_BYTES_KEPT: usize = 4096;

/// Who asked: the pool's note on a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The connection.
    pub conn: ConnRef,
    /// Its own name for the request.
    pub id: i32,
    /// What kind of request (LDAP: the operation's tag).
    pub tag: u8,
}

/// The bytes of one request while its ticket lives, at the ticket's index.
#[derive(Debug, Default)]
pub struct Flight {
    /// Whose they are.
    pub ticket: Option<Ticket>,
    /// Who asked.
    pub caller: Option<Caller>,
    /// The whole message, where it may be needed again.
    pub bytes: Vec<u8>,
    /// Of a call: its payload begins there. A large one is kept in the buffer in which it came.
    pub skip: usize,
    /// A bind's answer, kept until the server has said who that is.
    pub answer: Vec<u8>,
    /// Who a bind's name stands for, where a server has said so, and
    identity: Vec<u8>,
    /// whether one has.
    identified: bool,
    /// Of a bind: its client has been answered, and the server is still to say who that is.
    pub told: bool,
    /// Its id on the upstream's connection.
    pub wire_id: i32,
    /// When it came.
    pub since: Instant,
    /// When nobody waits for it any more (calls).
    pub deadline: Instant,
    /// It holds a secret.
    pub sensitive: bool,
    /// Where a call's answer may be written to, until its helper has it.
    pub direct: Option<OwnedFd>,
    /// What the audit log is to be told of it.
    pub audit: Option<Box<Entry>>,
    /// Its places among the operations that its client may have pending.
    pub permit: Option<Permit>,
    /// Of a search: what it may cost, where its client's may not cost anything.
    pub capped: Option<Box<Capped>>,
}

/// Where an upstream is.
#[derive(Debug, Default)]
pub enum Place {
    /// Nowhere any more.
    #[default]
    Nowhere,
    /// Its name is being looked up.
    Resolving {
        /// Its server.
        server: usize,
        /// Its lane.
        lane: u8,
    },
    /// A socket.
    Conn(ConnRef),
    /// The local directory.
    Local(Box<LocalUpstream>),
    /// A place in which programs are run, one at a time, and the one that runs now.
    Runner(Option<RunRef>),
    /// A helper.
    Helper(HelperRef),
}

/// What a pool is for.
#[derive(Debug)]
pub enum Target {
    /// A directory's servers.
    Directory(Box<Directory>),
    /// A service's programs.
    Service(Box<Service>),
}

/// See the module.
#[derive(Debug)]
pub struct PoolState {
    /// The queue, policy and upstreams.
    pub pool: Pool<Caller>,
    /// What it wants done.
    pub effects: Vec<Effect<Caller>>,
    /// A second buffer for them, so that nothing is allocated while the first is worked on.
    pub work: Vec<Effect<Caller>>,
    /// Being carried out just now.
    pub busy: bool,
    /// The bytes of its requests.
    pub flights: Vec<Flight>,
    /// Its upstreams, at their index.
    pub places: Vec<(Option<UpstreamId>, Place)>,
    /// What for.
    pub target: Target,
    /// No connection waits for slow clients before this: a stuck one was found.
    pub wary_until: Instant,
    /// Removed from the configuration: goes when it is empty.
    pub leaving: bool,
    /// It was told that calls wait and no more helpers may be started.
    pub saturated: bool,
}

impl Flight {
    /// A server has said who the name of this bind stands for.
    pub fn identify(&mut self, identity: &[u8]) {
        self.identity.clear();
        self.identity.extend_from_slice(identity);
        self.identified = true;
    }

    /// Who the name of this bind stands for, where a server has said so.
    pub fn identity(&self) -> Option<&[u8]> {
        self.identified.then_some(&*self.identity)
    }
}

impl PoolState {
    /// A pool without servers.
    pub fn new(seed: u64, target: Target) -> Self {
        PoolState {
            pool: Pool::new(seed),
            effects: Vec::new(),
            work: Vec::new(),
            busy: false,
            flights: Vec::new(),
            places: Vec::new(),
            target,
            wary_until: Instant::ZERO,
            leaving: false,
            saturated: false,
        }
    }

    /// The place kept for a ticket's bytes.
    pub fn flight(&mut self, ticket: Ticket) -> Option<&mut Flight> {
        self.flights
            .get_mut(ticket.index())
            .filter(|flight| flight.ticket == Some(ticket))
    }

    /// Takes the place at the ticket's index for it.
    pub fn take_off(&mut self, ticket: Ticket, caller: Caller, now: Instant) {
        let index = ticket.index();
        if self.flights.len() <= index {
            self.flights.resize_with(index + 1, Flight::default);
        }
        if let Some(flight) = self.flights.get_mut(index) {
            flight.ticket = Some(ticket);
            flight.caller = Some(caller);
            flight.since = now;
            flight.deadline = Instant::MAX;
            flight.wire_id = 0;
            flight.identified = false;
            flight.told = false;
            flight.skip = 0;
            flight.audit = None;
            flight.permit = None;
            flight.capped = None;
        }
    }

    /// Its bytes are not needed any more. What the audit log is to be told of it.
    pub fn land(&mut self, ticket: Ticket) -> Option<Box<Entry>> {
        let mut entry = None;
        if let Some(flight) = self.flight(ticket) {
            if std::mem::take(&mut flight.sensitive) {
                wipe(&mut flight.bytes);
            }
            flight.bytes.clear();
            flight.answer.clear();
            if flight.bytes.capacity() > FLIGHT_BYTES_KEPT {
                flight.bytes = Vec::new();
            }
            flight.caller = None;
            flight.direct = None;
            flight.permit = None;
            flight.capped = None;
            entry = flight.audit.take();
        }
        entry
    }

    /// Whether it is a bind whose client has been answered already.
    pub fn is_told(&mut self, ticket: Ticket) -> bool {
        self.flight(ticket).is_some_and(|flight| flight.told)
    }

    /// One more entry was found by a search that the audit log is told of.
    pub fn count_entry(&mut self, ticket: Ticket) {
        if let Some(entry) = self.flight(ticket).and_then(|flight| flight.audit.as_mut()) {
            entry.entries += 1;
        }
    }

    /// Where an upstream is.
    pub fn place(&mut self, id: UpstreamId) -> Option<&mut Place> {
        self.places
            .get_mut(id.index())
            .filter(|(owner, _)| *owner == Some(id))
            .map(|(_, place)| place)
    }

    /// Says where an upstream is.
    pub fn set_place(&mut self, id: UpstreamId, place: Place) {
        let index = id.index();
        if self.places.len() <= index {
            self.places.resize_with(index + 1, Default::default);
        }
        if let Some(slot) = self.places.get_mut(index) {
            *slot = (Some(id), place);
        }
    }

    /// Takes an upstream out of the table.
    pub fn take_place(&mut self, id: UpstreamId) -> Place {
        match self.places.get_mut(id.index()) {
            Some(slot) if slot.0 == Some(id) => std::mem::take(slot).1,
            _ => Place::Nowhere,
        }
    }

    /// A panic left it in a state that cannot be.
    pub fn is_broken(&self) -> bool {
        self.busy || self.pool.check_invariants().is_err()
    }

    /// The directory that it is.
    pub fn directory(&mut self) -> Option<&mut Directory> {
        match &mut self.target {
            Target::Directory(directory) => Some(directory),
            Target::Service(_) => None,
        }
    }

    /// Whether it is a service's.
    pub fn is_service(&self) -> bool {
        matches!(self.target, Target::Service(_))
    }

    /// The service that it is.
    pub fn service(&mut self) -> Option<&mut Service> {
        match &mut self.target {
            Target::Service(service) => Some(service),
            Target::Directory(_) => None,
        }
    }
}
