//! Sockets: what is read, what is written, and who may come in.

pub mod bound;
pub mod crl;
pub mod datagram;
pub mod dns;
pub mod listen;
pub mod own_bind;
pub mod placing;
pub mod preface;
pub mod resolve;
pub mod spares;
pub mod stream;
pub mod tcp;
pub mod tickets;
pub mod tls;
