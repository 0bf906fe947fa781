//! How a load speaks TLS: whom it trusts, what it offers, and whether it comes back to sessions that it had.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore, SupportedCipherSuite};

use super::LdapArgs;
use super::stream::Tls;

/// What the flags say of TLS to this host.
///
/// # Errors
/// A sentence that names the flag and what is wrong with it.
pub(super) fn tls(host: &str, args: &LdapArgs) -> Result<Tls, String> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if let Some(name) = &args.tls_suite {
        provider.cipher_suites = vec![suite(&provider, name)?];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots(args.ca_file.as_deref())?)
        .with_no_client_auth();
    config.resumption = if args.no_resumption {
        Resumption::disabled()
    } else {
        Resumption::store(Arc::new(Sessions::default()))
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host}: neither a name nor an address that a certificate could carry"))?;
    Ok(Tls {
        config: Arc::new(config),
        name,
    })
}

fn suite(provider: &CryptoProvider, wanted: &str) -> Result<SupportedCipherSuite, String> {
    let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
    let found = provider
        .cipher_suites
        .iter()
        .find(|suite| name(suite).eq_ignore_ascii_case(wanted));
    found.copied().ok_or_else(|| {
        let known: Vec<String> = provider.cipher_suites.iter().map(name).collect();
        format!("--tls-suite {wanted}: none of {}", known.join(", "))
    })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this machine has no trusted certificates; name the server's authority by --ca-file".to_owned(),
            );
        }
        return Ok(roots);
    };
    let wrong = |what: &dyn std::fmt::Display| format!("--ca-file {}: {what}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(roots)
}

/// Sessions of the one server, the latest used first.
///
/// The store that rustls brings keeps eight tickets for a server. That is enough for a client; a hundred connections that are
/// begun in one turn would find it empty, and how many then make a whole handshake would be chance.
#[derive(Debug, Default)]
struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// As many as there may be connections under way at a time, and some.
const TICKETS_MAX: usize = 1024;

impl Sessions {
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.with(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|kept| kept.group)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|kept| kept.tls12 = Some(value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| kept.tls12.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|kept| {
            if kept.tickets.len() >= TICKETS_MAX {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| kept.tickets.pop_back())
    }
}
