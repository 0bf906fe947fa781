//! One connection, of a client or to a server.

use std::net::SocketAddr;

use engine::core::time::Instant;
use engine::core::wheel::TimerId;
use engine::core::{Ticket, UpstreamId};
use engine::session::ldap::Session;
use engine::upstream::ldap::Connection;

use super::ask::AskClient;
use super::check::Checking;
use super::gss::Asking;
use super::limits::Limited;
use super::lockout::Bid;
use super::rpc::RpcClient;
use crate::net::listen::Admission;
use crate::net::preface::Preface;
use crate::net::stream::Stream;

/// Names a connection for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnRef {
    /// Its place.
    pub at: u32,
    /// Its generation: places are used again.
    pub generation: u32,
}

impl ConnRef {
    /// No connection of this worker: whoever asks does so through the inbox.
    pub const ELSEWHERE: ConnRef = ConnRef {
        at: u32::MAX,
        generation: 0,
    };
    /// None either: a feed's session.
    pub const FEED: ConnRef = ConnRef {
        at: u32::MAX,
        generation: 1,
    };
    /// The place of all questions of RADIUS requests, which are no connections.
    pub const RADIUS_AT: u32 = u32::MAX - 1;

    /// Whether it names such a question.
    pub fn is_radius(self) -> bool {
        self.at == ConnRef::RADIUS_AT
    }
}

/// What is spoken on a connection, and by whom.
#[derive(Debug)]
pub enum Kind {
    /// An LDAP client.
    Ldap(LdapClient),
    /// A client of the services.
    Rpc(RpcClient),
    /// A client of one question, which the daemon asks on.
    Ask(AskClient),
    /// A connection to an LDAP server.
    Upstream(LdapUpstream),
    /// One on which a server is checked.
    Check(Box<Checking>),
}

/// An LDAP client.
#[derive(Debug)]
pub struct LdapClient {
    /// Its protocol machine.
    pub session: Session,
    /// The listener it came through.
    pub listener: u64,
    /// The pool of its directory.
    pub pool: usize,
    /// Key for `by-hash`: its address.
    pub affinity: u64,
    /// Connections to servers that are not read until this client has read what waits for it.
    pub choking: Vec<ConnRef>,
    /// Since when the connection that it keeps apart has rested.
    pub rests_since: Option<Instant>,
    /// Its bind, where the listener locks out.
    pub bid: Option<Box<Bid>>,
    /// Its limits, where it has some.
    pub limited: Option<Box<Limited>>,
}

/// A connection to an LDAP server.
#[derive(Debug)]
pub struct LdapUpstream {
    /// Its protocol machine.
    pub machine: Connection,
    /// Whose it is.
    pub pool: usize,
    /// Its name there.
    pub id: UpstreamId,
    /// Which server of the directory.
    pub server: usize,
    /// Which lane of the pool.
    pub lane: u8,
    /// The TCP connect has not ended yet.
    pub connecting: bool,
    /// Further addresses of the server, to be tried if this one fails before it is ready; the last one first.
    pub others: Vec<SocketAddr>,
    /// It is kept for the client whose bind had this ticket, and nobody has asked yet who that is.
    pub kept: Option<Ticket>,
    /// While our own bind asks Kerberos.
    pub gss: Option<Box<Asking>>,
}

/// See the module.
#[derive(Debug)]
pub struct Conn {
    /// Which inhabitant of its place it is.
    pub generation: u32,
    /// The socket and what waits to be written to it.
    pub stream: Stream,
    /// What is spoken.
    pub kind: Kind,
    /// The client's address: that of the socket's other end, or what its PROXY header says. None over unix sockets, and of
    /// connections to servers.
    pub peer: Option<SocketAddr>,
    /// Where the client connected to, where a PROXY header says it.
    pub reached: Option<SocketAddr>,
    /// The PROXY header that it has to begin with and that has not come yet: nothing else is read, and nothing written.
    pub preface: Option<Box<Preface>>,
    /// What was read and not taken yet: part of a message, or whole ones while it is held back.
    pub inbox: Vec<u8>,
    /// It is in the list of those with something to write.
    pub dirty: bool,
    /// It is in the list of those to be looked at again.
    pub again: bool,
    /// The socket may have more to read.
    pub readable: bool,
    /// Its last read brought no more than is read ahead.
    pub says_little: bool,
    /// The other side has closed its end; what it sent before may still be there to be read.
    pub hung_up: bool,
    /// The socket takes no more just now.
    pub blocked: bool,
    /// Frames are not taken until something has ended.
    pub held: bool,
    /// Not read until someone else's outbox has drained.
    pub choked: bool,
    /// To be closed once everything is written.
    pub closing: bool,
    /// Written and shut down; what still comes is thrown away until the other side closes.
    pub lingering: bool,
    /// StartTLS was granted: TLS begins once the answer is written.
    pub upgrade: bool,
    /// Since when a message has been incomplete, or a handshake.
    pub partial_since: Option<Instant>,
    /// Since when nothing could be written.
    pub stalled_since: Option<Instant>,
    /// When it last did something.
    pub active_at: Instant,
    /// What of its outbox is counted in the daemon's total.
    pub accounted: usize,
    /// Of a connection to a server that belongs to one client: it is left then, whatever is pending on it.
    pub leaves_at: Option<Instant>,
    /// When its deadlines are looked at.
    pub timer: Option<(TimerId, Instant)>,
    /// Held for its drop: a client is counted by its listener while it is here.
    _admission: Option<Admission>,
}

