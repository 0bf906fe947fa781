//! Sinks of a feed: what was written, checked for its kind, with the files it names.

use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::check_tls;
use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::plan::TlsClient;
use super::raw_sink::{Family, Sink, Type};
use super::values;
use crate::feed::sink::{
    Acknowledge, CommandPlan, FilePlan, LeasePlan, NatsAuthentication, NatsPlan, PythonAddress, PythonPlan, SinkKind,
    SinkPlan, SocketPlace, SocketPlan, Storage, Timeouts, WebhookFormat, WebhookPlan,
};

/// Settings of every sink.
const COMMON: [&str; 5] = [
    "type",
    "connect_timeout",
    "handshake_timeout",
    "deliver_timeout",
    "grace",
];
const LEASE_TTL: Duration = Duration::from_secs(5);
const NATS_PORT: u16 = 4222;

/// The settings that a kind of sink knows beside [`COMMON`].
fn own(kind: Type) -> &'static [&'static str] {
    match kind {
        Type::Ndjson => &[],
        Type::File => &["path", "fsync", "rotate_size", "rotate_age", "rotate_keep"],
        Type::Command => &["program", "ack", "directory", "environment"],
        Type::Python => &["address", "family", "authkey_file", "ack"],
        Type::Socket => &["address", "tls", "ack"],
        Type::Webhook => &["url", "tls", "format", "signature_file", "token_file"],
        Type::Nats => &[
            "url",
            "tls",
            "stream",
            "subject",
            "create",
            "replicas",
            "storage",
            "stream_bytes_max",
            "stream_age_max",
            "lease",
            "lease_ttl",
            "credentials_file",
            "token_file",
            "user",
            "password_file",
        ],
    }
}

fn word(kind: Type) -> &'static str {
    let known = super::raw_sink::TYPES.iter().find(|(_, known)| *known == kind);
    known.map_or("", |(word, _)| word)
}

/// The plan of a sink, or nothing after saying what is wrong.
pub fn check(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<SinkPlan> {
    let Some(kind) = raw.kind.as_ref().map(|at| at.value) else {
        if p.absent(&raw.place, "type") {
            let words: Vec<_> = super::raw_sink::TYPES
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            p.error(&raw.place, "the sink has no `type`")
                .help(format!("it may be {}", words.join(", ")));
        }
        return None;
    };
    for (key, place) in &raw.written {
        if !COMMON.contains(key) && !own(kind).contains(key) {
            p.error(place, format!("`{key}` is not a setting of the sink `{}`", word(kind)))
                .help(
                    format!("it knows {}, {}", own(kind).join(", "), COMMON.join(", ")).replace("knows , ", "knows "),
                );
        }
    }
    let length =
        |at: &Option<At<Duration>>, default: u64| at.as_ref().map_or(Duration::from_secs(default), |at| at.value);
    let timeouts = Timeouts {
        connect: length(&raw.connect_timeout, 5),
        handshake: length(&raw.handshake_timeout, 10),
        deliver: length(&raw.deliver_timeout, 30),
        grace: length(&raw.grace, 5),
    };
    let kind = match kind {
        Type::Ndjson => SinkKind::Ndjson,
        Type::File => SinkKind::File(file(p, raw, folder)?),
        Type::Command => SinkKind::Command(command(p, raw, folder)?),
        Type::Python => SinkKind::Python(python(p, raw, folder)?),
        Type::Socket => SinkKind::Socket(socket(p, raw, folder)?),
        Type::Webhook => SinkKind::Webhook(webhook(p, raw, folder)?),
        Type::Nats => SinkKind::Nats(nats(p, raw, folder)?),
    };
    Some(SinkPlan { timeouts, kind })
}

/// What must be written, or a mistake that says how.
fn needed<'a, T>(p: &mut Problems, raw: &Sink, key: &str, value: &'a Option<At<T>>, right: &str) -> Option<&'a At<T>> {
    if value.is_none() && p.absent(&raw.place, key) {
        p.error(&raw.place, format!("the sink has no `{key}`")).help(right);
    }
    value.as_ref()
}

