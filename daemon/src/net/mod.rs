//! Sockets: what is read, what is written, and who may come in.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the RADIUS listener, which comes next, stands on it")
)]
pub mod datagram;
pub mod listen;
pub mod placing;
pub mod resolve;
pub mod stream;
pub mod tls;
