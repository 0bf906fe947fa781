//! Certificates and credentials, with an authority of our own: who is trusted, who is not, and what is said about it.

use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair as KeyPairOf;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::{Folder, adds, batch, run, sinks};
use crate::config::plan::{ClientCert, TlsClient, TlsServer};
use crate::feed::sink::{
    Acknowledge, Failure, NatsAuthentication, NatsPlan, SinkError, SinkKind, SocketPlace, SocketPlan, WebhookFormat,
    WebhookPlan,
};
use crate::net::tls;

/// An authority, a stranger's, a server called `localhost` and a client, as files.
pub(super) struct Papers(Folder);

impl Papers {
    pub(super) fn new(name: &str) -> Papers {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let papers = Papers(Folder::new(name));
        let ours = papers.authority("ca");
        papers.authority("other");
        papers.leaf("server", "localhost", &ours);
        papers.leaf("client", "usherd", &ours);
        papers
    }

    fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        std::fs::write(self.file(&format!("{name}.crt")), made.pem()).unwrap();
        Issuer::new(params, key)
    }

    fn leaf(&self, file: &str, name: &str, issuer: &Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let made = params.signed_by(&key, issuer).unwrap();
        std::fs::write(self.file(&format!("{file}.crt")), made.pem()).unwrap();
        std::fs::write(self.file(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// A client that trusts this authority, and shows its own certificate or none.
    pub(super) fn trusting(&self, authority: &str, shows: bool) -> TlsClient {
        TlsClient {
            ca_file: Some(self.file(authority)),
            identity: shows.then(|| (self.file("client.crt"), self.file("client.key"))),
            server_name: None,
            verify: true,
            crl: None,
            stamp: 0,
        }
    }

    fn acceptor(&self, client_cert: ClientCert) -> TlsAcceptor {
        let plan = TlsServer {
            cert_file: self.file("server.crt"),
            key_file: self.file("server.key"),
            client_ca_file: Some(self.file("ca.crt")),
            client_cert,
            client_crl: None,
            stamp: 0,
        };
        TlsAcceptor::from(tls::server(&plan, None).unwrap())
    }
}

/// Lines and HTTP requests over TLS, acknowledged, for as long as the test lasts.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                if line.starts_with("POST") {
                    let mut length = 0;
                    while line != "\r\n" {
                        line.clear();
                        stream.read_line(&mut line).await.unwrap();
                        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                            length = text.trim().parse().unwrap();
                        }
                    }
                    stream.read_exact(&mut vec![0; length]).await.unwrap();
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                } else {
                    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                    stream
                        .write_all(format!("{}\n", event["seq"]).as_bytes())
                        .await
                        .unwrap();
                }
                stream.flush().await.unwrap();
                line.clear();
            }
        });
    }
}

/// Connects and delivers one event.
async fn deliver(kind: SinkKind) -> Result<u64, SinkError> {
    let mut sink = sinks(kind).connect(0).await?;
    Ok(sink.deliver(&batch(&adds(1..=1, 0))).await?.upto)
}

fn socket(host: &str, port: u16, tls: TlsClient) -> SinkKind {
    SinkKind::Socket(SocketPlan {
        place: SocketPlace::Tcp(host.into(), port),
        tls: Some(tls),
        ack: Acknowledge::Yes,
    })
}

fn webhook(host: &str, port: u16, tls: TlsClient) -> SinkKind {
    SinkKind::Webhook(WebhookPlan {
        host: host.into(),
        port,
        path: "/".into(),
        tls: Some(tls),
        secret: None,
        token: None,
        format: WebhookFormat::Ndjson,
    })
}

#[test]
fn sockets_and_webhooks_trust_whom_they_are_told_to() {
    for kind in [socket, webhook] {
        let papers = Papers::new("tls-trust");
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(serve(listener, papers.acceptor(ClientCert::Never)));
            assert_eq!(
                deliver(kind("localhost", port, papers.trusting("ca.crt", false))).await,
                Ok(1)
            );

            let error = deliver(kind("localhost", port, papers.trusting("other.crt", false))).await;
            let error = error.unwrap_err();
            assert_eq!(error.failure, Failure::Setting, "no attempt helps: {error}");
            assert!(
                error.text.contains("localhost") && error.text.contains("TLS"),
                "{error}"
            );

            let error = deliver(kind("127.0.0.1", port, papers.trusting("ca.crt", false))).await;
            let error = error.unwrap_err();
            assert_eq!(error.failure, Failure::Setting, "another name: {error}");
            let named = TlsClient {
                server_name: Some("localhost".into()),
                ..papers.trusting("ca.crt", false)
            };
            assert_eq!(deliver(kind("127.0.0.1", port, named)).await, Ok(1));
            server.abort();
        });
    }
}

#[test]
fn a_peer_that_wants_a_certificate_is_shown_one() {
    for kind in [socket, webhook] {
        let papers = Papers::new("tls-client");
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(serve(listener, papers.acceptor(ClientCert::Require)));
            assert_eq!(
                deliver(kind("localhost", port, papers.trusting("ca.crt", true))).await,
                Ok(1)
            );
            let error = deliver(kind("localhost", port, papers.trusting("ca.crt", false))).await;
            assert!(error.unwrap_err().text.contains("localhost"), "the peer is named");
            server.abort();
        });
    }
}

/// nats-server with a configuration of its own.
struct Nats {
    child: Child,
    port: u16,
}

