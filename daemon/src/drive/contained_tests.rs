//! A panic harms whoever caused it and nobody else; a pool that it left broken is begun anew, and those who wait are told.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use wire::ldap::envelope;
use wire::ldap::message::{write_delete, write_simple_bind};
use wire::ldap::result::{self, code};

use super::{Drive, Job, listener_id};
use crate::config;
use crate::net::datagram::{self, Settings};
use crate::net::listen::{Accepted, Admission};
use crate::net::resolve::Resolver;
use crate::net::stream::Raw;
use crate::shared::Shared;
use crate::worker::{INBOX, Inbox};

/// A worker that is turned by hand, in front of a server that says nothing.
pub(super) struct World {
    pub(super) drive: Drive,
    events: Events,
    jobs: VecDeque<Job>,
    inbox: Arc<Inbox>,
    server: UnixListener,
    folder: PathBuf,
}

impl World {
    pub(super) fn new(name: &str) -> World {
        World::with(name, "identity = \"pinned\"")
    }

    /// With these lines of the directory.
    fn with(name: &str, lines: &str) -> World {
        let folder = std::env::temp_dir().join(format!("usherd-contained-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("server");
        let server = UnixListener::bind(&path).unwrap();
        server.set_nonblocking(true).unwrap();
        let url = format!("ldapi://{}", path.display().to_string().replace('/', "%2F"));
        let text = format!(
            "[directory.corp]\n{lines}\nserver = [{{ url = \"{url}\", connections = 1 }}]\n\
             [[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:0\"\ndirectory = \"corp\"\n"
        );
        let secret = folder.join("secret");
        std::fs::write(&secret, "x").unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let (plan, _) = config::from_text(&text, &folder.join("usherd.toml")).unwrap();
        let poll = Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), INBOX).unwrap();
        let inbox = Arc::new(Inbox::new(waker, 100));
        let shared = Arc::new(Shared::new(1, 1 << 20));
        let drive = Drive::new(0, poll, Arc::clone(&inbox), shared, Resolver::start().unwrap());
        inbox.push_always(Job::Plan(Arc::new(plan)));
        let (events, jobs) = (Events::with_capacity(64), VecDeque::new());
        let mut world = World {
            drive,
            events,
            jobs,
            inbox,
            server,
            folder,
        };
        world.turn();
        world
    }

    pub(super) fn turn(&mut self) {
        // Something to do, so that it does not sleep.
        let (to, _reports) = std::sync::mpsc::sync_channel(1);
        self.inbox.push_always(Job::Report(to));
        self.drive.turn(&mut self.events, &mut self.jobs);
    }

