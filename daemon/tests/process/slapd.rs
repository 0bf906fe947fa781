//! slapd, the real peer: mdb, 10,000 users, made once per run and copied for each server.
//!
//! The data: `uid=userN,ou=people` (N from 1 to [`USERS`]) with password `password-N` and `description: token-N`, by
//! which an answer says whose it is; groups; `ou=photos` with large values; `ou=elsewhere`, a referral; `ou=secret`, which
//! only user1 may read; `cn=editor`, who may write everywhere; `cn=usherd`, who may act for everyone (RFC 4370). Below
//! `ou=codes` names answer with a code, or late (slapo-retcode): that is how slow and failing operations are had at will.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::certificates::certificates;
use crate::client::{Client, Target};
use crate::kerberos::Realm;
use crate::ops;
use crate::proc::{Folder, Process, free_port, run, shown, wait_for};

pub(crate) const USERS: usize = 10_000;
pub(crate) const BASE: &str = "dc=example,dc=com";
pub(crate) const PEOPLE: &str = "ou=people,dc=example,dc=com";
pub(crate) const ADMIN: (&str, &str) = ("cn=admin,dc=example,dc=com", "admin-password");
pub(crate) const EDITOR: (&str, &str) = ("cn=editor,dc=example,dc=com", "editor-password");
pub(crate) const USHERD: (&str, &str) = ("cn=usherd,dc=example,dc=com", "usherd-password");

pub(crate) fn user(number: usize) -> String {
    format!("uid=user{number},{PEOPLE}")
}

pub(crate) fn password(number: usize) -> String {
    format!("password-{number}")
}

/// A name under which slapd answers `code` after `seconds`, of those in [`codes`].
pub(crate) fn code_dn(name: &str) -> String {
    format!("cn={name},ou=codes,{BASE}")
}

/// One server. Its ports and data stay the same over [`Slapd::restart`].
pub(crate) struct Slapd {
    folder: Folder,
    port: u16,
    tls_port: u16,
    /// A third one, on which every connection begins with a PROXY header; 0: there is none.
    proxied_port: u16,
    /// What it has in its environment beside what these tests have.
    environment: Vec<String>,
    process: Process,
}

impl Slapd {
    /// Its process, of which memory can be asked.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// A server of its own, ready to answer.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// A server with more lines in its database section.
    pub(crate) fn with(database: &str) -> Self {
        let slapd = Self::launch(free_port(), free_port(), 0, database);
        slapd.until_ready();
        slapd
    }

    /// A server of a Kerberos realm, with more lines in its database section.
    pub(crate) fn of_realm(realm: &Realm, database: &str) -> Self {
        let mut slapd = Self::launch(free_port(), free_port(), 0, database);
        slapd.environment = realm.server().to_vec();
        slapd.revive();
        slapd
    }

    /// A server that knows no TLS at all.
    pub(crate) fn without_tls() -> Self {
        Self::without("TLS")
    }

    /// A server that may be killed and still tells its consumers of every delete: one with a session log believes after a
    /// `kill -9` that the log, which is empty then, reaches back to its last orderly end.
    pub(crate) fn without_session_log() -> Self {
        Self::without("syncprov-sessionlog")
    }

    /// A server that also takes PROXY headers of version 2, and whose log says where its clients come from.
    pub(crate) fn behind_headers() -> Self {
        let mut slapd = Self::launch(free_port(), free_port(), 0, "");
        slapd.proxied_port = free_port();
        slapd.revive();
        slapd
    }

