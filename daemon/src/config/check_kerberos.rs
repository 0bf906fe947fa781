//! The settings of the daemon's own bind by GSSAPI: whose tickets, where they come from, and for which server.

use std::net::IpAddr;
use std::path::PathBuf;

use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::plan::Target;
use super::reader::Section;
use crate::gssapi::{Kerberos, NOT_BUILT, Server};

/// What a keytab begins with: the format, and one of its two versions.
const KEYTABS: [&[u8]; 2] = [&[5, 2], &[5, 1]];

/// As written.
#[derive(Debug, Default)]
pub struct Written {
    /// `bind_principal`.
    pub principal: Option<At<String>>,
    /// `bind_keytab`.
    pub keytab: Option<At<String>>,
    /// `bind_ccache`.
    pub ccache: Option<At<String>>,
    /// `bind_service`.
    pub service: Option<At<String>>,
}

impl Written {
    /// Its settings that are written, and where.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let all = [
            ("bind_principal", &self.principal),
            ("bind_keytab", &self.keytab),
            ("bind_ccache", &self.ccache),
            ("bind_service", &self.service),
        ];
        all.into_iter().filter_map(|(key, at)| Some((key, &at.as_ref()?.place)))
    }
}

/// Reads them.
pub(super) fn read(p: &mut Problems, section: &mut Section<'_>) -> Written {
    Written {
        principal: section.string(p, "bind_principal"),
        keytab: section.string(p, "bind_keytab"),
        ccache: section.string(p, "bind_ccache"),
        service: section.string(p, "bind_service"),
    }
}

/// Without GSSAPI they mean nothing.
pub(super) fn refuse(p: &mut Problems, written: &Written) {
    for (key, place) in written.places() {
        p.error(place, format!("`{key}` is for GSSAPI"))
            .help("add \"GSSAPI\" to `bind_mechanism`, or remove it");
    }
}

/// The build lacks it.
pub(super) fn not_built(p: &mut Problems, name: &At<String>) {
    p.error(&name.place, "the daemon cannot bind with GSSAPI")
        .label(NOT_BUILT)
        .help("the usual build has it: cargo build --release, without --no-default-features");
}

pub(super) fn check(p: &mut Problems, written: &Written, folder: &Folder) -> Option<Kerberos> {
    let before = p.errors();
    if let (Some(keytab), Some(ccache)) = (&written.keytab, &written.ccache) {
        p.error(&ccache.place, "`bind_ccache` and `bind_keytab` exclude each other")
            .label("tickets that somebody else renews")
            .also(&keytab.place, "a key by which the daemon gets its own")
            .help("remove one of them");
    }
    if let Some(keytab) = &written.keytab {
        check_keytab(p, folder, keytab);
    }
    if let Some(principal) = &written.principal
        && (principal.value.is_empty() || principal.value.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        p.error(&principal.place, "`bind_principal` is not the name of a principal")
            .label(format!("found \"{}\"", principal.value))
            .help("as in bind_principal = \"usherd@EXAMPLE.COM\", or \"usherd/host.example.com\" in the default realm");
    }
    let server = written.service.as_ref().and_then(|at| check_service(p, at));
    let path = |at: &Option<At<String>>| -> Option<PathBuf> { at.as_ref().map(|at| folder.path(&at.value)) };
    (p.errors() == before).then(|| Kerberos {
        keytab: path(&written.keytab),
        ccache: path(&written.ccache),
        principal: written.principal.as_ref().map(|at| at.value.clone()),
        server,
    })
}

/// It is read again for each bind, so that a changed key is used at once; but what is no keytab is said now.
fn check_keytab(p: &mut Problems, folder: &Folder, keytab: &At<String>) {
    files::warn_if_open(p, folder, keytab, "a key");
    let Some(content) = files::content(p, folder, keytab, "the keytab") else {
        return;
    };
    if !KEYTABS.iter().any(|start| content.starts_with(start)) {
        p.error(&keytab.place, format!("{} is not a keytab", folder.path(&keytab.value).display()))
            .label("it does not begin as one")
            .help("make one with: kadmin -q \"ktadd -k FILE usherd\", or ktutil; of Active Directory: ktpass, or net ads keytab");
    }
}

/// `service@host`, as GSSAPI writes it (RFC 2743 section 4.1).
fn check_service(p: &mut Problems, at: &At<String>) -> Option<Server> {
    let name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"/@:\\".contains(c));
    match at.value.split_once('@') {
        Some((service, host)) if name(service) && name(host) => Some(Server {
            service: service.to_owned(),
            host: host.to_owned(),
        }),
        _ => {
            p.error(&at.place, "`bind_service` is not the name of a service")
                .label(format!("found \"{}\"", at.value))
                .help("write bind_service = \"ldap@ldap1.example.com\": the service and the host of the server's principal");
            None
        }
    }
}

/// Whether the server has a name. `url`: where the server is written.
pub(super) fn fits(p: &mut Problems, written: &Written, mechanism: &Place, url: &Place, target: &Target) {
    if written.service.is_some() {
        return;
    }
    let help = "say whose ticket is meant: bind_service = \"ldap@ldap1.example.com\"";
    match target {
        Target::Unix(_) => {
            p.error(url, "GSSAPI needs the server's name, and this address has none")
                .also(mechanism, "asked for here")
                .help(help);
        }
        Target::Tcp { host, .. } if host.parse::<IpAddr>().is_ok() => {
            p.warning(url, "GSSAPI asks for a ticket for an address")
                .label("as a rule a KDC knows servers by name")
                .help(help);
        }
        Target::Tcp { .. } | Target::Srv { .. } | Target::Local(_) => {}
    }
}
