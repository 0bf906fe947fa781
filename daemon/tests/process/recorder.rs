//! An LDAP server that keeps what it saw: of every operation, on whose connection it came and which proxied authorization
//! controls it carried, so that a test can say as whom a server would have run it, whichever of several controls it obeys.
//!
//! It is as careless as a server may be. It takes any name that is listed with its password, exactly as typed, and knows some
//! under another name; it believes the control that keeps an identity over a bind, and spellings of an OID that are none. SASL
//! is PLAIN, and an exchange of two steps that is called SCRAM-SHA-256 and is not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::message;
use crate::ops;
use crate::slapd::USHERD;

pub(crate) const PROXIED_V1: &str = "2.16.840.1.113730.3.4.12";
/// IBM's group authorization: the groups that whoever asks is in, as the connection's owner says.
pub(crate) const GROUPS: &str = "1.3.18.0.2.10.21";
/// UnboundID's Retain Identity: a bind that proves a password and changes nothing.
pub(crate) const RETAIN_IDENTITY: &str = "1.3.6.1.4.1.30221.2.5.3";
/// How long a bind with a password that begins so is thought about.
pub(crate) const SLOW: &str = "slow ";

/// Who may bind: name as typed, password, and the name that the server has for whom that is.
pub(crate) struct Account {
    pub(crate) typed: &'static str,
    pub(crate) password: &'static str,
    pub(crate) is: &'static str,
    /// The name in SASL.
    pub(crate) sasl: &'static str,
}

/// What an operation came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Who the connection was bound as; empty: nobody.
    pub(crate) bound_as: String,
    /// The values of controls that say as whom it is to be run, in their order.
    pub(crate) proxied: Vec<String>,
    /// Its response's tag.
    pub(crate) tag: u8,
}

impl Seen {
    /// As whom it ran where the first control counts.
    pub(crate) fn by_first(&self) -> String {
        self.proxied.first().cloned().unwrap_or_else(|| self.bound())
    }

    /// As whom it ran where the last control counts.
    pub(crate) fn by_last(&self) -> String {
        self.proxied.last().cloned().unwrap_or_else(|| self.bound())
    }

    fn bound(&self) -> String {
        authzid(&self.bound_as)
    }
}

/// `dn:…`, or nothing for nobody.
pub(crate) fn authzid(dn: &str) -> String {
    if dn.is_empty() {
        String::new()
    } else {
        format!("dn:{dn}")
    }
}

/// Each operation names an entry with a number of its own, by which it is found again.
pub(crate) fn entry(token: u64) -> String {
    format!("cn=op{token}x,dc=example,dc=com")
}

/// See the module.
pub(crate) struct Recorder {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<(u64, Seen)>>>,
}

/// A server that answers each request as `answer` says: by message id, tag, content of the operation and of its controls;
/// what it keeps of a connection is made by `connect`. Its URL.
pub(crate) fn scripted<S>(
    connect: impl Fn() -> S + Send + Sync + 'static,
    answer: impl Fn(&mut S, i64, u8, &[u8], &[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldap://{}", listener.local_addr().expect("an address"));
    let script = Arc::new((connect, answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let script = Arc::clone(&script);
            std::thread::spawn(move || {
                let mut state = script.0();
                serve(stream, |id, tag, op, controls| {
                    script.1(&mut state, id, tag, op, controls)
                });
            });
        }
    });
    url
}

fn serve(mut stream: TcpStream, mut answer: impl FnMut(i64, u8, &[u8], &[u8]) -> Vec<u8>) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        let mut answers = Vec::new();
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (tag, op) = parts[1];
            let controls = parts.get(2).map_or(&[][..], |(_, controls)| *controls);
            answers.extend(answer(value(parts[0].1), tag, op, controls));
            inbox.drain(..used);
        }
        if stream.write_all(&answers).is_err() {
            return;
        }
    }
}

impl Recorder {
    pub(crate) fn start(accounts: &'static [Account]) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let url = scripted(
            move || Connection::new(accounts, Arc::clone(&record)),
            |connection, id, tag, op, controls| connection.message(id, tag, op, &controls_of(controls)),
        );
        Self { url, seen }
    }

    /// Everything that was ever seen.
    pub(crate) fn all(&self) -> Vec<(u64, Seen)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Connection {
    accounts: &'static [Account],
    record: Arc<Mutex<Vec<(u64, Seen)>>>,
    bound_as: String,
    /// Between two steps: the name that was shown.
    half: Option<String>,
}

impl Connection {
    fn new(accounts: &'static [Account], record: Arc<Mutex<Vec<(u64, Seen)>>>) -> Self {
        Self {
            accounts,
            record,
            bound_as: String::new(),
            half: None,
        }
    }

