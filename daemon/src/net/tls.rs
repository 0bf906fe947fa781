//! TLS material: from files to what rustls wants. A file that does not do is an error that names it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::crl::{self, CrlCheck};
use crate::config::plan::{ClientCert, TlsClient, TlsServer};

/// The configuration of a listener, and with what its clients come back to their sessions; none: as rustls does by itself.
pub fn server(plan: &TlsServer, tickets: Option<Arc<dyn ProducesTickets>>) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder();
    let builder = match (plan.client_cert, &plan.client_ca_file) {
        (ClientCert::Never, _) | (_, None) => builder.with_no_client_auth(),
        (wanted, Some(ca)) => {
            let mut verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?));
            if let Some(crl) = &plan.client_crl {
                verifier = verifier
                    .with_crls(crl::lists(&crl.file)?)
                    .enforce_revocation_expiration();
                if crl.check == CrlCheck::Peer {
                    verifier = verifier.only_check_end_entity_revocation();
                }
            }
            let verifier = if wanted == ClientCert::Request {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier.build().map_err(|error| format!("{}: {error}", ca.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain(&plan.cert_file)?, key(&plan.key_file)?)
        .map_err(|error| format!("{} with {}: {error}", plan.cert_file.display(), plan.key_file.display()))?;
    if let Some(tickets) = tickets {
        config.ticketer = tickets;
    }
    Ok(Arc::new(config))
}

/// The configuration of a connection to a server.
pub fn client(plan: &TlsClient) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder();
    let builder = if plan.verify {
        let roots = match &plan.ca_file {
            Some(ca) => roots(ca)?,
            None => system_roots()?,
        };
        match &plan.crl {
            None => builder.with_root_certificates(roots),
            Some(crl) => {
                let mut verifier = WebPkiServerVerifier::builder(Arc::new(roots))
                    .with_crls(crl::lists(&crl.file)?)
                    .enforce_revocation_expiration();
                if crl.check == CrlCheck::Peer {
                    verifier = verifier.only_check_end_entity_revocation();
                }
                let verifier = verifier
                    .build()
                    .map_err(|error| format!("{}: {error}", crl.file.display()))?;
                builder.with_webpki_verifier(verifier)
            }
        }
    } else {
        let provider = CryptoProvider::get_default()
            .cloned()
            .ok_or("no TLS provider is installed")?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    let config = match &plan.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key_file)) => builder
            .with_client_auth_cert(chain(cert)?, key(key_file)?)
            .map_err(|error| format!("{}: {error}", cert.display()))?,
    };
    Ok(Arc::new(config))
}

/// The name that a server's certificate must bear.
pub fn server_name(plan: &TlsClient, host: &str) -> Result<ServerName<'static>, String> {
    let name = plan.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is no name that a certificate can bear"))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(chain) if chain.is_empty() => Err(format!("{}: no certificate in it", file.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in chain(file)? {
        store
            .add(certificate)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        Err("the system has no certificate authorities; set ca_file".into())
    } else {
        Ok(store)
    }
}

/// `verify = false`: signatures are checked, the certificate is not.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
