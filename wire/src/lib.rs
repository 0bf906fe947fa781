//! Bytes to values and back.
//!
//! Nothing here knows a clock, a socket or a runtime. Whatever comes from the network is walked on slices, within
//! bounds that the caller sets, and a malformed byte is an answer ([`frame::Malformed`]), never a panic.
#![forbid(unsafe_code)]

pub mod ber;
pub mod dbus;
pub mod frame;
pub mod helper;
pub mod ldap;
pub mod ldif;
pub mod nslcd;
pub mod proxy_header;
pub mod python_connection;
pub mod radius;
pub mod rpc;
pub mod saslauthd;
pub mod wipe;
