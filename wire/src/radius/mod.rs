//! RADIUS: datagrams to packets and back (RFC 2865, 2866, 2869, 3579, 5080, 5176, 5997, 6929, 8044).
//!
//! A datagram is parsed once into a [`Packet`], which borrows it: lengths are checked there, so that walking its attributes
//! cannot fail afterwards. An answer is written with a [`Writer`] behind whatever a buffer already holds and sealed with the
//! client's [`Secret`], which keeps the part of the hashing that is the same for every packet. Neither allocates.
//!
//! ```
//! use wire::radius::{Code, MessageAuthenticator, Packet, Secret, Writer, number};
//!
//! let secret = Secret::new(b"xyzzy5461");
//! # let mut datagram = Vec::new();
//! # let mut writer = Writer::request(&mut datagram, Code::ACCESS_REQUEST, 7, &[9; 16]);
//! # writer.attribute(number::USER_NAME, b"bob").unwrap();
//! # writer.user_password(b"hello", &secret).unwrap();
//! # writer.finish(&secret).unwrap();
//! let request = Packet::parse(&datagram)?;
//! match request.check_message_authenticator(&secret, None) {
//!     MessageAuthenticator::Valid => {}
//!     MessageAuthenticator::Absent => { /* the client's require_message_authenticator decides */ }
//!     MessageAuthenticator::Invalid => return Ok(()), // silently dropped
//! }
//! let password = request.user_password(&secret);
//! assert_eq!(password.as_ref().map(|password| password.as_bytes()), Some(&b"hello"[..]));
//!
//! let mut out = Vec::new();
//! let mut reply = Writer::reply(&mut out, Code::ACCESS_ACCEPT, &request);
//! reply.attribute(number::REPLY_MESSAGE, b"welcome")?;
//! reply.proxy_states(&request)?;
//! reply.finish(&secret)?;
//! # assert!(Packet::parse(&out).unwrap().check_response(&secret, request.authenticator()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authenticator;
mod date;
pub mod dictionary;
mod encode;
mod hidden;
pub mod mschap;
pub mod number;
mod packet;
pub mod text;
mod value;
mod walk;
mod writer;

#[cfg(test)]
mod extended_tests;
#[cfg(test)]
mod packet_tests;
#[cfg(test)]
mod text_tests;

pub use authenticator::{MessageAuthenticator, Secret};
pub use dictionary::Dictionary;
pub use encode::{Content, Hide, Item, Unwritable};
pub use hidden::{
    Chap, HIDDEN_BYTES_MAX, Plain, chap_response, hide_password, hide_salted, hide_tunnel_password, reveal_password,
    reveal_salted, reveal_tunnel_password,
};
pub use packet::{
    Attribute, Attributes, Code, HEADER_BYTES, Malformed, PACKET_BYTES_MAX, Packet, VendorAttributes, split_vendor,
};
pub use value::{DataType, Value};
pub use walk::{Event, Octets, Pair, Reveal, Walk};
pub use writer::{Full, Writer};
