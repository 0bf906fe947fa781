//! Any bytes as a question of the nslcd protocol: what is a frame is read, and is written again as it was.

use wire::frame::Step;
use wire::nslcd::{REQUEST_BYTES_MAX, Request, split};

pub(crate) fn run(data: &[u8]) {
    let len = match split(data, REQUEST_BYTES_MAX) {
        Step::Frame { len } => len,
        Step::NeedMore { .. } | Step::Malformed(_) => return assert!(Request::read(data).is_err()),
    };
    let request = Request::read(&data[..len]).expect("it is a frame");
    let mut again = Vec::new();
    request.write(&mut again);
    assert_eq!(again, &data[..len]);
}
