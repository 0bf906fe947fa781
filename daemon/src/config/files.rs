//! The files that a configuration names: read once at load, checked for what they must hold and for who may read them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::diagnostic::{At, Place, Problems};

/// Longest file of certificates or secrets that is read: beyond it, it is something else.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// A shorter token can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Where relative paths start: the folder of the configuration file, or the current one.
pub struct Folder(PathBuf);

impl Folder {
    /// A folder; made absolute, so that nothing depends on where the daemon stands later.
    pub fn new(folder: &Path) -> Folder {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        Folder(std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()))
    }

    /// A path as written, made absolute.
    pub fn path(&self, written: &str) -> PathBuf {
        self.0.join(written)
    }
}

/// A password from its file: one trailing newline is not part of it. Warned about when others may read the file.
pub fn secret(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<Zeroizing<Vec<u8>>> {
    let content = one_line(p, folder, file, "the password file", "a password")?;
    if content.is_empty() {
        p.error(&file.place, "the password file is empty")
            .label("a bind without a password is not a bind (RFC 4513 5.1.2)");
        return None;
    }
    Some(content)
}

/// What clients of a listener have to show, from its file: 16 to 1,024 bytes, one trailing newline not counted.
pub fn token(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<Zeroizing<Vec<u8>>> {
    let content = one_line(p, folder, file, "the token file", "a token")?;
    if !(TOKEN_BYTES_MIN..=wire::rpc::TOKEN_BYTES_MAX).contains(&content.len()) {
        p.error(&file.place, "a token has 16 to 1,024 bytes")
            .label(format!("found {} in the file", content.len()))
            .help("make one with: head -c 32 /dev/urandom | base64 > FILE");
        return None;
    }
    Some(content)
}

/// A secret that is taken as the file has it, newline and all; not empty.
pub fn verbatim(
    p: &mut Problems,
    folder: &Folder,
    file: &At<String>,
    what: &str,
    secret: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let content = content(p, folder, file, what)?;
    warn_if_open(p, folder, file, secret);
    if content.is_empty() {
        p.error(&file.place, format!("{what} is empty"));
        return None;
    }
    Some(content)
}

pub(super) fn one_line(
    p: &mut Problems,
    folder: &Folder,
    file: &At<String>,
    what: &str,
    secret: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut content = content(p, folder, file, what)?;
    warn_if_open(p, folder, file, secret);
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    Some(content)
}

/// The certificates of a PEM file; at least one.
pub fn certificates(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<Vec<CertificateDer<'static>>> {
    let content = content(p, folder, file, "the certificate file")?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if !found.is_empty() => Some(found),
        Ok(_) => {
            p.error(
                &file.place,
                format!("no certificate in {}", folder.path(&file.value).display()),
            )
            .help("it must hold PEM: -----BEGIN CERTIFICATE-----");
            None
        }
        Err(error) => {
            p.error(
                &file.place,
                format!("{} is not PEM", folder.path(&file.value).display()),
            )
            .label(error.to_string());
            None
        }
    }
}

/// The certificate chain and the key of one side, which must belong together. Gives a hash of both files.
pub fn identity(p: &mut Problems, folder: &Folder, cert: &At<String>, key: &At<String>) -> Option<u64> {
    let chain = certificates(p, folder, cert);
    let private = private_key(p, folder, key);
    let (chain, private) = (chain?, private?);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signing = match provider.key_provider.load_private_key(private) {
        Ok(signing) => signing,
        Err(error) => {
            p.error(
                &key.place,
                format!("the key in {} cannot be used", folder.path(&key.value).display()),
            )
            .label(error.to_string());
            return None;
        }
    };
    match rustls::sign::CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            p.error(&key.place, "the key does not belong to the certificate")
                .label("this key")
                .also(&cert.place, "this certificate")
                .help("the first certificate in the file must be the one the key was made for");
            return None;
        }
        Err(error) => {
            p.error(
                &cert.place,
                format!(
                    "the certificate in {} cannot be used",
                    folder.path(&cert.value).display()
                ),
            )
            .label(error.to_string());
            return None;
        }
    }
    Some(stamp(&[&folder.path(&cert.value), &folder.path(&key.value)]))
}

/// One number for the content of some files; it changes when one of them does.
pub fn stamp(files: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file)
            .map(Zeroizing::new)
            .ok()
            .as_deref()
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// Modification time (nanoseconds since 1970) and length of a readable file, by which a reload notices a changed one.
pub fn version(p: &mut Problems, folder: &Folder, file: &At<String>, what: &str) -> Option<(u64, u64)> {
    let path = folder.path(&file.value);
    let opened = std::fs::File::open(&path).and_then(|opened| opened.metadata());
    let failure = match opened {
        Ok(metadata) if metadata.is_file() => {
            return Some(stamp_of(&metadata));
        }
        Ok(_) => "it is not a file".to_owned(),
        Err(error) => plain(&error),
    };
    p.error(&file.place, format!("{what} {} cannot be read", path.display()))
        .label(failure);
    None
}

