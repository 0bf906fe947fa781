//! The new process: it takes what the old one hands over. Without an old one there is nothing to be taken, and all is made.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use super::channel::Channel;
use super::{Message, Purpose, VARIABLE, VERSION};
use crate::config::plan::{Address, Listener};

/// How long the old process may take with each thing it has to say.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sockets that are taken at most.
const SOCKETS_MAX: usize = 100_000;

/// What the old process has handed over. Dropped before [`Taken::ready`], the sockets' files stay the old one's.
#[derive(Debug)]
pub struct Taken {
    channel: Channel,
    control: PathBuf,
    workers: usize,
    sockets: Vec<(Purpose, Vec<OwnedFd>)>,
    /// Files of unix sockets that are in use here.
    files: Vec<PathBuf>,
    ours: Arc<AtomicBool>,
}

impl Taken {
    /// What is handed to this process, if it was started for that.
    ///
    /// # Errors
    /// The old process does not say what it should.
    pub fn receive() -> Result<Option<Taken>, String> {
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get().to_string());
        let told = std::env::var(VARIABLE).ok();
        if told.is_none() || told != parent {
            return Ok(None);
        }
        let wrong = |error: std::io::Error| format!("nothing can be taken over from process {parent:?}: {error}");
        let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(wrong)?;
        let channel = Channel::inherited(socket).map_err(wrong)?;
        // What is started from here on has no part in it.
        let nothing = std::fs::File::open("/dev/null").map_err(wrong)?;
        rustix::stdio::dup2_stdin(&nothing).map_err(|error| wrong(error.into()))?;
        let taken = Self::of(channel);
        taken.map(Some)
    }

    fn of(channel: Channel) -> Result<Taken, String> {
        let until = Instant::now() + PATIENCE;
        let hear = || channel.hear(until).map_err(|error| format!("the old process: {error}"));
        let (control, workers) = match hear()?.0 {
            Message::Hello {
                version: VERSION,
                control,
                workers,
            } => (control, workers),
            Message::Hello { version, .. } => {
                let why = format!("this program takes over by version {VERSION}, the old one hands over by {version}");
                return Err(refuse(&channel, &why));
            }
            _ => return Err(refuse(&channel, "the old process says what it may not")),
        };
        let mut sockets: Vec<(Purpose, Vec<OwnedFd>)> = Vec::new();
        loop {
            match hear()? {
                (Message::Sockets { purpose }, some) if sockets.len() < SOCKETS_MAX => match sockets.last_mut() {
                    Some((last, all)) if *last == purpose => all.extend(some),
                    _ => sockets.push((purpose, some)),
                },
                (Message::Whole, _) => break,
                _ => return Err(refuse(&channel, "the old process says what it may not")),
            }
        }
        Ok(Taken {
            channel,
            control,
            workers,
            sockets,
            files: Vec::new(),
            ours: Arc::default(),
        })
    }

    /// Says that it cannot be done.
    pub fn failed(&self, why: &str) {
        let _ = refuse(&self.channel, why);
    }

    /// The old one's control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// As many workers as the old one has, where it hands over sockets of which each worker has one.
    pub fn workers(&self) -> Option<usize> {
        let datagrams = |(purpose, _): &(Purpose, _)| matches!(purpose, Purpose::Listener { address, .. } if address.starts_with(DATAGRAMS));
        self.sockets.iter().any(datagrams).then_some(self.workers)
    }

    /// The sockets of a listener, if they were handed over.
    ///
    /// # Errors
    /// They are not what they should be.
    pub fn listener(&mut self, listener: &Listener) -> Result<Option<Vec<OwnedFd>>, String> {
        let kind = match &listener.address {
            Address::Udp(_) => Kind::Datagrams,
            Address::Tcp(_) | Address::Unix(..) => Kind::Stream,
        };
        let taken = self.take(&purpose(listener), kind)?;
        if let (Some(_), Address::Unix(path, _)) = (&taken, &listener.address) {
            self.files.push(path.clone());
        }
        Ok(taken)
    }

    /// Whether files of the sockets taken are this process's: true once it has said that it is ready.
    pub fn ours(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ours)
    }

    /// The socket of HTTP, if it was handed over.
    ///
    /// # Errors
    /// It is not what it should be.
    pub fn http(&mut self, at: SocketAddr) -> Result<Option<OwnedFd>, String> {
        let address = at.to_string();
        let taken = self.take(&Purpose::Http { address }, Kind::Stream)?;
        Ok(taken.and_then(|mut sockets| sockets.pop()))
    }

    fn take(&mut self, wanted: &Purpose, kind: Kind) -> Result<Option<Vec<OwnedFd>>, String> {
        let Some(at) = self.sockets.iter().position(|(purpose, _)| purpose == wanted) else {
            return Ok(None);
        };
        let (_, sockets) = self.sockets.swap_remove(at);
        let is_right = |socket: &OwnedFd| match kind {
            Kind::Stream => socket_acceptconn(socket).unwrap_or(false),
            Kind::Datagrams => socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM),
        };
        if sockets.is_empty() || !sockets.iter().all(is_right) {
            return Err(format!(
                "what the old process hands over for {wanted:?} is not such a socket"
            ));
        }
        Ok(Some(sockets))
    }

    /// Says that all is prepared, and waits until the old process has let go.
    ///
    /// # Errors
    /// It has given up, or is gone.
    pub fn prepared(&self) -> Result<(), String> {
        let gone = |error: std::io::Error| format!("the old process has given up the upgrade, or is gone: {error}");
        self.channel.say(&Message::Prepared, &[]).map_err(gone)?;
        match self.channel.hear(Instant::now() + PATIENCE).map_err(gone)?.0 {
            Message::Yours => Ok(()),
            _ => Err("the old process says what it may not".to_owned()),
        }
    }

    /// Says that this process serves; `control`: where the old one's control socket is to be found from now on.
    ///
    /// # Errors
    /// The old process has given up, or is gone: who goes on is not known, and this one must not.
    pub fn ready(self, control: Option<PathBuf>) -> Result<(), String> {
        let files = self.files;
        // First, for once it is said the old one does not look after them any more.
        self.ours.store(true, Ordering::Release);
        self.channel
            .say(&Message::Ready { control, files }, &[])
            .map_err(|error| {
                self.ours.store(false, Ordering::Release);
                format!("the old process has given up the upgrade, or is gone: {error}")
            })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Stream,
    Datagrams,
}

/// What addresses of datagrams begin with.
const DATAGRAMS: &str = "udp:";

/// What a listener's sockets are called on the way.
pub fn purpose(listener: &Listener) -> Purpose {
    let address = match &listener.address {
        Address::Tcp(at) => at.to_string(),
        Address::Udp(at) => format!("{DATAGRAMS}{at}"),
        Address::Unix(path, _) => format!("unix:{}", path.display()),
    };
    Purpose::Listener {
        address,
        nth: listener.nth,
    }
}

fn refuse(channel: &Channel, why: &str) -> String {
    let said = Message::Failed { why: why.to_owned() };
    let _ = channel.say(&said, &[]);
    why.to_owned()
}
