//! Lists of revoked certificates (RFC 5280 5).

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

/// Which certificates must not be in the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlCheck {
    /// That of the other side.
    Peer,
    /// That one and those of all authorities between it and the one that is trusted.
    All,
}

/// Lists, and what is looked for in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// PEM file of lists; read again by each reload.
    pub file: PathBuf,
    /// What is looked for.
    pub check: CrlCheck,
}

/// The lists of a PEM file.
///
/// # Errors
/// It cannot be read, or has none.
pub fn lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = CertificateRevocationListDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match lists {
        Ok(lists) if lists.is_empty() => Err(format!("{}: no list of revoked certificates in it", file.display())),
        Ok(lists) => Ok(lists),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
