//! The protocol state machine of one client, for each face.
//!
//! A session is told whole frames and the ends of its requests, writes its own answers into the client's outbox, and says
//! what else is to be done. It knows no socket, no clock and no pool. A protocol never imports another.

pub mod ldap;
pub mod nss_pam;
pub mod radius;
pub mod rpc;
pub mod saslauthd;