/// What a file's content is known by: when it was modified (nanoseconds since 1970), and its length.
pub type Stamp = (u64, u64);

/// A file's stamp.
pub fn stamp_of(metadata: &std::fs::Metadata) -> Stamp {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    (modified, metadata.len())
}

/// Whether an LDIF file would be served: it is read whole, because a mistake in it should not wait for the start.
pub fn ldif(p: &mut Problems, folder: &Folder, file: &At<String>, base: Option<&str>) -> Option<()> {
    let path = folder.path(&file.value);
    let failure = match std::fs::read(&path) {
        Ok(content) => match engine::directory::Directory::load(&content, &path.display().to_string(), base, 0) {
            Ok(_) => return Some(()),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("{}: {}", path.display(), plain(&error)),
    };
    p.error(&file.place, "the LDIF file cannot be served").label(failure);
    None
}

/// An operating system's error without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Where a program is: an absolute path, a path relative to the configuration, or a name on PATH.
pub fn program(p: &mut Problems, folder: &Folder, name: &At<String>) -> Option<PathBuf> {
    let executable = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if !name.value.contains('/') {
        let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let found = std::env::split_paths(&search)
            .map(|dir| dir.join(&name.value))
            .find(|path| executable(path));
        if found.is_none() {
            p.error(&name.place, format!("the program `{}` is not on PATH", name.value))
                .help("write its path: program = [\"/usr/bin/…\"]");
        }
        return found;
    }
    let path = folder.path(&name.value);
    match std::fs::metadata(&path) {
        Ok(_) if executable(&path) => return Some(path),
        Ok(found) if found.is_file() => {
            p.error(&name.place, format!("the program {} is not executable", path.display()))
                .label(format!("its mode is {:04o}", found.mode() & 0o7777))
                .help(format!("chmod +x {}", path.display()));
        }
        Ok(_) => {
            p.error(&name.place, format!("the program {} is not a file", path.display()));
        }
        Err(error) => {
            p.error(&name.place, format!("the program {} cannot be found", path.display()))
                .label(plain(&error));
        }
    }
    None
}

fn private_key(p: &mut Problems, folder: &Folder, file: &At<String>) -> Option<PrivateKeyDer<'static>> {
    let content = content(p, folder, file, "the key file")?;
    warn_if_open(p, folder, file, "a private key");
    match PrivateKeyDer::from_pem_slice(&content) {
        Ok(key) => Some(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            let encrypted = content.windows(9).any(|window| window == b"ENCRYPTED");
            let help = if encrypted {
                "a key with a passphrase cannot be used"
            } else {
                "-----BEGIN PRIVATE KEY-----"
            };
            p.error(
                &file.place,
                format!("no private key in {}", folder.path(&file.value).display()),
            )
            .help(format!("it must hold PEM: {help}"));
            None
        }
        Err(error) => {
            p.error(
                &file.place,
                format!("{} is not PEM", folder.path(&file.value).display()),
            )
            .label(error.to_string());
            None
        }
    }
}

pub(super) fn content(p: &mut Problems, folder: &Folder, file: &At<String>, what: &str) -> Option<Zeroizing<Vec<u8>>> {
    let path = folder.path(&file.value);
    let mut content = Zeroizing::new(Vec::new());
    let failure = match std::fs::File::open(&path) {
        Ok(opened) => match opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut content) {
            Ok(read) if read as u64 <= FILE_BYTES_MAX => return Some(content),
            Ok(_) => "it has more than 8 MiB".to_owned(),
            Err(error) => plain(&error),
        },
        Err(error) => plain(&error),
    };
    p.error(&file.place, format!("{what} {} cannot be read", path.display()))
        .label(failure);
    None
}

pub(super) fn warn_if_open(p: &mut Problems, folder: &Folder, file: &At<String>, what: &str) {
    let path = folder.path(&file.value);
    let Ok(metadata) = std::fs::metadata(&path) else { return };
    let mode = metadata.mode();
    if mode & 0o007 != 0 {
        p.warning(
            &file.place,
            format!("everyone on this machine may read {}", path.display()),
        )
        .label(format!("it holds {what}, and its mode is {:04o}", mode & 0o7777))
        .help(format!("chmod 0600 {}", path.display()));
    }
}

/// An empty place for values that no file names.
pub fn nowhere<T>(value: T) -> At<T> {
    At::new(value, Place::Nowhere)
}
