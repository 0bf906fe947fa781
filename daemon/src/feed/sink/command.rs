//! Lines to the standard input of a program, one process for each shard.
//!
//! What it writes to standard error goes to the log. It is ended by the end of its input; what has not ended after the
//! grace is asked to (SIGTERM, its whole group), and after the grace again it is killed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command as Program};
use tokio::time::timeout;

use super::lines::Dialogue;
use super::socket::late;
use super::{Acknowledge, Batch, CommandPlan, Delivered, SinkError, Timeouts};

/// A longer line of a program's standard error is logged in pieces.
const LOG_LINE_BYTES_MAX: u64 = 4096;

/// A running program, for one shard.
pub struct Command {
    dialogue: Dialogue,
    child: Child,
    input: ChildStdin,
    output: Option<ChildStdout>,
    times: Timeouts,
}

impl Command {
    pub(super) fn start(
        plan: &CommandPlan,
        times: &Timeouts,
        feed: &Arc<str>,
        shard: u16,
    ) -> Result<Command, SinkError> {
        let Some((path, arguments)) = plan.program.split_first() else {
            return Err(SinkError::setting("the sink has no program"));
        };
        let mut program = Program::new(path);
        program.args(arguments);
        program.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        program
            .env("USHERD_FEED", &**feed)
            .env("USHERD_SHARD", shard.to_string());
        if let Some(directory) = &plan.directory {
            program.current_dir(directory);
        }
        let output = match plan.ack {
            Acknowledge::Yes => Stdio::piped(),
            Acknowledge::No => Stdio::null(),
        };
        program.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
        program.process_group(0).kill_on_drop(true);
        crate::spawner::heed_signals();
        let mut child = program
            .spawn()
            .map_err(|error| SinkError::retry(format!("{path}: {error}")))?;
        let Some(input) = child.stdin.take() else {
            return Err(SinkError::retry(format!("{path}: it has no standard input")));
        };
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(log(feed.clone(), shard, errors));
        }
        Ok(Command {
            dialogue: Dialogue::new(feed, path.clone()),
            output: child.stdout.take(),
            child,
            input,
            times: times.clone(),
        })
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let talk = self.dialogue.deliver(batch, self.output.as_mut(), &mut self.input);
        let mut done = match timeout(self.times.deliver, talk).await {
            Ok(done) => done,
            Err(_) => Err(late(self.times.deliver).after(self.dialogue.progress(batch))),
        };
        if let Err(error) = &mut done {
            // Whoever reads of a broken pipe wants to know why. A program that ends has a moment to have ended.
            if let Ok(Ok(status)) = timeout(Duration::from_millis(100), self.child.wait()).await {
                error.text = format!("{} ({status})", error.text);
            }
        }
        done
    }

    pub(super) async fn close(mut self) {
        drop(self.input);
        let grace = self.times.grace;
        if timeout(grace, self.child.wait()).await.is_ok() {
            return;
        }
        for signal in [Signal::TERM, Signal::KILL] {
            let id = self
                .child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw);
            let Some(id) = id else { return };
            // It may end between the question and this: then there is nothing left to signal.
            let _ = kill_process_group(id, signal);
            if timeout(grace, self.child.wait()).await.is_ok() {
                return;
            }
        }
    }
}

/// Hands a program's standard error to the log, line by line.
async fn log(feed: Arc<str>, shard: u16, errors: ChildStderr) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut errors)
            .take(LOG_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                tracing::warn!(feed = &*feed, shard, "{}", text.trim_end());
            }
        }
    }
}
