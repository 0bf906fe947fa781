//! `usherd check --probe`: asks each server in turn what the daemon will ask of it, and says what came of it.
//!
//! Connect, TLS, the daemon's own bind, the root entry, and the base. Blocking sockets, one server after the other, each
//! within its directory's `connect_timeout`. Nothing is changed on any server.

mod asker;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use wire::ldap::message::{self, oid};
use wire::proxy_header::{self, Ends};

use crate::config::Plan;
use crate::config::plan::{Directory, Identity, Target, TlsClient, Upstream, UpstreamTls};
use crate::config::srv::{self, Answers};
use crate::gssapi::Bounds;
use crate::net::dns::{Dns, Found};
use crate::net::resolve::Resolver;
use crate::net::tls;
use asker::Asker;

/// What came of one server.
pub(super) struct Probe {
    directory: String,
    server: String,
    /// What it offers, or why it cannot be used.
    pub outcome: Result<String, String>,
    took: Duration,
}

/// Whom names are asked of, and how much is asked of Kerberos.
struct Names {
    dns: Option<Dns>,
    gssapi: Bounds,
}

impl Names {
    fn new(plan: &Plan) -> Names {
        let mut directories = plan.directories.values();
        let wanted = !plan.server.dns.servers.is_empty() || directories.any(|one| !srv::services(one).is_empty());
        let start = || {
            let resolver = Resolver::start().ok()?;
            Dns::start(
                &plan.server.dns,
                resolver.system().clone(),
                Arc::clone(resolver.counts()),
            )
            .ok()
        };
        Names {
            dns: wanted.then(start).flatten(),
            gssapi: plan.server.gssapi,
        }
    }

    fn service(&self, name: &str) -> Result<Vec<Found>, String> {
        let dns = self.dns.as_ref().ok_or("there is no thread for DNS")?;
        let (own, name) = (dns.clone(), name.to_owned());
        let answer = dns.begin(async move { own.service(&name).await });
        answer.recv().map_err(|_| "it was not looked up".to_owned())?
    }

    fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        match &self.dns {
            Some(dns) if dns.is_for_addresses() && Resolver::literal(host, port).is_none() => {
                let (own, name) = (dns.clone(), host.to_owned());
                let answer = dns.begin(async move { own.addresses(&name, port).await });
                answer.recv().map_err(|_| "it was not looked up".to_owned())?
            }
            _ => (host, port)
                .to_socket_addrs()
                .map(Iterator::collect)
                .map_err(|error| format!("the name {host}: {error}")),
        }
    }
}

/// Probes every server of every directory, in turn, those that DNS names, too.
pub(super) fn all(plan: &Plan) -> Vec<Probe> {
    let names = Names::new(plan);
    let (mut probes, mut answers) = (Vec::new(), Answers::new());
    for directory in plan.directories.values() {
        for service in srv::services(directory) {
            let begun = Instant::now();
            let found = names.service(service);
            probes.push(Probe {
                directory: directory.name.clone(),
                server: service.to_owned(),
                outcome: found.as_ref().map(|found| named(found)).map_err(Clone::clone),
                took: begun.elapsed(),
            });
            answers.insert(service.to_owned(), found.unwrap_or_default());
        }
    }
    probes.extend(servers(&srv::expand(plan, &answers), &names));
    probes
}

