//! `usherd stop`: the daemon drains and ends.

use std::process::ExitCode;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::client::{self, Target};

/// The flags.
#[derive(Args, Debug)]
pub struct Stop {
    /// Come back when the daemon has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    target: Target,
}

impl Stop {
    /// Does it.
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        // Looked up before it is told, while the number is certainly its own.
        let process = if self.wait { Some(self.process()?) } else { None };
        client::ask(&self.target, &json!({ "command": "stop" }))?;
        let said = match process {
            None => "stopping\n",
            Some(process) => {
                until_its_end(&process)?;
                "stopped\n"
            }
        };
        super::print(said.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    /// The process that answers at the control socket.
    fn process(&self) -> Result<OwnedFd, String> {
        let (_, answer) = client::ask(&self.target, &json!({ "command": "status" }))?;
        let pid = answer
            .get("pid")
            .and_then(Value::as_i64)
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
            .ok_or("the daemon does not say which process it is")?;
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("process {}: {error}", pid.as_raw_nonzero()))
    }
}

/// The daemon's own bounds say how long that may take.
fn until_its_end(process: &OwnedFd) -> Result<(), String> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(format!("waiting for the daemon's end: {error}")),
        }
    }
}
