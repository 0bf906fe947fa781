//! Certificates for one run: an authority, a server it vouches for, and a stranger's authority.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::proc::{Folder, run, shown};

/// Paths of PEM files.
pub(crate) struct Certificates {
    folder: Folder,
}

impl Certificates {
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// An authority that vouches for nobody here.
    pub(crate) fn other_ca(&self) -> PathBuf {
        self.folder.path().join("other.crt")
    }

    /// Of `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> (PathBuf, PathBuf) {
        self.pair("server")
    }

    /// A second certificate of the same names, for reloads.
    pub(crate) fn renewed(&self) -> (PathBuf, PathBuf) {
        self.pair("renewed")
    }

    /// Lists of what the authority has revoked; empty at first.
    pub(crate) fn lists(&self, name: &str) -> Lists<'_> {
        let file = |kind: &str| path(self.folder.path(), name, kind);
        std::fs::write(file("index"), "").expect("a file");
        // With numbers they are of version 2, which rustls asks for.
        std::fs::write(file("number"), "01\n").expect("a file");
        let settings = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {}\ndefault_md = sha256\ndefault_crl_days = 2\ncrlnumber = {}\n",
            file("index"),
            file("number")
        );
        std::fs::write(file("cnf"), settings).expect("a file");
        Lists {
            folder: self.folder.path(),
            name: name.to_owned(),
        }
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        (
            self.folder.path().join(format!("{name}.crt")),
            self.folder.path().join(format!("{name}.key")),
        )
    }
}

/// What an authority has revoked.
pub(crate) struct Lists<'a> {
    folder: &'a Path,
    name: String,
}

impl Lists<'_> {
    pub(crate) fn revoke(&mut self, certificate: &Path) {
        let certificate = certificate.display().to_string();
        self.authority(&["-revoke", &certificate]);
    }

    /// The list as PEM.
    pub(crate) fn text(&self) -> String {
        let out = path(self.folder, &self.name, "pem");
        self.authority(&["-gencrl", "-out", &out]);
        std::fs::read_to_string(out).expect("a list")
    }

    fn authority(&self, args: &[&str]) {
        let settings = path(self.folder, &self.name, "cnf");
        let (ca, key) = (path(self.folder, "ca", "crt"), path(self.folder, "ca", "key"));
        let common = ["ca", "-config", &settings, "-keyfile", &key, "-cert", &ca];
        openssl(&[&common[..], args].concat());
    }
}

/// Made once per run.
pub(crate) fn certificates() -> &'static Certificates {
    static MADE: LazyLock<Certificates> = LazyLock::new(|| {
        let folder = Folder::new("certificates");
        authority(folder.path(), "ca", "/CN=usherd test authority");
        authority(folder.path(), "other", "/CN=an unrelated authority");
        server(folder.path(), "server");
        server(folder.path(), "renewed");
        Certificates { folder }
    });
    &MADE
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn authority(folder: &Path, name: &str, subject: &str) {
    let (key, certificate) = (path(folder, name, "key"), path(folder, name, "crt"));
    let mut args = vec![
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        subject,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    args.extend(KEY);
    openssl(&args);
}

fn server(folder: &Path, name: &str) {
    let (key, certificate, request) = (
        path(folder, name, "key"),
        path(folder, name, "crt"),
        path(folder, name, "csr"),
    );
    let mut args = vec!["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request];
    args.extend(KEY);
    openssl(&args);
    let extensions = path(folder, name, "ext");
    std::fs::write(
        &extensions,
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    )
    .expect("a file");
    let (ca, ca_key) = (path(folder, "ca", "crt"), path(folder, "ca", "key"));
    let sign = [
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
    ];
    openssl(&[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat());
}

fn path(folder: &Path, name: &str, kind: &str) -> String {
    folder
        .join(format!("{name}.{kind}"))
        .to_str()
        .expect("temporary paths are UTF-8")
        .to_owned()
}

fn openssl(args: &[&str]) {
    let output = run("/usr/bin/openssl", args, Duration::from_secs(20));
    assert!(output.status.success(), "openssl {args:?}: {}", shown(&output));
}