    fn message(&mut self, id: i64, tag: u8, op: &[u8], controls: &[(String, String)]) -> Vec<u8> {
        let response = match tag {
            0x60 => return self.bind(id, op, controls),
            0x63 => ops::SEARCH_DONE,
            0x66 => 0x67,
            0x68 => 0x69,
            0x4A => 0x6B,
            0x6C => 0x6D,
            0x6E => 0x6F,
            0x77 => ops::EXTENDED_RESPONSE,
            _ => return Vec::new(),
        };
        let is_proxied = |oid: &str| {
            [ops::OID_PROXIED, PROXIED_V1, GROUPS]
                .iter()
                .any(|of| is_spelling_of(oid, of))
        };
        let proxied = controls.iter().filter(|(oid, _)| is_proxied(oid));
        let seen = Seen {
            bound_as: self.bound_as.clone(),
            proxied: proxied.map(|(_, value)| value.clone()).collect(),
            tag: response,
        };
        let mut fields = vec![int(0x0A, 0), text(""), text("")];
        if tag == 0x77 && elements(op)[0].1 == ops::OID_WHOAMI.as_bytes() {
            fields.push(tlv(0x8B, seen.by_last().as_bytes()));
        }
        if let Some(token) = token_of(op) {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.push((token, seen));
        }
        message(id, &seq(response, &fields))
    }

    fn bind(&mut self, id: i64, op: &[u8], controls: &[(String, String)]) -> Vec<u8> {
        let before = std::mem::take(&mut self.bound_as);
        let parts = elements(op);
        let (name, (kind, shown)) = (said(parts[1].1), parts[2]);
        let (code, who, challenge) = match kind {
            0x80 => self.simple(&name, &said(shown)),
            _ => self.sasl(shown),
        };
        if code == 0 {
            let keeps = controls.iter().any(|(oid, _)| oid == RETAIN_IDENTITY);
            self.bound_as = if keeps { before } else { who };
        }
        let mut fields = vec![int(0x0A, code), text(""), text("")];
        fields.extend(challenge.map(|challenge| tlv(0x87, challenge.as_bytes())));
        message(id, &seq(ops::BIND_RESPONSE, &fields))
    }

    fn simple(&mut self, name: &str, password: &str) -> (i64, String, Option<&'static str>) {
        self.half = None;
        let fast = password.strip_prefix(SLOW);
        if fast.is_some() {
            std::thread::sleep(Duration::from_millis(40));
        }
        let password = fast.unwrap_or(password);
        if name.is_empty() || password.is_empty() {
            return (0, String::new(), None);
        }
        if (name, password) == USHERD {
            return (0, name.to_owned(), None);
        }
        let found = self
            .accounts
            .iter()
            .find(|account| account.typed == name && account.password == password);
        found.map_or((49, String::new(), None), |account| (0, account.is.to_owned(), None))
    }

    fn sasl(&mut self, shown: &[u8]) -> (i64, String, Option<&'static str>) {
        let parts = elements(shown);
        let (mechanism, shown) = (
            said(parts[0].1),
            parts.get(1).map(|(_, shown)| said(shown)).unwrap_or_default(),
        );
        let half = self.half.take();
        let by_name = |name: &str, password: &str| {
            let is = |account: &&Account| account.sasl == name && account.password == password;
            let found = self.accounts.iter().find(is);
            found.map_or((49, String::new(), None), |account| (0, account.is.to_owned(), None))
        };
        match (mechanism.as_str(), half) {
            ("PLAIN", _) => match shown.split('\0').collect::<Vec<_>>()[..] {
                ["", name, password] => by_name(name, password),
                _ => (49, String::new(), None),
            },
            ("SCRAM-SHA-256", None) => {
                self.half = Some(shown);
                (14, String::new(), Some("and now?"))
            }
            ("SCRAM-SHA-256", Some(name)) => by_name(&name, &shown),
            // Whoever gets here by EXTERNAL has the daemon's own certificate, or is on its machine.
            ("EXTERNAL" | "external", _) => (0, "cn=the daemon itself".to_owned(), None),
            _ => (7, String::new(), None),
        }
    }
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn controls_of(content: &[u8]) -> Vec<(String, String)> {
    let one = |(_, control): (u8, &[u8])| {
        let parts = elements(control);
        let value = parts.iter().skip(1).find(|(tag, _)| *tag == 0x04);
        (
            said(parts[0].1),
            value.map(|(_, value)| said(value)).unwrap_or_default(),
        )
    };
    elements(content).into_iter().map(one).collect()
}

/// A careless reader of OIDs passes over spaces and leading zeros.
fn is_spelling_of(written: &str, oid: &str) -> bool {
    let plain = |text: &str| -> Vec<String> {
        let numbers = text.trim().split('.');
        numbers
            .map(|number| number.trim_start_matches('0').to_owned())
            .collect()
    };
    plain(written) == plain(oid)
}

fn token_of(op: &[u8]) -> Option<u64> {
    let start = op.windows(5).position(|some| some == b"cn=op")? + 5;
    let digits: Vec<u8> = op[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
    said(&digits).parse().ok()
}
