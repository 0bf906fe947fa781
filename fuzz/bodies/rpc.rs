//! Any bytes as the beginning of an RPC stream: borders are inside the buffer, and every reader answers.

use wire::frame::Step;
use wire::rpc::{self, Kind};

const FRAME_BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let len = match rpc::split(data, FRAME_BYTES_MAX) {
        Step::Frame { len } => len,
        Step::NeedMore { total } => {
            return assert!(total.is_none_or(|total| total > data.len() && total <= FRAME_BYTES_MAX));
        }
        // Perhaps for its length alone, which depends on who asks; cut off it is anyhow.
        Step::Malformed(_) => return assert!(rpc::peek(data).is_err()),
    };
    let Ok(frame) = rpc::peek(&data[..len]) else { return };
    let _ = (
        rpc::read_error(frame.payload),
        rpc::read_hello(frame.payload),
        frame.options.must_know(&[]),
        frame.options.find_type(rpc::option::TOKEN),
    );
    assert_eq!(frame.kind == Kind::Call, !frame.service.is_empty());
    if frame.kind == Kind::Call && frame.options.count() == 0 {
        let mut out = Vec::new();
        rpc::write_call(&mut out, frame.call, frame.deadline_ms, frame.service, frame.payload).expect("it was a call");
        assert_eq!(out, &data[..len]);
    }
    if matches!(frame.kind, Kind::Ask | Kind::Input) && frame.options.count() == 0 {
        let mut out = Vec::new();
        let write = if frame.kind == Kind::Ask {
            rpc::write_ask
        } else {
            rpc::write_input
        };
        write(&mut out, frame.call, frame.payload).expect("it has an id");
        assert_eq!(out, &data[..len]);
    }
}