    /// Turns until `found` finds something.
    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut World) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < end, "{what} did not come");
            self.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The server's end of a connection to it.
    pub(super) fn dialled(&mut self) -> UnixStream {
        let stream = self.until("a connection", |world| world.server.accept().ok()).0;
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// A client, and its place.
    pub(super) fn client(&mut self) -> (UnixStream, usize) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let before: Vec<usize> = self.drive.conns.iter().map(|(at, _)| at).collect();
        let listener = listener_id(&self.drive.plan.as_ref().unwrap().listeners[0]);
        self.inbox.push_always(Job::Accept(Accepted {
            guest: None,
            raw: Raw::Unix(mio::net::UnixStream::from_std(theirs)),
            listener,
            peer: None,
            admission: Admission::default(),
        }));
        self.turn();
        let at = self
            .drive
            .conns
            .iter()
            .map(|(at, _)| at)
            .find(|at| !before.contains(at));
        (ours, at.unwrap())
    }

    pub(super) fn read(&mut self, what: &str, mut from: &UnixStream) -> Vec<u8> {
        self.until(what, |_| {
            let mut bytes = vec![0; 4096];
            match from.read(&mut bytes) {
                Ok(n) => Some(bytes[..n].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(Vec::new()),
                Err(error) => panic!("{what}: {error}"),
            }
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn delete(id: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    write_delete(&mut frame, id, b"cn=x");
    frame
}

fn answer(bytes: &[u8]) -> (i32, u32) {
    let env = envelope::peek(bytes).unwrap();
    (env.id, result::result_code(env.op).unwrap())
}

#[test]
fn a_panic_while_one_client_is_served_closes_that_client_alone() {
    let mut world = World::new("client");
    let server = world.dialled();
    let ((guilty, at), (mut other, _)) = (world.client(), world.client());
    other.write_all(&delete(7)).unwrap();
    let passed_on = world.read("the request", &server);
    let id = envelope::peek(&passed_on).unwrap().id;

    world.drive.contained(Some(at), |_| panic!("on purpose"));
    assert_eq!(world.drive.panics, 1);
    assert_eq!(world.read("the end", &guilty), b"");

    let mut response = Vec::new();
    result::write_result(
        &mut response,
        id,
        envelope::tag::DELETE_RESPONSE,
        code::SUCCESS,
        b"",
        "",
    );
    (&server).write_all(&response).unwrap();
    let heard = world.read("the answer", &other);
    assert_eq!(answer(&heard), (7, code::SUCCESS));
}

#[test]
fn requests_are_read_after_a_panic_while_others_were() {
    let mut world = World::new("radius");
    let clients = "[client.far]\naddress = \"192.0.2.1\"\nsecret = \"0123456789abcdef\"\n";
    std::fs::write(world.folder.join("clients.toml"), clients).unwrap();
    std::fs::set_permissions(world.folder.join("clients.toml"), Permissions::from_mode(0o600)).unwrap();
    let text = "[[listen]]\nprotocol = \"radius\"\naddress = \"127.0.0.1:0\"\nclients_file = \"clients.toml\"\n\
                answer = \"accounting\"\naccounting = \"discard\"\n";
    let (plan, _) = config::from_text(text, &world.folder.join("usherd.toml")).unwrap();
    let listener = listener_id(&plan.listeners[0]);
    let settings = Settings {
        receive_buffer_bytes: 64 << 10,
        together: false,
    };
    let socket = datagram::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, settings)
        .unwrap()
        .remove(0);
    let (at, left) = (
        socket.local_addr(),
        UdpSocket::from(socket.as_fd().try_clone_to_owned().unwrap()),
    );
    world.drive.shared.sockets_come(1);
    world.inbox.push_always(Job::Plan(Arc::new(plan)));
    world.inbox.push_always(Job::RadiusOpened {
        listener,
        socket: Box::new(socket),
        records: None,
    });
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..2 {
        stranger.send_to(&[4; 20], at).unwrap();
        assert!(left.peek(&mut [0; 32]).is_ok());
        world.until("reading", |_| left.peek(&mut [0; 32]).err());
        world.drive.contained(None, |drive| {
            let _lent = drive.radius.take_batch();
            panic!("on purpose")
        });
        assert_eq!(world.drive.panics, round + 1);
    }
}

#[test]
fn a_pool_that_a_panic_left_broken_is_begun_anew_and_who_waits_is_told() {
    let mut world = World::new("pool");
    let server = world.dialled();
    let ((guilty, at), (mut other, _)) = (world.client(), world.client());
    other.write_all(&delete(7)).unwrap();
    world.read("the request", &server);

    world.drive.contained(Some(at), |drive| {
        // As it is while effects are carried out.
        drive.pools[0].as_mut().unwrap().busy = true;
        panic!("on purpose");
    });
    assert_eq!(world.read("the end", &guilty), b"");
    let heard = world.read("the result", &other);
    assert_eq!(answer(&heard), (7, code::OTHER), "the outcome of a write is unknown");
    let _goodbye = world.read("the goodbye", &server);
    assert_eq!(world.read("the end", &server), b"");

    let server = world.dialled();
    other.write_all(&delete(8)).unwrap();
    let passed_on = world.read("the next request", &server);
    assert_eq!(envelope::peek(&passed_on).unwrap().tag, envelope::tag::DELETE_REQUEST);
}

/// Only the pool knew on whose connection somebody had bound.
#[test]
fn who_is_bound_and_not_named_yet_is_told_when_its_pool_is_begun_anew() {
    let proxied =
        "identity = \"proxied\"\nbind_dn = \"cn=usherd\"\nbind_password_file = \"secret\"\nwhoami_wait = \"10s\"";
    let mut world = World::with("unnamed", proxied);
    let bound = |id: i32| {
        let mut frame = Vec::new();
        result::write_bind(&mut frame, id, code::SUCCESS, "", None);
        frame
    };
    let mut shared = world.dialled();
    let own = envelope::peek(&world.read("the daemon's bind", &shared)).unwrap().id;
    shared.write_all(&bound(own)).unwrap();
    let ((guilty, at), (mut other, _)) = (world.client(), world.client());
    let mut bind = Vec::new();
    write_simple_bind(&mut bind, 3, b"cn=a", b"x");
    other.write_all(&bind).unwrap();
    let mut lane = world.dialled();
    let id = envelope::peek(&world.read("the client's bind", &lane)).unwrap().id;
    lane.write_all(&bound(id)).unwrap();
    assert_eq!(answer(&world.read("the answer", &other)), (3, code::SUCCESS));

    world.drive.contained(Some(at), |drive| {
        drive.pools[0].as_mut().unwrap().busy = true;
        panic!("on purpose");
    });
    assert_eq!(world.read("the end", &guilty), b"");
    assert_eq!(answer(&world.read("the notice", &other)), (0, code::UNAVAILABLE));
    assert_eq!(world.read("the end", &other), b"");
}
