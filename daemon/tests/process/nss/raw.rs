//! The nslcd protocol spoken by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use wire::nslcd::Request;

use crate::usherd::Usherd;

/// What comes back for these bytes until the connection ends.
pub(super) fn sent(usherd: &Usherd, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(usherd.unix("socket")).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("its end");
    answer
}

/// The same for a request.
pub(super) fn asked(usherd: &Usherd, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    sent(usherd, &bytes)
}
