//! Dear comparisons of passwords (bcrypt, argon2, crypt, PBKDF2), on threads of their own: each takes a CPU for some
//! milliseconds to some hundred, and no worker is to stand still for it.
//!
//! As many threads as half the workers, one at least, made when the first comparison comes. What waits is bounded; what is
//! beyond is refused, and its caller asks again.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use engine::password::{Check, Verdict};

/// Comparisons that wait, at most: many seconds of work.
const WAITING_MAX: usize = 1024;

/// Called with what came of it, on one of the threads; none: there is no room, or it was not wanted any more.
type Then = Box<dyn FnOnce(Option<Verdict>) + Send>;

struct Waiting {
    check: Check,
    /// Whether anybody still waits.
    wanted: Box<dyn Fn() -> bool + Send>,
    then: Then,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    threads: usize,
    ended: bool,
}

#[derive(Default)]
struct Room {
    queue: Mutex<Queue>,
    come: Condvar,
}

/// See the module.
pub struct Passwords {
    room: Arc<Room>,
    threads_max: usize,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    /// For so many workers.
    pub fn new(workers: usize) -> Passwords {
        Passwords {
            room: Arc::default(),
            threads_max: workers.div_ceil(2).max(1),
        }
    }

    /// Compares; `wanted` is asked right before, for a caller may have gone while this waited.
    pub fn compare(&self, check: Check, wanted: impl Fn() -> bool + Send + 'static, then: Then) {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= WAITING_MAX {
            drop(queue);
            return then(None);
        }
        queue.waiting.push_back(Waiting {
            check,
            wanted: Box::new(wanted),
            then,
        });
        if queue.threads < self.threads_max && queue.threads < queue.waiting.len() {
            let room = Arc::clone(&self.room);
            match std::thread::Builder::new()
                .name("passwords".into())
                .spawn(move || room.work())
            {
                Ok(_) => queue.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "no thread for comparing passwords");
                    if queue.threads == 0
                        && let Some(last) = queue.waiting.pop_back()
                    {
                        drop(queue);
                        return (last.then)(None);
                    }
                }
            }
        }
        self.room.come.notify_one();
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.ended = true;
        queue.waiting.clear();
        self.room.come.notify_all();
    }
}

impl Room {
    fn work(&self) {
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let next = loop {
                if queue.ended {
                    return;
                }
                match queue.waiting.pop_front() {
                    Some(next) => break next,
                    None => queue = self.come.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            let verdict = (next.wanted)().then(|| next.check.run());
            (next.then)(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    // Made with libxcrypt's crypt(3) for "secret".
    const BCRYPT: &[u8] = b"{CRYPT}$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

    #[test]
    fn comparisons_are_made_elsewhere_unless_nobody_waits() {
        let passwords = Passwords::new(4);
        let (to, from) = channel();
        for (offered, wanted) in [("secret", true), ("wrong", true), ("secret", false)] {
            let to = to.clone();
            let here = std::thread::current().id();
            passwords.compare(
                Check::new(BCRYPT, offered.as_bytes()),
                move || wanted,
                Box::new(move |verdict| {
                    assert_ne!(std::thread::current().id(), here);
                    to.send((offered, wanted, verdict)).expect("the test waits");
                }),
            );
        }
        for _ in 0..3 {
            let (offered, wanted, verdict) = from.recv_timeout(Duration::from_secs(20)).expect("it is compared");
            let right = match (offered, wanted) {
                (_, false) => None,
                ("secret", true) => Some(Verdict::Match),
                _ => Some(Verdict::NoMatch),
            };
            assert_eq!(verdict, right, "{offered} {wanted}");
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let passwords = Passwords::new(1);
        let (to, from) = channel();
        for _ in 0..WAITING_MAX + 40 {
            let to = to.clone();
            passwords.compare(
                Check::new(BCRYPT, b"secret"),
                || true,
                Box::new(move |verdict| {
                    let _ = to.send(verdict);
                }),
            );
        }
        let refused = from.try_iter().filter(Option::is_none).count();
        assert!(refused > 0, "none was refused");
    }
}