impl Conn {
    /// A new connection.
    pub fn new(stream: Stream, kind: Kind, generation: u32, now: Instant) -> Self {
        Conn {
            generation,
            stream,
            kind,
            peer: None,
            reached: None,
            preface: None,
            inbox: Vec::new(),
            dirty: false,
            again: false,
            readable: false,
            says_little: true,
            hung_up: false,
            blocked: false,
            held: false,
            choked: false,
            closing: false,
            lingering: false,
            upgrade: false,
            partial_since: None,
            stalled_since: None,
            active_at: now,
            accounted: 0,
            leaves_at: None,
            timer: None,
            _admission: None,
        }
    }

    /// Its listener counts it from now on.
    pub fn admitted(&mut self, admission: Admission) {
        self._admission = Some(admission);
    }

    /// Whether it is a client's.
    pub fn is_client(&self) -> bool {
        matches!(self.kind, Kind::Ldap(_) | Kind::Rpc(_) | Kind::Ask(_))
    }

    /// The listener that it came through.
    pub fn listener(&self) -> Option<u64> {
        match &self.kind {
            Kind::Ldap(client) => Some(client.listener),
            Kind::Rpc(client) => Some(client.listener),
            Kind::Ask(client) => Some(client.listener),
            Kind::Upstream(_) | Kind::Check(_) => None,
        }
    }

    /// Whether its connect has not ended.
    pub fn is_connecting(&self) -> bool {
        match &self.kind {
            Kind::Upstream(upstream) => upstream.connecting,
            Kind::Check(checking) => checking.connecting,
            _ => false,
        }
    }

    /// Whether an operation of its client is held back by limits, or because nobody has said yet who the client is.
    pub fn is_held_back(&self) -> bool {
        let Kind::Ldap(client) = &self.kind else { return false };
        let by_limits = client.limited.as_ref().is_some_and(|limited| limited.is_holding());
        by_limits || (self.held && client.session.unnamed().is_some())
    }

    /// The LDAP client that it is.
    pub fn ldap(&mut self) -> Option<&mut LdapClient> {
        match &mut self.kind {
            Kind::Ldap(client) => Some(client),
            _ => None,
        }
    }

    /// Connections to servers that are not read until this client has read what waits for it.
    pub fn choking(&mut self) -> Option<&mut Vec<ConnRef>> {
        match &mut self.kind {
            Kind::Ldap(client) => Some(&mut client.choking),
            Kind::Ask(client) => Some(&mut client.choking),
            _ => None,
        }
    }

    /// What it has of Kerberos, where it is a connection on which the daemon binds.
    pub fn gss(&mut self) -> Option<&mut Option<Box<Asking>>> {
        match &mut self.kind {
            Kind::Upstream(upstream) => Some(&mut upstream.gss),
            Kind::Check(checking) => Some(&mut checking.gss),
            _ => None,
        }
    }

    /// Whether it waits for Kerberos.
    pub fn awaits_gss(&self) -> bool {
        let gss = match &self.kind {
            Kind::Upstream(upstream) => upstream.gss.as_ref(),
            Kind::Check(checking) => checking.gss.as_ref(),
            _ => None,
        };
        gss.is_some_and(|asking| asking.is_waiting())
    }

    /// The LDAP upstream that it is.
    pub fn upstream(&mut self) -> Option<&mut LdapUpstream> {
        match &mut self.kind {
            Kind::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }
}

/// A worker's connections. A place that was left is taken again only in a later turn, so that what is still said of the
/// old inhabitant does not reach the new one.
#[derive(Debug, Default)]
pub struct Conns {
    places: Vec<Option<Conn>>,
    free: Vec<usize>,
    left: Vec<usize>,
}

impl Conns {
    /// A new turn: places left before now can be taken.
    pub fn turn(&mut self) {
        self.free.append(&mut self.left);
    }

    /// The place that the next one takes.
    pub fn insert(&mut self, conn: Conn) -> usize {
        match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.places.get_mut(at) {
                    *place = Some(conn);
                }
                at
            }
            None => {
                self.places.push(Some(conn));
                self.places.len() - 1
            }
        }
    }

    /// Who is there.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Conn> {
        self.places.get(at)?.as_ref()
    }

    /// Who is there.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Conn> {
        self.places.get_mut(at)?.as_mut()
    }

    /// Leaves.
    pub fn remove(&mut self, at: usize) -> Option<Conn> {
        let conn = self.places.get_mut(at)?.take()?;
        self.left.push(at);
        Some(conn)
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Conn)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(at, place)| Some((at, place.as_ref()?)))
    }
}