    /// A server without the settings that begin so.
    fn without(prefix: &str) -> Self {
        let mut slapd = Self::launch(free_port(), free_port(), 0, "");
        slapd.until_ready();
        let path = slapd.folder.path().join("slapd.conf");
        let text = fs::read_to_string(&path).expect("just written");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(prefix)).collect();
        assert!(lines.len() < text.lines().count(), "no setting begins with {prefix}");
        fs::write(&path, lines.join("\n") + "\n").expect("a file");
        slapd.restart();
        slapd.until_ready();
        slapd
    }

    /// Two servers that pass each other every change (syncrepl, mirror mode).
    pub(crate) fn mirror() -> [Self; 2] {
        let ports = [free_port(), free_port()];
        let one = |own: usize, other: usize| {
            let (dn, password) = ADMIN;
            let lines = format!(
                "syncrepl rid=00{own} provider=ldap://127.0.0.1:{port} type=refreshAndPersist retry=\"1 +\" \
                 searchbase=\"{BASE}\" bindmethod=simple binddn=\"{dn}\" credentials={password} keepalive=1:3:1\n\
                 multiprovider on\n",
                port = ports[other],
            );
            Self::launch(ports[own], free_port(), own + 1, &lines)
        };
        let pair = [one(0, 1), one(1, 0)];
        pair.iter().for_each(Self::until_ready);
        pair
    }

    fn launch(port: u16, tls_port: u16, server_id: usize, database: &str) -> Self {
        let folder = Folder::new("slapd");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder");
        copy_sparse(&template().path().join("data/data.mdb"), &data.join("data.mdb"));
        folder.write("slapd.conf", configuration(&folder, server_id, port, database));
        let process = Self::spawn(&folder, port, tls_port, 0, &[]);
        Self {
            folder,
            port,
            tls_port,
            proxied_port: 0,
            environment: Vec::new(),
            process,
        }
    }

    fn spawn(folder: &Folder, port: u16, tls_port: u16, proxied_port: u16, environment: &[String]) -> Process {
        let socket = folder.file("ldapi").replace('/', "%2F");
        let mut urls = format!("ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port} ldapi://{socket}");
        let mut level = std::env::var("USHERD_TEST_SLAPD_LOG").unwrap_or_else(|_| "0".to_owned());
        if proxied_port > 0 {
            let _ = write!(urls, " pldap://127.0.0.1:{proxied_port}");
            "stats".clone_into(&mut level);
        }
        let configuration = folder.file("slapd.conf");
        crate::proc::require("/usr/sbin/slapd");
        let environment = environment.iter().map(String::as_str);
        let program = ["/usr/sbin/slapd", "-d", &level, "-h", &urls, "-f", &configuration];
        let words: Vec<&str> = environment.chain(program).collect();
        Process::start("/usr/bin/env", &words, &folder.path().join("log"))
    }

    fn until_ready(&self) {
        let name = || format!("slapd answers on port {}\n{}", self.port, self.process.output());
        let op = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
        let answers = || Client::try_connect(&self.plain()).ok()?.try_call(&op).ok();
        wait_for("slapd starts", Duration::from_secs(20), || {
            answers().or_else(|| {
                assert!(
                    self.process.output().is_empty() || !self.process.output().contains("slapd stopped"),
                    "{}",
                    name()
                );
                None
            })
        });
    }

    pub(crate) fn plain(&self) -> Target {
        Target::plain(self.port)
    }

    pub(crate) fn ldaps(&self) -> Target {
        Target::Ldaps(([127, 0, 0, 1], self.tls_port).into(), certificates().ca())
    }

    pub(crate) fn start_tls(&self) -> Target {
        Target::StartTls(([127, 0, 0, 1], self.port).into(), certificates().ca())
    }

    pub(crate) fn ldapi(&self) -> Target {
        Target::Unix(self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("ldapi")
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Of [`Slapd::behind_headers`].
    pub(crate) fn proxied_port(&self) -> u16 {
        self.proxied_port
    }

    /// Of [`Slapd::behind_headers`].
    pub(crate) fn proxied_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.proxied_port)
    }

    /// Under the name its certificate has.
    pub(crate) fn named_url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    pub(crate) fn ldaps_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    pub(crate) fn ldapi_url(&self) -> String {
        format!("ldapi://{}", self.folder.file("ldapi").replace('/', "%2F"))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM: it tells its clients, and ends.
    pub(crate) fn end(&mut self) {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(10));
    }

    /// Starts it again after a kill: same ports, same data. Does not wait.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let (ports, environment) = ((self.port, self.tls_port, self.proxied_port), &self.environment);
        self.process = Self::spawn(&self.folder, ports.0, ports.1, ports.2, environment);
    }

    /// Whether it has come to its end by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Starts it again and waits until it answers.
    pub(crate) fn revive(&mut self) {
        self.restart();
        self.until_ready();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub(crate) fn freeze(&self) {
        self.process.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.process.signal("CONT");
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.process.output();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- slapd on {} said last:", self.port);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Names below `ou=codes`: (name, code, seconds to wait, rest of the retcode-item line).
fn codes() -> Vec<(&'static str, u32, u32, String)> {
    vec![
        ("slow1", 0, 1, String::new()),
        ("slow2", 0, 2, String::new()),
        ("slow3", 0, 3, String::new()),
        ("slow6", 0, 6, String::new()),
        ("slowbad", 49, 1, String::new()),
        ("busy", 51, 0, "text=\"try again\"".to_owned()),
        ("unavailable", 52, 0, "text=\"shut down\"".to_owned()),
        ("unwilling", 53, 0, "text=\"not today\"".to_owned()),
        ("other", 80, 0, "text=\"it broke\"".to_owned()),
        ("loop", 54, 0, format!("matched=\"{BASE}\" text=\"round and round\"")),
        (
            "referred",
            10,
            0,
            "ref=\"ldap://elsewhere.example.com/dc=example\"".to_owned(),
        ),
        ("severed", 0, 0, "flags=pre-disconnect".to_owned()),
    ]
}

fn configuration(folder: &Folder, server_id: usize, port: u16, database: &str) -> String {
    let (certificate, key) = certificates().server();
    let mut text = String::new();
    for schema in ["core", "cosine", "inetorgperson", "nis"] {
        let _ = writeln!(text, "include /etc/ldap/schema/{schema}.schema");
    }
    let _ = writeln!(
        text,
        "modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload syncprov\nmoduleload retcode\nmoduleload sssvlv\nallow bind_v2\n\
         TLSCACertificateFile {ca}\nTLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n\
         authz-policy to\nsizelimit unlimited\ntimelimit unlimited\npassword-hash {{CLEARTEXT}}",
        ca = certificates().ca().display(),
        certificate = certificate.display(),
        key = key.display(),
    );
    if server_id > 0 {
        let _ = writeln!(text, "serverID {server_id}");
    }
    let _ = writeln!(
        text,
        "database mdb\nsuffix \"{BASE}\"\nrootdn \"{}\"\nrootpw {}\ndirectory {}\nmaxsize 1073741824\ndbnosync\n\
         index objectClass,uid,cn,sn,mail,memberUid,uidNumber,entryUUID,entryCSN eq\n\
         access to attrs=userPassword by self write by dn.exact=\"{editor}\" write by anonymous auth by * none\n\
         access to dn.subtree=\"ou=secret,{BASE}\" by dn.exact=\"{first}\" read by * none\n\
         access to attrs=authzTo by * auth\n\
         access to * by self write by dn.exact=\"{editor}\" write by * read",
        ADMIN.0,
        ADMIN.1,
        folder.path().join("data").display(),
        editor = EDITOR.0,
        first = user(1),
    );
    text.push_str(database);
    let _ = writeln!(
        text,
        "overlay syncprov\nsyncprov-sessionlog 10000\nsyncprov-reloadhint TRUE\noverlay retcode\nretcode-parent \"ou=codes,{BASE}\""
    );
    for (name, code, seconds, rest) in codes() {
        let sleep = if seconds > 0 {
            format!("sleeptime={seconds}")
        } else {
            String::new()
        };
        let _ = writeln!(text, "retcode-item \"cn={name}\" {code:#04x} {sleep} {rest}");
    }
    // Which server answered: its port is the diagnostic message.
    let _ = writeln!(text, "retcode-item \"cn=which\" 0x20 text=\"{port}\"");
    text
}

/// Of the file's gigabyte (`maxsize`) a twentieth is there. A plain copy would write the rest as zeros, for each server.
fn copy_sparse(from: &Path, to: &Path) {
    let [from, to] = [from, to].map(|path| path.to_str().expect("temporary paths are UTF-8"));
    let output = run("/bin/cp", &["--sparse=always", from, to], Duration::from_secs(60));
    assert!(
        output.status.success(),
        "the template can be copied: {}",
        shown(&output)
    );
    let copy = fs::metadata(to).expect("it is there");
    let (there, said) = (copy.blocks() * 512, copy.len());
    assert!(there < said / 4, "{there} bytes on the disk for a file of {said}");
}

/// The database that every server is a copy of.
fn template() -> &'static Folder {
    static MADE: LazyLock<Folder> = LazyLock::new(|| {
        let folder = Folder::new("template");
        fs::create_dir(folder.path().join("data")).expect("a folder");
        let configuration = folder.write("slapd.conf", configuration(&folder, 0, 0, ""));
        let data = folder.write("data.ldif", ldif());
        let args = ["-q", "-w", "-f", &configuration, "-l", &data];
        let output = run("/usr/sbin/slapadd", &args, Duration::from_secs(120));
        assert!(output.status.success(), "slapadd: {}", shown(&output));
        folder
    });
    &MADE
}

/// All entries, as LDIF; parents first.
pub(crate) fn ldif() -> String {
    let mut text = format!(
        "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
         dn: {usherd}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: usherd\n\
         userPassword: {usherd_password}\nauthzTo: dn.subtree:{BASE}\n\n\
         dn: {editor}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: editor\n\
         userPassword: {editor_password}\n\n\
         dn: ou=elsewhere,{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n\
         ref: ldap://elsewhere.example.com/ou=elsewhere,{BASE}\n\n\
         dn: ou=secret,{BASE}\nobjectClass: organizationalUnit\nou: secret\ndescription: only for user1\n\n",
        usherd = USHERD.0,
        usherd_password = USHERD.1,
        editor = EDITOR.0,
        editor_password = EDITOR.1,
    );
    for unit in ["people", "groups", "photos", "scratch"] {
        let _ = write!(
            text,
            "dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n\n"
        );
    }
    for number in 1..=USERS {
        let _ = write!(
            text,
            "dn: {dn}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: user{number}\ncn: User {number}\n\
             sn: Surname{group}\ngivenName: Given{number}\nmail: user{number}@example.com\nuidNumber: {uid}\n\
             gidNumber: {gid}\nhomeDirectory: /home/user{number}\ndescription: token-{number}\n\
             telephoneNumber: +1 555 {number:05}\nuserPassword: {password}\n\n",
            dn = user(number),
            group = number % 100,
            uid = 10_000 + number,
            gid = 20_000 + number % 50,
            password = password(number),
        );
    }
    for group in 0..50 {
        let _ = write!(
            text,
            "dn: cn=group{group},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: group{group}\ngidNumber: {}\n",
            20_000 + group
        );
        (1..=200).for_each(|step| _ = writeln!(text, "memberUid: user{}", (group + step * 50 - 1) % USERS + 1));
        text.push('\n');
    }
    for photo in 0..PHOTOS {
        let _ = write!(
            text,
            "dn: uid=photo{photo},ou=photos,{BASE}\nobjectClass: inetOrgPerson\nuid: photo{photo}\ncn: Photo {photo}\nsn: Photo\n\
             jpegPhoto:: {}\n\n",
            "QUJD".repeat(PHOTO_BYTES / 3),
        );
    }
    text
}

/// Large values: one search of `ou=photos` brings `PHOTOS * PHOTO_BYTES` octets.
pub(crate) const PHOTOS: usize = 160;
pub(crate) const PHOTO_BYTES: usize = 64 * 1024 / 3 * 3;
