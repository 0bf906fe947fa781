//! What is peculiar to rpc listeners: who may call, and how large a call may be.

use super::diagnostic::{At, Problems};
use super::files::{self, Folder};
use super::plan::{self, Address, ClientCert, Secret, TlsServer};
use super::raw;

/// The face of an rpc listener.
pub(super) fn face(p: &mut Problems, listen: &raw::Listen, folder: &Folder) -> Option<plan::Face> {
    if let Some(directory) = &listen.directory {
        p.error(&directory.place, "an rpc listener serves services, not a directory")
            .help("remove `directory`");
    }
    let token = match &listen.token_file {
        Some(file) => Some(Secret::new(files::token(p, folder, file)?)),
        None => None,
    };
    Some(plan::Face::Rpc {
        payload_bytes_max: listen.payload_bytes_max.as_ref().map_or(16 << 20, |at| at.value),
        token,
    })
}

/// Whether the settings are those of another protocol.
pub(super) fn refuse_settings(p: &mut Problems, listen: &raw::Listen) {
    if let Some(written) = &listen.payload_bytes_max {
        p.error(&written.place, "`payload_bytes_max` is for rpc listeners")
            .help("the size of LDAP requests is `request_bytes_max` of the directory");
    }
    if let Some(written) = &listen.token_file {
        p.error(&written.place, "`token_file` is for rpc listeners")
            .help("remove `token_file`");
    }
}

/// A listener that other machines reach runs programs for whoever may call: it has to know who that is.
pub(super) fn reach(
    p: &mut Problems,
    listen: &raw::Listen,
    address: &At<Address>,
    tls: Option<&TlsServer>,
) -> Option<()> {
    match &address.value {
        Address::Tcp(at) if !at.ip().is_loopback() => {}
        _ => return Some(()),
    }
    let known_by_certificate = tls.is_some_and(|tls| tls.client_cert == ClientCert::Require);
    match (&listen.token_file, tls) {
        (None, _) if !known_by_certificate => {
            p.error(
                &address.place,
                "the rpc listener is open to everyone beyond this machine",
            )
            .label("everyone who reaches it may call every service")
            .help(
                "add token_file = \"…\" and tls = { … }, or ask for certificates with client_cert = \"require\"; \
                     or write \"unix:/run/usherd/rpc.sock\" or a loopback address",
            );
            None
        }
        (Some(token), None) => {
            p.warning(&token.place, "the token travels in plain text")
                .label("who listens on the way may call every service afterwards")
                .help("add tls = { cert_file = \"…\", key_file = \"…\" }");
            Some(())
        }
        _ => Some(()),
    }
}
