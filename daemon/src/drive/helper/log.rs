//! What helpers write to their standard output and error goes to the daemon's log, line by line, within bounds: a helper
//! that writes without end fills neither the log nor the daemon's time.

use engine::core::time::{Instant, Span};

use super::{HelperRef, Phase};
use crate::drive::Drive;

/// A longer line is cut into pieces of so many bytes.
const LINE_BYTES_MAX: usize = 2000;
/// Lines of one helper in one second; what is beyond is counted, and the count logged.
const LINES_PER_SECOND: u32 = 50;
const SECOND: Span = Span::from_secs(1);
/// Reads in one turn.
const ROUNDS: usize = 4;

/// The lines of one helper.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// A line whose end has not come.
    begun: Vec<u8>,
    /// The second in which they were counted.
    since: Instant,
    logged: u32,
    dropped: u64,
}

impl Lines {
    /// Takes what was written, and says each line that may be said.
    fn take(&mut self, bytes: &[u8], now: Instant, mut say: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while !rest.is_empty() {
                let room = LINE_BYTES_MAX.saturating_sub(self.begun.len());
                let (part, behind) = rest.split_at_checked(room).unwrap_or((rest, &[]));
                self.begun.extend_from_slice(part);
                rest = behind;
                if self.begun.ends_with(b"\n") || self.begun.len() >= LINE_BYTES_MAX {
                    self.end(now, &mut say);
                }
            }
        }
    }

    /// The line has ended.
    fn end(&mut self, now: Instant, mut say: impl FnMut(&str)) {
        let line = std::mem::take(&mut self.begun);
        if now.since(self.since) >= SECOND {
            if self.dropped > 0 {
                say(&format!("{} more lines were not logged", self.dropped));
            }
            (self.since, self.logged, self.dropped) = (now, 0, 0);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        if self.logged < LINES_PER_SECOND {
            self.logged += 1;
            say(text);
        } else {
            self.dropped += 1;
        }
    }
}

impl Drive {
    /// A helper has written something to its standard output or error.
    pub(super) fn listen_to_log(&mut self, helper: HelperRef) {
        let now = self.now;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut rounds = 0;
        if let Some(found) = self.helpers.get_mut(helper) {
            let (service, pid) = (found.plan.name.clone(), found.pid());
            let say = |line: &str| tracing::info!(target: "helper", service, pid, "{line}");
            let ending = found.phase == Phase::Dying;
            while let Some(process) = found.process.as_deref_mut()
                && (rounds < ROUNDS || (ending && rounds < ROUNDS * ROUNDS))
            {
                rounds += 1;
                match process.read_log(&mut scratch) {
                    None => {
                        rounds = 0;
                        break;
                    }
                    Some(0) => {
                        found.lines.end(now, say);
                        process.close_log(self.poll.registry());
                        rounds = 0;
                        break;
                    }
                    Some(n) => found.lines.take(scratch.get(..n).unwrap_or_default(), now, say),
                }
            }
        }
        self.scratch = scratch;
        if rounds > 0 {
            let token = self.helpers.token(helper, super::LOG).0;
            self.again.push(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &mut Lines, bytes: &[u8], at: u64) -> Vec<String> {
        let mut said = Vec::new();
        lines.take(bytes, Instant::from_secs(at), |line| said.push(line.to_owned()));
        said
    }

    #[test]
    fn lines_are_whole_bounded_and_not_too_many() {
        let mut lines = Lines::default();
        assert_eq!(said(&mut lines, b"one\ntw", 1), ["one"]);
        assert_eq!(said(&mut lines, b"o\n\n\xff\n", 1), ["two", "\u{fffd}"]);
        let long = said(&mut lines, &[b'x'; 10 * LINE_BYTES_MAX], 2);
        assert_eq!(long.len(), 10);
        assert!(long.iter().all(|line| line.len() == LINE_BYTES_MAX));
        let many = said(&mut lines, &b"y\n".repeat(1000), 4);
        assert_eq!(many.len(), LINES_PER_SECOND as usize);
        let next = said(&mut lines, b"z\n", 5);
        assert_eq!(next, ["950 more lines were not logged", "z"]);
    }
}
