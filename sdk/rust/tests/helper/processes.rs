//! The examples as processes, with a socket as their standard input, as usherd starts them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{SHARED_BYTES, Said, Usherd, pair};

/// Killed when the test is over, however it ends.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Example {
    fn start(name: &str) -> (Usherd, Self) {
        let (near, far) = pair();
        let child = Command::new(program(name)).stdin(Stdio::from(far)).spawn();
        let usherd = Usherd::welcoming(near, SHARED_BYTES);
        (usherd, Self(child.expect("cargo test builds the examples")))
    }

    fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// As usherd does until an interrupt is acknowledged: a signal that comes before the system call is lost.
    fn signal_until_heard(&self, usherd: &mut Usherd) -> Said {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            self.signal();
            let mut ready = [rustix::event::PollFd::new(&usherd.socket, rustix::event::PollFlags::IN)];
            let wait = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            if rustix::event::poll(&mut ready, Some(&wait)).unwrap() == 1 {
                return usherd.hear();
            }
        }
        panic!("nothing was heard");
    }

    fn status(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it does not end");
    }
}

/// Beside this test's own folder.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}

#[test]
fn the_smallest_helper_answers_and_ends_with_0() {
    let (mut usherd, mut upper) = Example::start("upper");
    assert_eq!(usherd.hear(), Said::Ready(1, "upper/1".to_string()));
    usherd.call(1, b"hello");
    assert_eq!(usherd.hear(), Said::Done(1, b"HELLO".to_vec()));
    let stdin = std::fs::read_link(format!("/proc/{}/fd/0", upper.0.id())).unwrap();
    assert_eq!(
        stdin,
        PathBuf::from("/dev/null"),
        "what a helper starts does not find the socket"
    );
    usherd.call_shared(2, &[b'a'; 5000]);
    assert_eq!(usherd.hear(), Said::Shared(2, vec![b'A'; 5000]));
    usherd.goodbye();
    assert_eq!(upper.status(), Some(0));
}

#[test]
fn a_signal_ends_a_blocking_call_only_with_its_interrupt() {
    let (mut usherd, follow) = Example::start("follow");
    assert!(matches!(usherd.hear(), Said::Ready(1, _)));
    // Signals alone, while it serves and while it does not, harm nothing.
    follow.signal();
    usherd.call(1, b"words a b");
    assert_eq!(usherd.hear(), Said::Part(1, b"a\n".to_vec()));
    assert_eq!(usherd.hear(), Said::Part(1, b"b\n".to_vec()));
    assert_eq!(usherd.hear(), Said::Done(1, Vec::new()));
    usherd.call(2, b"wait");
    usherd.interrupt(1);
    // The signals wake the call, which sees that they are not about it.
    assert_eq!(follow.signal_until_heard(&mut usherd), Said::Interrupted(1));
    usherd.interrupt(2);
    let heard = follow.signal_until_heard(&mut usherd);
    assert!(matches!(heard, Said::Error(2, 1, _)), "{heard:?}");
    assert_eq!(usherd.hear(), Said::Interrupted(2));
    usherd.call(3, b"ask who?");
    assert_eq!(usherd.hear(), Said::Ask(3, b"who?".to_vec()));
    usherd.input(3, b"me");
    assert_eq!(usherd.hear(), Said::Done(3, b"you said me".to_vec()));
}

#[test]
fn a_helper_started_by_hand_says_what_it_is() {
    let output = Command::new(program("upper")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("usherd starts it"), "{said}");
}
