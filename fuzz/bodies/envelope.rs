//! Any bytes as the beginning of a stream: borders are inside the buffer, answers are final, rewriting keeps everything.

use wire::frame::Step;
use wire::ldap::envelope::{peek, split, write, written_len};

const FRAME_BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let step = split(data, FRAME_BYTES_MAX);
    // What is known of a shorter buffer does not change when more comes.
    match (split(&data[..data.len() / 2], FRAME_BYTES_MAX), step) {
        (Step::NeedMore { total: None }, _) => {}
        (Step::NeedMore { total: Some(total) }, Step::NeedMore { total: later }) => assert_eq!(later, Some(total)),
        (Step::NeedMore { total: Some(total) }, later) => assert_eq!(later, Step::Frame { len: total }),
        (sooner, later) => assert_eq!(sooner, later),
    }
    let len = match step {
        Step::Frame { len } => len,
        Step::NeedMore { total } => {
            return assert!(total.is_none_or(|total| total > data.len() && total <= FRAME_BYTES_MAX));
        }
        Step::Malformed(_) => return,
    };
    let Ok(envelope) = peek(&data[..len]) else { return };
    assert_eq!(envelope.op[0], envelope.tag);
    for id in [1, 127, 128, i32::MAX] {
        let mut out = Vec::new();
        write(&mut out, id, envelope.op, envelope.controls, b"");
        assert_eq!(out.len(), written_len(id, envelope.op, envelope.controls, b""));
        let again = peek(&out).expect("what was written is a message");
        assert_eq!(
            (again.id, again.op, again.controls),
            (id, envelope.op, envelope.controls)
        );
    }
}
