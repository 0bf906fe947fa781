//! Any bytes from a Python listener: frames are found within their bound, and a handshake that is told them ends, by its
//! own rules, without having believed anything.

use wire::frame::Step;
use wire::python_connection::{HANDSHAKE_FRAME_BYTES_MAX, Handshake, payload, split};

pub(crate) fn run(data: &[u8]) {
    let mut rest = data;
    let mut handshake = Handshake::new(b"key", &[7; 40]);
    let mut answered = 0;
    while let Step::Frame { len } = split(rest, HANDSHAKE_FRAME_BYTES_MAX) {
        assert!(len >= 4 && len <= rest.len());
        let (frame, behind) = rest.split_at(len);
        assert!(payload(frame).len() <= HANDSHAKE_FRAME_BYTES_MAX);
        rest = behind;
        match handshake.receive(payload(frame)) {
            Ok(next) => {
                answered += 1;
                // Nobody who only guesses knows the key.
                assert!(!next.done && answered <= 2);
                assert!(
                    next.send
                        .iter()
                        .all(|payload| payload.len() <= HANDSHAKE_FRAME_BYTES_MAX)
                );
            }
            Err(_) => assert!(handshake.receive(b"#WELCOME#").is_err()),
        }
    }
}