fn acknowledge(raw: &Sink, default: bool) -> Acknowledge {
    if raw.ack.as_ref().map_or(default, |at| at.value) {
        Acknowledge::Yes
    } else {
        Acknowledge::No
    }
}

fn file(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<FilePlan> {
    let path = needed(
        p,
        raw,
        "path",
        &raw.path,
        "write path = \"/var/log/usherd/people.ndjson\"",
    )?;
    let whole = folder.path(&path.value);
    if path.value.is_empty() || path.value.ends_with('/') || whole.is_dir() {
        p.error(&path.place, "`path` names a folder and not a file")
            .label(format!("found \"{}\"", path.value));
        return None;
    }
    if let Some(parent) = whole.parent().filter(|parent| !parent.is_dir()) {
        p.error(&path.place, format!("there is no folder {}", parent.display()))
            .help("make it first, with the right owner");
        return None;
    }
    Some(FilePlan {
        path: whole,
        fsync: raw.fsync.as_ref().is_none_or(|at| at.value),
        rotate_bytes: raw.rotate_size.as_ref().map_or(0, |at| at.value as u64),
        rotate_age: raw.rotate_age.as_ref().map_or(Duration::ZERO, |at| at.value),
        keep: raw.rotate_keep.as_ref().map_or(5, |at| at.value),
    })
}

fn command(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<CommandPlan> {
    const RIGHT: &str = "write program = [\"/usr/local/bin/apply\", \"--now\"]: a list, because no shell reads it";
    let program = needed(p, raw, "program", &raw.program, RIGHT)?;
    let Some((first, arguments)) = program.value.split_first() else {
        p.error(&program.place, "`program` is an empty list").help(RIGHT);
        return None;
    };
    if let Some(argument) = program.value.iter().find(|argument| argument.value.contains('\0')) {
        p.error(&argument.place, "an argument cannot contain a zero byte");
        return None;
    }
    for (name, value) in &raw.environment {
        if name.value.is_empty() || name.value.contains(['=', '\0']) || value.value.contains('\0') {
            p.error(&name.place, "this cannot be a variable of the environment");
            return None;
        }
    }
    let path = files::program(p, folder, first)?;
    let directory = raw.directory.as_ref().map(|at| folder.path(&at.value));
    if let (Some(at), Some(path)) = (&raw.directory, directory.as_ref().filter(|path| !path.is_dir())) {
        p.error(&at.place, format!("there is no folder {}", path.display()));
        return None;
    }
    let mut whole = vec![path.to_str()?.to_owned()];
    whole.extend(arguments.iter().map(|argument| argument.value.clone()));
    let pairs = raw.environment.iter();
    Some(CommandPlan {
        program: whole,
        ack: acknowledge(raw, true),
        directory,
        environment: pairs
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect(),
    })
}

fn python(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<PythonPlan> {
    const RIGHT: &str = "write address = \"127.0.0.1:6000\", \"unix:/run/listener\", or \"unix:@NAME\"";
    let written = needed(p, raw, "address", &raw.address, RIGHT)?;
    let text = written.value.as_str();
    let family = raw.family.as_ref().map(|at| at.value);
    if family == Some(Family::Pipe) || text.starts_with("\\\\") {
        let place = raw.family.as_ref().map_or(&written.place, |at| &at.place);
        p.error(place, "AF_PIPE is an address of Windows, and there is none here")
            .help("use AF_INET (address = \"HOST:PORT\") or AF_UNIX (address = \"unix:PATH\")");
        return None;
    }
    let path = text
        .strip_prefix("unix:")
        .or_else(|| (family == Some(Family::Unix) || text.starts_with(['/', '@', '\0'])).then_some(text));
    let address = match path {
        Some(path) => {
            if family == Some(Family::Inet) {
                p.error(&written.place, "`address` is a unix socket, and `family` is AF_INET")
                    .help(RIGHT);
                return None;
            }
            match path.strip_prefix(['@', '\0']) {
                Some(name) if !name.is_empty() && name.len() <= values::UNIX_PATH_MAX => {
                    Ok(PythonAddress::Abstract(name.as_bytes().to_vec()))
                }
                Some(_) => Err(format!("an abstract name has 1 to {} bytes", values::UNIX_PATH_MAX)),
                None => values::unix_path(path).map(PythonAddress::Unix),
            }
        }
        None => values::host_and_port(text, None).map(|(host, port)| PythonAddress::Tcp(host, port)),
    };
    let address = told(p, written, address, RIGHT);
    let authkey = match &raw.authkey_file {
        None => Some(None),
        Some(file) => files::verbatim(p, folder, file, "the key file", "a key").map(Some),
    };
    Some(PythonPlan {
        address: address?,
        authkey: authkey?,
        ack: acknowledge(raw, false),
    })
}

/// A value, or the mistake told at its place.
fn told<T>(p: &mut Problems, written: &At<String>, value: Result<T, String>, right: &str) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(why) => {
            p.error(&written.place, format!("`{}` cannot be read", written.value))
                .label(why)
                .help(right);
            None
        }
    }
}

fn tls(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<TlsClient> {
    check_tls::client(p, raw.tls.as_ref(), folder)
}

fn socket(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<SocketPlan> {
    const RIGHT: &str = "write address = \"tcp:HOST:PORT\" or \"unix:PATH\"";
    let written = needed(p, raw, "address", &raw.address, RIGHT)?;
    let text = written.value.as_str();
    let place = match text.strip_prefix("unix:") {
        Some(path) => values::unix_path(path).map(SocketPlace::Unix),
        None => values::host_and_port(text.strip_prefix("tcp:").unwrap_or(text), None)
            .map(|(host, port)| SocketPlace::Tcp(host, port)),
    };
    let place = told(p, written, place, RIGHT)?;
    if let (Some(tls), SocketPlace::Unix(_)) = (&raw.tls, &place) {
        p.error(&tls.place, "a unix socket has no TLS").help("leave `tls` out");
        return None;
    }
    let tls = match &raw.tls {
        Some(_) => Some(tls(p, raw, folder)?),
        None => None,
    };
    Some(SocketPlan {
        place,
        tls,
        ack: acknowledge(raw, false),
    })
}

fn webhook(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<WebhookPlan> {
    const RIGHT: &str = "write url = \"https://HOST/PATH\"";
    let written = needed(p, raw, "url", &raw.url, RIGHT)?;
    let (secure, rest) = match (
        written.value.strip_prefix("https://"),
        written.value.strip_prefix("http://"),
    ) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return told(p, written, Err("it begins with https:// or http://".into()), RIGHT),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains('@') {
        p.error(&written.place, "a secret does not stand in a URL").secret = true;
        return None;
    }
    let path = if path.starts_with('?') {
        format!("/{path}")
    } else {
        path.to_owned()
    };
    let usable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let host = values::host_and_port(authority, Some(if secure { 443 } else { 80 }));
    let host = host.and_then(|host| {
        usable
            .then_some(host)
            .ok_or_else(|| "percent-encode what is in its path".into())
    });
    let (host, port) = told(p, written, host, RIGHT)?;
    if let (Some(tls), false) = (&raw.tls, secure) {
        p.error(&tls.place, "`tls` is for https")
            .help("write url = \"https://…\", or leave `tls` out");
        return None;
    }
    let tls = if secure { Some(tls(p, raw, folder)?) } else { None };
    if let (Some(file), false) = (&raw.token_file, secure) {
        p.warning(&file.place, "the token is sent in the clear")
            .help("use https");
    }
    let secret = |p: &mut Problems, file: &Option<At<String>>| match file {
        None => Some(None),
        Some(file) => files::secret(p, folder, file).map(Some),
    };
    let (signature, token) = (secret(p, &raw.signature_file), secret(p, &raw.token_file));
    Some(WebhookPlan {
        host,
        port,
        path,
        tls,
        secret: signature?,
        token: token?,
        format: raw.format.as_ref().map_or(WebhookFormat::Ndjson, |at| at.value),
    })
}

fn nats(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<NatsPlan> {
    const RIGHT: &str = "write url = \"nats://HOST:4222\", several with commas between them; tls:// for TLS";
    let written = needed(p, raw, "url", &raw.url, RIGHT)?;
    let mut servers = Vec::new();
    for url in written.value.split(',').map(str::trim) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let server = match scheme {
            "nats" | "tls" if rest.contains('@') => {
                p.error(&written.place, "a secret does not stand in a URL").secret = true;
                return None;
            }
            "nats" | "tls" => values::host_and_port(rest.trim_end_matches('/'), Some(NATS_PORT)),
            other => Err(format!("`{other}` is no scheme here")),
        };
        let (host, port) = told(p, written, server, RIGHT)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        servers.push(format!("{scheme}://{host}:{port}"));
    }
    if let Some(name) = raw.tls.as_ref().and_then(|tls| tls.server_name.as_ref()) {
        p.error(
            &name.place,
            "`server_name` is not for NATS: the name that is verified is the URL's",
        )
        .help("write the name of the certificate into `url`, and leave `server_name` out");
        return None;
    }
    let secure = servers.iter().any(|server| server.starts_with("tls:")) || raw.tls.is_some();
    let tls = if secure { Some(tls(p, raw, folder)?) } else { None };
    let names = [
        (&raw.stream, "a stream's name", false),
        (&raw.subject, "a subject", true),
        (&raw.lease, "a bucket's name", false),
    ];
    for (name, what, dots) in names {
        nats_name(p, name.as_ref(), what, dots)?;
    }
    if let (None, Some(ttl)) = (&raw.lease, &raw.lease_ttl) {
        p.error(&ttl.place, "`lease_ttl` is of a lease, and there is no `lease`")
            .help("write lease = \"BUCKET\" where several daemons share this feed; leave both out where one has it");
        return None;
    }
    let authentication = nats_authentication(p, raw, folder)?;
    Some(NatsPlan {
        servers,
        authentication,
        tls,
        stream: raw.stream.as_ref().map(|at| at.value.clone()),
        subject: raw.subject.as_ref().map(|at| at.value.clone()),
        create: raw.create.as_ref().is_none_or(|at| at.value),
        replicas: raw.replicas.as_ref().map_or(1, |at| at.value),
        storage: raw.storage.as_ref().map_or(Storage::File, |at| at.value),
        stream_bytes_max: raw.stream_bytes_max.as_ref().map_or(0, |at| at.value as u64),
        stream_age_max: raw.stream_age_max.as_ref().map_or(Duration::ZERO, |at| at.value),
        lease: raw.lease.as_ref().map(|bucket| LeasePlan {
            bucket: bucket.value.clone(),
            ttl: raw.lease_ttl.as_ref().map_or(LEASE_TTL, |at| at.value),
        }),
    })
}

/// Names of streams, buckets and subjects: what a server would refuse, refused here.
fn nats_name(p: &mut Problems, name: Option<&At<String>>, what: &str, dots: bool) -> Option<()> {
    let Some(name) = name else { return Some(()) };
    let sound = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let sound = if dots {
        name.value.split('.').all(sound)
    } else {
        sound(&name.value)
    };
    if !sound {
        p.error(&name.place, format!("this cannot be {what}"))
            .label(format!("found \"{}\"", name.value))
            .help("letters, digits, `-` and `_`; a subject has parts of these with dots between them");
    }
    sound.then_some(())
}

fn nats_authentication(p: &mut Problems, raw: &Sink, folder: &Folder) -> Option<NatsAuthentication> {
    let ways = [&raw.credentials_file, &raw.token_file, &raw.password_file];
    let mut written = ways.iter().filter_map(|way| way.as_ref());
    if let (Some(first), Some(second)) = (written.next(), written.next()) {
        p.error(&second.place, "one way to authenticate is enough")
            .also(&first.place, "the other");
        return None;
    }
    if raw.user.is_some() != raw.password_file.is_some() {
        let place = raw
            .user
            .as_ref()
            .or(raw.password_file.as_ref())
            .map_or(&raw.place, |at| &at.place);
        p.error(place, "`user` and `password_file` come together");
        return None;
    }
    if let Some(file) = &raw.credentials_file {
        let content = files::verbatim(p, folder, file, "the credentials file", "credentials")?;
        return Some(NatsAuthentication::Credentials(text(p, file, &content)?));
    }
    if let Some(file) = &raw.token_file {
        let content = files::secret(p, folder, file)?;
        return Some(NatsAuthentication::Token(text(p, file, &content)?));
    }
    if let (Some(user), Some(file)) = (&raw.user, &raw.password_file) {
        let content = files::secret(p, folder, file)?;
        return Some(NatsAuthentication::Password(
            user.value.clone(),
            text(p, file, &content)?,
        ));
    }
    Some(NatsAuthentication::None)
}

fn text(p: &mut Problems, file: &At<String>, content: &Zeroizing<Vec<u8>>) -> Option<Zeroizing<String>> {
    match std::str::from_utf8(content) {
        Ok(text) => Some(Zeroizing::new(text.to_owned())),
        Err(_) => {
            p.error(&file.place, "what the file holds is not text (UTF-8)");
            None
        }
    }
}

/// `--sink` of a command line: `ndjson`, `file:PATH`, `command:PROGRAM ARG…` (words between spaces; no shell),
/// `python:ADDRESS`, `unix:PATH`, `tcp:HOST:PORT`, `http(s)://…`, `nats://…`. Settings beside these are for a file.
pub fn one_line(p: &mut Problems, flag: &'static str, text: &str, authkey_file: Option<&str>) -> Option<SinkPlan> {
    let place = Place::Flag(flag);
    let at = |text: &str| Some(At::new(text.to_owned(), place.clone()));
    let mut raw = Sink::nothing(place.clone());
    let (head, rest) = text.split_once(':').unwrap_or((text, ""));
    let kind = match head {
        "ndjson" | "-" if rest.is_empty() => Type::Ndjson,
        "file" => {
            raw.path = at(rest);
            Type::File
        }
        "command" => {
            let words = rest
                .split_whitespace()
                .map(|word| At::new(word.to_owned(), place.clone()));
            raw.program = Some(At::new(words.collect(), place.clone()));
            Type::Command
        }
        "python" => {
            raw.address = at(rest);
            raw.authkey_file = authkey_file.and_then(at);
            Type::Python
        }
        "unix" | "tcp" => {
            raw.address = at(text);
            Type::Socket
        }
        "http" | "https" => {
            raw.url = at(text);
            Type::Webhook
        }
        "nats" | "tls" => {
            raw.url = at(text);
            Type::Nats
        }
        "redis" | "rediss" | "postgres" | "postgresql" => {
            p.error(&place, format!("a sink `{head}` is not in this version"));
            return None;
        }
        _ => {
            p.error(&place, format!("no sink is called `{head}`")).help(
                "it may be ndjson, file:PATH, command:PROGRAM ARG…, python:ADDRESS, unix:PATH, tcp:HOST:PORT, https://…, nats://…",
            );
            return None;
        }
    };
    raw.kind = Some(At::new(kind, place));
    check(p, &raw, &Folder::new(&PathBuf::new()))
}