fn named(found: &[Found]) -> String {
    let one = |one: &Found| {
        format!(
            "{}:{} (priority {}, weight {})",
            one.host, one.port, one.priority, one.weight
        )
    };
    format!("names {}", found.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn servers(plan: &Plan, names: &Names) -> Vec<Probe> {
    let servers = plan.directories.values().flat_map(|directory| {
        let servers = directory.tiers.iter().flat_map(|tier| tier.servers.iter());
        servers.map(move |server| (directory, server))
    });
    servers
        .map(|(directory, server)| {
            let begun = Instant::now();
            let outcome = probe(directory, server, names);
            Probe {
                directory: directory.name.clone(),
                server: server.name.clone(),
                outcome,
                took: begun.elapsed(),
            }
        })
        .collect()
}

impl Probe {
    pub(super) fn as_json(&self) -> Value {
        json!({
            "directory": self.directory,
            "server": self.server,
            "ok": self.outcome.is_ok(),
            "text": self.outcome.as_ref().unwrap_or_else(|error| error),
            "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.outcome {
            Ok(text) => ("ok    ", text),
            Err(text) => ("FAILED", text),
        };
        write!(
            f,
            "{word}  {}  {}  {} ms  {text}",
            self.directory,
            self.server,
            self.took.as_millis()
        )
    }
}

fn probe(directory: &Directory, server: &Upstream, names: &Names) -> Result<String, String> {
    let until = Instant::now() + directory.limits.connect_timeout;
    let mut said = Vec::new();
    let (stream, is_tls): (Box<dyn Stream>, bool) = match &server.target {
        Target::Local(_) => return Ok("a local directory, read and found right".into()),
        Target::Srv { service, .. } => return Err(format!("{service} names no server")),
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
            let left = Some(left(until)?);
            stream
                .set_read_timeout(left)
                .and_then(|()| stream.set_write_timeout(left))
                .map_err(text)?;
            (Box::new(stream), false)
        }
        Target::Tcp { host, port, tls } => {
            let stream = connect(host, names.addresses(host, *port)?, until)?;
            introduce(&stream, server)?;
            secured(stream, host, tls, until, &mut said)?
        }
    };
    let mut asker = Asker {
        stream,
        buffer: Vec::new(),
        id: 10,
        until,
        bytes_max: directory.limits.response_bytes_max,
    };
    if let Some(bind) = server.bind.as_ref().or(directory.bind.as_ref()) {
        let name = asker
            .bind(
                bind,
                is_tls || bind.is_safe(&server.target),
                &server.target,
                names.gssapi,
            )
            .map_err(|error| format!("bind as {}: {error}", bind.name()))?;
        said.push(format!("bound as {name}"));
    }
    let offers_proxied = asker.root()?;
    if directory.identity == Identity::Proxied && !offers_proxied {
        return Err(
            "the server does not offer proxied authorization (RFC 4370) to this bind; \
                    write identity = \"pinned\", or allow it there"
                .into(),
        );
    }
    if let Some(base) = &directory.base {
        asker.base(base)?;
        said.push(format!("holds {base}"));
    }
    asker.unbind();
    said.insert(0, "answers".into());
    Ok(said.join(", "))
}

/// The PROXY header of a connection of our own, where the server wants one.
fn introduce(mut stream: &TcpStream, server: &Upstream) -> Result<(), String> {
    let mut header = Vec::new();
    if let Some(version) = server.proxy_protocol {
        proxy_header::write(&mut header, version, Ends::Local);
    }
    stream.write_all(&header).map_err(text)
}

/// A TCP connection with the protection that the plan asks for, and whether there is any.
fn secured(
    stream: TcpStream,
    host: &str,
    tls: &UpstreamTls,
    until: Instant,
    said: &mut Vec<String>,
) -> Result<(Box<dyn Stream>, bool), String> {
    let (material, required) = match tls {
        UpstreamTls::None => return Ok((Box::new(stream), false)),
        UpstreamTls::Ldaps(material) => {
            said.push("TLS".into());
            return Ok((handshake(stream, material, host)?, true));
        }
        UpstreamTls::StartTlsRequired(material) => (material, true),
        UpstreamTls::StartTlsTried(material) => (material, false),
    };
    let plain = stream.try_clone().map_err(text)?;
    let mut asker = Asker {
        stream: Box::new(plain),
        buffer: Vec::new(),
        id: 0,
        until,
        bytes_max: 1 << 16,
    };
    let mut request = Vec::new();
    message::write_extended_request(&mut request, 1, oid::START_TLS, None);
    let refused = asker.ask(1, &request, |_| {}).err();
    match refused {
        None if !asker.buffer.is_empty() => Err("the server sent plain text behind its answer to StartTLS".into()),
        None => {
            said.push("StartTLS".into());
            Ok((handshake(stream, material, host)?, true))
        }
        Some(error) if required => Err(format!("StartTLS: {error}")),
        Some(error) => {
            said.push(format!("WITHOUT TLS, because StartTLS was refused ({error})"));
            Ok((Box::new(stream), false))
        }
    }
}

fn connect(host: &str, addresses: Vec<SocketAddr>, until: Instant) -> Result<TcpStream, String> {
    let mut last = format!("the name {host} has no address");
    for address in addresses.into_iter().take(16) {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => {
                let left = Some(left(until)?);
                stream
                    .set_read_timeout(left)
                    .and_then(|()| stream.set_write_timeout(left))
                    .map_err(text)?;
                return Ok(stream);
            }
            Err(error) => last = format!("connect to {address}: {error}"),
        }
    }
    Err(last)
}

fn handshake(mut stream: TcpStream, material: &TlsClient, host: &str) -> Result<Box<dyn Stream>, String> {
    let name = tls::server_name(material, host)?;
    let mut connection = ClientConnection::new(tls::client(material)?, name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| format!("TLS: {error}"))?;
    }
    Ok(Box::new(StreamOwned::new(connection, stream)))
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn left(until: Instant) -> Result<Duration, String> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err("no answer within connect_timeout".into())
    } else {
        Ok(left)
    }
}

