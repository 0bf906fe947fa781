//! What stands for Kerberos in a build without the feature `gssapi`. The configuration refuses the mechanism, so nobody comes here.

use engine::upstream::sasl::gssapi::Context;

use super::{Kerberos, NOT_BUILT, Server};

/// No bind.
#[derive(Debug)]
pub enum Session {}

impl Session {
    pub fn begin(_: &Kerberos, _: &Server) -> Result<Session, String> {
        Err(NOT_BUILT.into())
    }

    pub fn initiate(&mut self, _: Option<&[u8]>) -> Result<(Vec<u8>, Context), String> {
        match *self {}
    }

    pub fn unwrap(&mut self, _: &[u8]) -> Result<Vec<u8>, String> {
        match *self {}
    }

    pub fn wrap(&mut self, _: &[u8]) -> Result<Vec<u8>, String> {
        match *self {}
    }
}
