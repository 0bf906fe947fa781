//! Any bytes as a PROXY header: what is a frame is found however it comes in pieces, and what is read can be written.

use wire::frame::Step;
use wire::proxy_header::{Accepted, Header, split, write};

pub(crate) fn run(data: &[u8]) {
    let len = match split(data, Accepted::Any) {
        Step::Frame { len } => len,
        Step::NeedMore { .. } | Step::Malformed(_) => return assert!(Header::read(data).is_err()),
    };
    for cut in 0..len {
        let step = split(&data[..cut], Accepted::Any);
        assert!(
            matches!(step, Step::NeedMore { .. }),
            "{step:?} after {cut} bytes of {len}"
        );
    }
    let Ok(header) = Header::read(&data[..len]) else { return };
    assert!(header.tlvs.count() <= len / 3);
    let mut out = Vec::new();
    write(&mut out, header.version, header.ends);
    let again = Header::read(&out).expect("we wrote it");
    let mut twice = Vec::new();
    write(&mut twice, again.version, again.ends);
    assert_eq!(out, twice);
}