// By value, so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn text(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer within connect_timeout".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use wire::frame::Step;
    use wire::ldap::result::{self, code};
    use wire::ldap::{control, envelope};

    use super::*;
    use crate::config;

    /// An LDAP server of a few lines: answers each request by its tag, until the client leaves.
    fn server(answer: impl Fn(&envelope::Envelope<'_>, &mut Vec<u8>) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = Vec::new();
            let mut piece = [0; 4096];
            loop {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => buffer.extend_from_slice(&piece[..read]),
                }
                while let Step::Frame { len } = envelope::split(&buffer, 1 << 20) {
                    let mut out = Vec::new();
                    answer(&envelope::peek(&buffer[..len]).unwrap(), &mut out);
                    stream.write_all(&out).unwrap();
                    buffer.drain(..len);
                }
            }
        });
        port
    }

    fn ldap(envelope: &envelope::Envelope<'_>, out: &mut Vec<u8>, bind: u32, proxied: bool) {
        use wire::ldap::envelope::tag;
        match envelope.tag {
            tag::BIND_REQUEST => result::write_bind(out, envelope.id, bind, "", None),
            tag::SEARCH_REQUEST => {
                let control: &[u8] = if proxied {
                    control::oid::PROXIED_AUTHORIZATION.as_bytes()
                } else {
                    b"1.2.3"
                };
                message::write_entry_with(out, envelope.id, b"", |out| {
                    message::write_attribute(out, b"supportedControl", [control]);
                });
                result::write_result(out, envelope.id, tag::SEARCH_DONE, code::SUCCESS, b"", "");
            }
            tag::EXTENDED_REQUEST => {
                result::write_extended(out, envelope.id, code::PROTOCOL_ERROR, "no TLS here", None, None);
            }
            _ => {}
        }
    }

    fn outcome(port: u16, rest: &str, more: &str) -> Result<String, String> {
        let folder = std::env::temp_dir().join(format!("usherd-probe-test-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("secret"), "x").unwrap();
        let text = format!(
            "[directory.d]\nconnect_timeout = \"2s\"\nserver = [{{ url = \"ldap://127.0.0.1:{port}\"{rest} }}]\n{more}\n\
             [[listen]]\naddress = \"ldap://127.0.0.1:0\"\n"
        );
        let plan = config::from_text(&text, &folder.join(Path::new("usherd.toml")))
            .unwrap()
            .0;
        let _ = std::fs::remove_dir_all(&folder);
        all(&plan).remove(0).outcome
    }

    const BIND: &str = "bind_dn = \"cn=x\"\nbind_password_file = \"secret\"";

    #[test]
    fn a_server_that_does() {
        let port = server(|envelope, out| ldap(envelope, out, code::SUCCESS, true));
        assert_eq!(outcome(port, "", BIND).unwrap(), "answers, bound as cn=x");
        let port = server(|envelope, out| ldap(envelope, out, code::SUCCESS, false));
        assert_eq!(outcome(port, "", "base = \"dc=x\"").unwrap(), "answers, holds dc=x");
    }

    #[test]
    fn servers_that_do_not() {
        let port = server(|envelope, out| ldap(envelope, out, code::INVALID_CREDENTIALS, true));
        assert_eq!(
            outcome(port, "", BIND).unwrap_err(),
            "bind as cn=x: invalidCredentials (49)"
        );
        let port = server(|envelope, out| ldap(envelope, out, code::SUCCESS, false));
        assert!(outcome(port, "", BIND).unwrap_err().contains("proxied authorization"));
        let port = server(|_, out| out.extend_from_slice(b"220 smtp ready\r\n"));
        assert!(outcome(port, "", "").unwrap_err().contains("not LDAP"));
        let port = server(|_, _| {});
        assert!(
            outcome(port, "", "")
                .unwrap_err()
                .contains("no answer within connect_timeout")
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(outcome(port, "", "").unwrap_err().contains("connect to 127.0.0.1"));
    }

    #[test]
    fn starttls_required_and_tried() {
        let port = server(|envelope, out| ldap(envelope, out, code::SUCCESS, false));
        let error = outcome(port, ", starttls = \"required\"", "").unwrap_err();
        assert_eq!(error, "StartTLS: protocolError (2): no TLS here");
        let port = server(|envelope, out| ldap(envelope, out, code::SUCCESS, false));
        assert!(
            outcome(port, ", starttls = \"tried\"", "")
                .unwrap()
                .contains("WITHOUT TLS")
        );
    }
}