impl Nats {
    fn start(folder: &Papers, settings: &str) -> Nats {
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = folder.file("jetstream");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?} }}\n{settings}\n",
            store.display().to_string()
        );
        let file = folder.file("nats.conf");
        std::fs::write(&file, text).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&file)
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.file("log")).unwrap())
            .spawn()
            .expect("nats-server (Debian package nats-server)");
        let mut server = Nats { child, port };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            let said = || std::fs::read_to_string(folder.file("log")).unwrap_or_default();
            assert!(ended.is_none(), "nats-server ended: {}", said());
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("nats-server does not listen");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plan(port: u16, authentication: NatsAuthentication, tls: Option<TlsClient>) -> SinkKind {
    SinkKind::Nats(NatsPlan {
        servers: vec![format!("nats://localhost:{port}")],
        authentication,
        tls,
        ..super::nats::nats(port)
    })
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[test]
fn nats_over_tls_with_certificates_on_both_sides() {
    let papers = Papers::new("nats-tls");
    let file = |name: &str| papers.file(name).display().to_string();
    let settings = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.crt"),
        file("server.key"),
        file("ca.crt")
    );
    let server = Nats::start(&papers, &settings);
    let with = |tls| plan(server.port, NatsAuthentication::None, tls);
    run(async {
        assert_eq!(deliver(with(Some(papers.trusting("ca.crt", true)))).await, Ok(1));
        let error = deliver(with(Some(papers.trusting("other.crt", true))))
            .await
            .unwrap_err();
        assert_eq!(error.failure, Failure::Setting, "no attempt helps: {error}");
        assert!(error.text.contains("localhost"), "{error}");
        let error = deliver(with(Some(papers.trusting("ca.crt", false)))).await.unwrap_err();
        assert!(error.text.contains("localhost"), "no certificate of ours: {error}");
        let named = SinkKind::Nats(NatsPlan {
            servers: vec![format!("nats://127.0.0.1:{}", server.port)],
            tls: Some(papers.trusting("ca.crt", true)),
            ..super::nats::nats(server.port)
        });
        let error = deliver(named).await.unwrap_err();
        assert_eq!(error.failure, Failure::Setting, "another name: {error}");
    });
}

#[test]
fn nats_takes_a_password_or_a_token_and_says_what_is_wrong_with_another() {
    let password = |user: &str, word: &str| NatsAuthentication::Password(user.into(), secret(word));
    let token = |word: &str| NatsAuthentication::Token(secret(word));
    for (name, settings, right, wrong) in [
        (
            "user",
            "authorization { user: feed, password: right }",
            password("feed", "right"),
            password("feed", "wrong"),
        ),
        (
            "token",
            "authorization { token: \"right\" }",
            token("right"),
            token("wrong"),
        ),
    ] {
        let papers = Papers::new(&format!("nats-{name}"));
        let server = Nats::start(&papers, settings);
        run(async {
            assert_eq!(deliver(plan(server.port, right, None)).await, Ok(1));
            for other in [wrong, NatsAuthentication::None] {
                let error = deliver(plan(server.port, other, None)).await.unwrap_err();
                assert_eq!(error.failure, Failure::Setting, "{name}: {error}");
                assert!(error.text.contains("authorization violation"), "{error}");
                assert!(!error.text.contains("wrong"), "no secret is said: {error}");
            }
        });
    }
}

/// A JWT as NATS has them: signed with an nkey, about another.
fn jwt(issuer: &KeyPairOf, subject: &KeyPairOf, nats: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let body = part(&json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "nats": nats,
    }));
    let signed = issuer.sign(format!("{head}.{body}").as_bytes()).unwrap();
    format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(signed))
}

fn credentials(jwt: &str, seed: &str) -> Zeroizing<String> {
    secret(&format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    ))
}

#[test]
fn nats_takes_a_credentials_file_and_not_a_stranger_s() {
    let (operator, account, system) = (
        KeyPairOf::new_operator(),
        KeyPairOf::new_account(),
        KeyPairOf::new_account(),
    );
    let (user, other) = (KeyPairOf::new_user(), KeyPairOf::new_account());
    let limits = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": true,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let plain = json!({ "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1 });
    let of_account = json!({ "type": "account", "version": 2, "limits": limits });
    let of_user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let settings = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n {}: {}\n {}: {}\n}}",
        jwt(&operator, &operator, &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        system.public_key(),
        jwt(
            &operator,
            &system,
            &json!({ "type": "account", "version": 2, "limits": plain })
        ),
        account.public_key(),
        jwt(&operator, &account, &of_account),
    );
    let papers = Papers::new("nats-credentials");
    let server = Nats::start(&papers, &settings);
    let seed = user.seed().unwrap();
    let with = |text| plan(server.port, NatsAuthentication::Credentials(text), None);
    run(async {
        let right = credentials(&jwt(&account, &user, &of_user), &seed);
        assert_eq!(deliver(with(right)).await, Ok(1));
        let stranger = credentials(&jwt(&other, &user, &of_user), &seed);
        let error = deliver(with(stranger)).await.unwrap_err();
        assert_eq!(error.failure, Failure::Setting, "{error}");
        assert!(error.text.contains("authorization violation"), "{error}");
        let error = deliver(with(secret("no credentials"))).await.unwrap_err();
        assert_eq!(error.failure, Failure::Setting, "{error}");
        assert!(error.text.contains("credentials file"), "{error}");
    });
}
