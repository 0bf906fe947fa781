//! A Kerberos realm of its own: a KDC (MIT's) on a loopback port that the kernel chose, with its database and `krb5.conf` in a folder.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::proc::{Folder, Process, free_port, run_with, shown, wait_for};

/// The principal of a directory server here: it is named by its address, so that whoever asks DNS for another name finds none.
pub(crate) const SERVICE: &str = "ldap/127.0.0.1";

/// See the module.
pub(crate) struct Realm {
    pub(crate) folder: Folder,
    name: &'static str,
    port: u16,
    kdc: Process,
}

impl Realm {
    /// One with the principals `usherd` and [`SERVICE`], their keys in `usherd.keytab` and `ldap.keytab`; in `old.keytab` is a key
    /// that `usherd` had before.
    pub(crate) fn start(name: &'static str) -> Realm {
        let (folder, port) = (Folder::new("kerberos"), free_port());
        let file = |name: &str| folder.file(name);
        folder.write("krb5.conf", krb5_conf(&[(name, port)], ""));
        folder.write(
            "server.conf",
            krb5_conf(&[(name, port)], "ignore_acceptor_hostname = true"),
        );
        folder.write(
            "kdc.conf",
            format!(
                "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n{name} = {{\n\
                 database_name = {}\nkey_stash_file = {}\nacl_file = {}\n}}\n[logging]\nkdc = FILE:{}\nadmin_server = FILE:{}\n",
                file("principals"),
                file("stash"),
                file("acl"),
                file("kdc.log"),
                file("admin.log"),
            ),
        );
        let create = ["-r", name, "create", "-s", "-P", "of the master key"];
        let output = run_with(
            "/usr/sbin/kdb5_util",
            &create,
            &environment(&folder),
            Duration::from_secs(60),
        );
        assert!(output.status.success(), "kdb5_util: {}", shown(&output));
        let words = [
            "/usr/bin/env".to_owned(),
            format!("KRB5_CONFIG={}", file("krb5.conf")),
            format!("KRB5_KDC_PROFILE={}", file("kdc.conf")),
            "/usr/sbin/krb5kdc".to_owned(),
            "-n".to_owned(),
            "-r".to_owned(),
            name.to_owned(),
        ];
        crate::proc::require("/usr/sbin/krb5kdc");
        let kdc = Process::start(&words[0], &words[1..], &folder.path().join("log"));
        let realm = Realm {
            folder,
            name,
            port,
            kdc,
        };
        realm.admin("addprinc -randkey usherd");
        realm.admin(&format!("addprinc -randkey {SERVICE}"));
        realm.keytab("usherd", "old.keytab");
        realm.keytab("usherd", "usherd.keytab");
        realm.keytab(SERVICE, "ldap.keytab");
        wait_for("the KDC listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        realm
    }

    /// A command of kadmin, at the database itself.
    pub(crate) fn admin(&self, command: &str) {
        let args = ["-r", self.name, "-q", command];
        let output = run_with(
            "/usr/sbin/kadmin.local",
            &args,
            &environment(&self.folder),
            Duration::from_secs(60),
        );
        let said = shown(&output);
        assert!(output.status.success() && !said.contains("while "), "{command}: {said}");
    }

    /// A new key for a principal, and nothing else in that keytab.
    pub(crate) fn keytab(&self, principal: &str, file: &str) {
        let path = self.folder.file(file);
        let _ = fs::remove_file(&path);
        self.admin(&format!("ktadd -k {path} {principal}"));
    }

    /// Tickets of `usherd` in a file, for so long; by a program that is no part of usherd.
    pub(crate) fn kinit(&self, file: &str, lifetime: &str) {
        let (keytab, cache) = (self.folder.file("usherd.keytab"), self.folder.file(file));
        let args = ["-l", lifetime, "-k", "-t", &keytab, "-c", &cache, "usherd"];
        let output = run_with(
            "/usr/bin/kinit",
            &args,
            &environment(&self.folder),
            Duration::from_secs(20),
        );
        assert!(output.status.success(), "kinit: {}", shown(&output));
    }

    /// What a client of this realm has in its environment.
    pub(crate) fn client(&self) -> String {
        format!("KRB5_CONFIG={}", self.folder.file("krb5.conf"))
    }

    /// What slapd has.
    pub(crate) fn server(&self) -> [String; 3] {
        [
            format!("KRB5_CONFIG={}", self.folder.file("server.conf")),
            format!("KRB5_KTNAME=FILE:{}", self.folder.file("ldap.keytab")),
            // Its memory of what it has seen belongs to the folder, too.
            format!("KRB5RCACHENAME=dfl:{}", self.folder.file("replay")),
        ]
    }

    /// A `krb5.conf` that knows this realm and another one.
    pub(crate) fn beside(&self, other: &Realm) -> String {
        let both = krb5_conf(&[(self.name, self.port), (other.name, other.port)], "");
        format!("KRB5_CONFIG={}", self.folder.write("both.conf", both))
    }

    /// SIGSTOP: packets are taken by the kernel, and nobody answers.
    pub(crate) fn freeze(&self) {
        self.kdc.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.kdc.signal("CONT");
    }
}

fn environment(folder: &Folder) -> [(&'static str, &'static str); 2] {
    // Environments of commands live as long as the run of the tests.
    let leaked = |name: &str| -> &'static str { folder.file(name).leak() };
    [
        ("KRB5_CONFIG", leaked("krb5.conf")),
        ("KRB5_KDC_PROFILE", leaked("kdc.conf")),
    ]
}

/// The first realm is the default.
fn krb5_conf(realms: &[(&str, u16)], more: &str) -> String {
    let default = realms[0].0;
    let mut text = format!(
        "[libdefaults]\ndefault_realm = {default}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n{more}\n[realms]\n"
    );
    for (name, port) in realms {
        let _ = writeln!(text, "{name} = {{\nkdc = 127.0.0.1:{port}\n}}");
    }
    text
}
