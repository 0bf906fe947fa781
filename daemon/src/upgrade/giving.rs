//! The old process: it starts the new one and hands over, on a thread of its own, which blocks in its place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::channel::{Channel, DESCRIPTORS_MAX};
use super::{Message, Purpose, VARIABLE, VERSION};

/// How far the new process is.
#[derive(Debug)]
pub enum Step {
    /// It wants what only one can have.
    Prepared,
    /// It serves.
    Ready {
        /// Its process id.
        pid: u32,
        /// Where the control socket of this process is now, if the new one has taken its path.
        control: Option<PathBuf>,
        /// Unix sockets that are the other's now.
        files: Vec<PathBuf>,
    },
    /// It does not, and is gone.
    Failed(String),
}

/// What is handed over.
pub struct Gift {
    /// The program, and what follows its name.
    pub program: PathBuf,
    /// Its arguments: our own.
    pub arguments: Vec<std::ffi::OsString>,
    /// Our control socket.
    pub control: PathBuf,
    /// Our workers.
    pub workers: usize,
    /// The sockets.
    pub sockets: Vec<(Purpose, Vec<OwnedFd>)>,
    /// How long the new process may take until it is ready.
    pub patience: Duration,
}

/// An upgrade under way. Dropped before it is ready, it is given up.
pub struct Upgrade {
    go: Sender<()>,
    channel: Channel,
}

impl Upgrade {
    /// Starts the program; `tell` hears how it comes along, once of the end of it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn begin(gift: Gift, tell: impl Fn(Step) + Send + 'static) -> Result<Upgrade, String> {
        let (ours, theirs) = Channel::pair().map_err(|error| format!("no channel to a new process: {error}"))?;
        let shown = gift.program.display().to_string();
        let until = Instant::now() + gift.patience;
        let again = ours
            .again()
            .map_err(|error| format!("no channel to a new process: {error}"))?;
        let child = Command::new(&gift.program)
            .args(&gift.arguments)
            .env(VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|error| format!("{shown} cannot be started: {error}"))?;
        tracing::info!(program = shown, pid = child.id(), "the new process was started");
        let (go, went) = channel();
        let giver = Giver {
            child,
            channel: ours,
            until,
        };
        let begun = std::thread::Builder::new()
            .name("upgrade".into())
            .spawn(move || giver.run(&gift, &went, tell));
        match begun {
            Ok(_) => Ok(Upgrade { go, channel: again }),
            // Its end of the channel is gone with the thread that never was: the new process ends by itself.
            Err(error) => Err(format!("no thread for an upgrade: {error}")),
        }
    }

    /// What only one can have has been let go.
    pub fn let_go(&self) {
        let _ = self.go.send(());
    }

    /// Gives it up: the end is told as [`Step::Failed`].
    pub fn give_up(&self) {
        self.channel.close();
    }
}

struct Giver {
    child: Child,
    channel: Channel,
    until: Instant,
}

impl Giver {
    fn run(mut self, gift: &Gift, went: &Receiver<()>, tell: impl Fn(Step)) {
        match self.hand_over(gift, went, &tell) {
            Ok((control, files)) => tell(Step::Ready {
                pid: self.child.id(),
                control,
                files,
            }),
            Err(why) => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return tell(Step::Failed(why));
            }
        }
        // It is ours to be reaped for as long as we are here.
        let _ = self.child.wait();
    }

    fn hand_over(
        &mut self,
        gift: &Gift,
        went: &Receiver<()>,
        tell: &impl Fn(Step),
    ) -> Result<(Option<PathBuf>, Vec<PathBuf>), String> {
        self.give(gift).map_err(|error| self.explain(&error))?;
        match self.hear()? {
            Message::Prepared => tell(Step::Prepared),
            Message::Failed { why } => return Err(why),
            _ => return Err("the new process says what it may not".to_owned()),
        }
        went.recv_timeout(self.until.saturating_duration_since(Instant::now()))
            .map_err(|_| "the upgrade was given up".to_owned())?;
        self.channel
            .say(&Message::Yours, &[])
            .map_err(|error| self.explain(&error))?;
        match self.hear()? {
            Message::Ready { control, files } => Ok((control, files)),
            Message::Failed { why } => Err(why),
            _ => Err("the new process says what it may not".to_owned()),
        }
    }

    fn give(&self, gift: &Gift) -> io::Result<()> {
        let hello = Message::Hello {
            version: VERSION,
            control: gift.control.clone(),
            workers: gift.workers,
        };
        self.channel.say(&hello, &[])?;
        for (purpose, sockets) in &gift.sockets {
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            for some in sockets.chunks(DESCRIPTORS_MAX) {
                let purpose = purpose.clone();
                self.channel.say(&Message::Sockets { purpose }, some)?;
            }
        }
        self.channel.say(&Message::Whole, &[])
    }

    fn hear(&mut self) -> Result<Message, String> {
        match self.channel.hear(self.until) {
            Ok((message, _)) => Ok(message),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::TimedOut => "the new process was not ready within `upgrade_timeout`".to_owned(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                "the new process ended before it was ready; its log says why".to_owned()
            }
            _ => format!("the channel to the new process: {error}"),
        }
    }
}
