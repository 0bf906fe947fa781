//! TLS settings of listeners and towards servers: files read, keys matched with certificates, doubts said.

use std::path::Path;

use rustls::pki_types::ServerName;

use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::plan::{ClientCert, TlsClient, TlsServer};
use super::raw;
use crate::net::crl::{self, Crl, CrlCheck};

/// The settings of `tls` of a server.
pub(super) const CLIENT_KEYS: &[&str] = &[
    "ca_file",
    "cert_file",
    "key_file",
    "server_name",
    "verify",
    "crl_file",
    "crl_check",
];
/// The settings of `tls` of a listener.
pub(super) const SERVER_KEYS: &[&str] = &[
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_cert",
    "client_crl_file",
    "client_crl_check",
];

/// TLS of a listener.
pub(super) fn server(p: &mut Problems, tls: &raw::TlsServer, folder: &Folder) -> Option<TlsServer> {
    let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) else {
        let missing = if tls.cert_file.is_none() {
            "cert_file"
        } else {
            "key_file"
        };
        if !p.absent(&tls.place, missing) {
            return None;
        }
        p.error(&tls.place, format!("`tls` of a listener without `{missing}`"))
            .help("write tls = { cert_file = \"…\", key_file = \"…\" }");
        return None;
    };
    let ca = tls.client_ca_file.as_ref();
    let client_cert = tls.client_cert.as_ref().map_or(ClientCert::Never, |at| at.value);
    if let (Some(written), None) = (tls.client_cert.as_ref().filter(|at| at.value != ClientCert::Never), ca) {
        p.error(
            &written.place,
            "client certificates cannot be verified without `client_ca_file`",
        )
        .help("add client_ca_file = \"…\", the authorities that issue them");
    }
    if let (Some(ca), ClientCert::Never) = (ca, client_cert) {
        p.warning(&ca.place, "`client_ca_file` is never used")
            .help("add client_cert = \"request\" or \"require\" to ask clients for certificates");
    }
    let client_crl = revoked(
        p,
        &tls.place,
        ("client_crl_file", "client_crl_check"),
        tls.client_crl_file.as_ref(),
        tls.client_crl_check.as_ref(),
        folder,
    )?;
    if let (Some(lists), ClientCert::Never) = (&tls.client_crl_file, client_cert) {
        p.warning(&lists.place, "`client_crl_file` is never used")
            .help("add client_cert = \"request\" or \"require\" to ask clients for certificates");
    }
    let authorities = ca.map(|ca| files::certificates(p, folder, ca).is_some());
    let stamp = files::identity(p, folder, cert, key)?;
    if authorities == Some(false) {
        return None;
    }
    let client_ca_file = ca.map(|ca| folder.path(&ca.value));
    Some(TlsServer {
        cert_file: folder.path(&cert.value),
        key_file: folder.path(&key.value),
        stamp: stamp
            ^ client_ca_file.as_deref().map_or(0, |path| files::stamp(&[path]))
            ^ client_crl
                .as_ref()
                .map_or(0, |crl| files::stamp(&[&crl.file]).rotate_left(2)),
        client_crl,
        client_ca_file,
        client_cert,
    })
}

/// TLS towards a server; `written` is none where defaults hold.
pub(super) fn client(p: &mut Problems, written: Option<&raw::TlsClient>, folder: &Folder) -> Option<TlsClient> {
    let Some(tls) = written else {
        return Some(TlsClient {
            ca_file: None,
            identity: None,
            server_name: None,
            verify: true,
            crl: None,
            stamp: 0,
        });
    };
    let verify = tls.verify.as_ref().is_none_or(|at| at.value);
    if let Some(at) = tls.verify.as_ref().filter(|at| !at.value) {
        p.warning(&at.place, "the server's certificate is not verified")
            .label("whoever answers at this address reads every password")
            .help("name the authority instead: ca_file = \"…\"");
        unused(p, tls);
    }
    let mut stamps = 0;
    let mut sound = true;
    let ca_file = tls.ca_file.as_ref().map(|ca| {
        sound &= files::certificates(p, folder, ca).is_some();
        let path = folder.path(&ca.value);
        stamps ^= files::stamp(&[Path::new(&path)]);
        path
    });
    let crl = revoked(
        p,
        &tls.place,
        ("crl_file", "crl_check"),
        tls.crl_file.as_ref(),
        tls.crl_check.as_ref(),
        folder,
    )?;
    stamps ^= crl.as_ref().map_or(0, |crl| files::stamp(&[&crl.file]).rotate_left(2));
    let identity = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            match files::identity(p, folder, cert, key) {
                Some(stamp) => stamps ^= stamp.rotate_left(1),
                None => sound = false,
            }
            Some((folder.path(&cert.value), folder.path(&key.value)))
        }
        (None, None) => None,
        (Some(only), None) | (None, Some(only)) => {
            let missing = if tls.key_file.is_none() {
                "key_file"
            } else {
                "cert_file"
            };
            if p.absent(&tls.place, missing) {
                p.error(
                    &only.place,
                    format!("a certificate and its key come together: `{missing}` is missing"),
                );
            }
            sound = false;
            None
        }
    };
    let server_name = tls.server_name.as_ref().and_then(|name| server_name(p, name));
    sound &= server_name.is_some() == tls.server_name.is_some();
    sound.then_some(TlsClient {
        ca_file,
        identity,
        server_name,
        verify,
        crl,
        stamp: stamps,
    })
}

/// What has no meaning where nothing is verified.
fn unused(p: &mut Problems, tls: &raw::TlsClient) {
    let settings = [
        ("ca_file", &tls.ca_file),
        ("server_name", &tls.server_name),
        ("crl_file", &tls.crl_file),
    ];
    for (key, written) in settings {
        if let Some(written) = written {
            p.warning(&written.place, format!("`{key}` is not used with verify = false"));
        }
    }
}

/// Lists of revoked certificates; the outer none: something is wrong.
#[allow(clippy::option_option)]
fn revoked(
    p: &mut Problems,
    table: &Place,
    (file_key, check_key): (&str, &str),
    file: Option<&At<String>>,
    check: Option<&At<CrlCheck>>,
    folder: &Folder,
) -> Option<Option<Crl>> {
    let Some(file) = file else {
        if let Some(check) = check.filter(|_| p.absent(table, file_key)) {
            p.error(&check.place, format!("`{check_key}` without `{file_key}`"))
                .help(format!(
                    "add {file_key} = \"…\", a PEM file of lists of revoked certificates"
                ));
            return None;
        }
        return Some(None);
    };
    let path = folder.path(&file.value);
    if let Err(why) = crl::lists(&path) {
        p.error(
            &file.place,
            format!("`{file_key}` is no file of lists of revoked certificates"),
        )
        .label(why)
        .help("write a PEM file with X509 CRL in it, one for each authority");
        return None;
    }
    Some(Some(Crl {
        file: path,
        check: check.map_or(CrlCheck::All, |at| at.value),
    }))
}

fn server_name(p: &mut Problems, name: &At<String>) -> Option<String> {
    if ServerName::try_from(name.value.as_str()).is_ok() {
        return Some(name.value.clone());
    }
    p.error(&name.place, "`server_name` is not a host name")
        .label(format!("found \"{}\"", name.value))
        .help("write the name in the server's certificate: \"ldap1.example.com\"");
    None
}
