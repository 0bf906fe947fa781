//! The daemon's own bind as it is written, at a directory, a server or a check: by name and password, or by SASL.

use std::sync::Arc;

use engine::upstream::sasl::{Account, ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, Unfit, Who};
use zeroize::Zeroizing;

use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::plan::{self, Target, TlsClient, UpstreamTls};
use super::reader::Section;
use super::{check_directory, check_kerberos};
use crate::gssapi;

/// As written.
#[derive(Debug, Default)]
pub struct Bind {
    /// `bind_dn`.
    pub dn: Option<At<String>>,
    /// `bind_password_file`.
    pub password_file: Option<At<String>>,
    /// `bind_mechanism`.
    pub mechanisms: Option<At<Vec<At<String>>>>,
    /// `bind_authcid`.
    pub authcid: Option<At<String>>,
    /// `bind_authzid`.
    pub authzid: Option<At<String>>,
    /// `bind_in_clear`.
    pub in_clear: Option<At<bool>>,
    /// `bind_iterations_max`.
    pub iterations_max: Option<At<usize>>,
    /// The settings of GSSAPI.
    pub kerberos: check_kerberos::Written,
}

impl Bind {
    /// Its settings that are written, and where.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let simple = [
            ("bind_dn", self.dn.as_ref().map(|at| &at.place)),
            ("bind_password_file", self.password_file.as_ref().map(|at| &at.place)),
            ("bind_mechanism", self.mechanisms.as_ref().map(|at| &at.place)),
        ];
        simple
            .into_iter()
            .filter_map(|(key, place)| Some((key, place?)))
            .chain(self.of_sasl())
    }

    /// Those that mean something with `bind_mechanism` only.
    fn of_sasl(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let all = [
            ("bind_authcid", self.authcid.as_ref().map(|at| &at.place)),
            ("bind_authzid", self.authzid.as_ref().map(|at| &at.place)),
            ("bind_in_clear", self.in_clear.as_ref().map(|at| &at.place)),
            ("bind_iterations_max", self.iterations_max.as_ref().map(|at| &at.place)),
        ];
        all.into_iter()
            .filter_map(|(key, place)| Some((key, place?)))
            .chain(self.kerberos.places())
    }

    /// Whether there is any of it.
    pub fn is_written(&self) -> bool {
        self.places().next().is_some()
    }

    pub(super) fn names(&self, mechanism: Mechanism) -> Option<&At<String>> {
        let named = self.mechanisms.iter().flat_map(|list| &list.value);
        named.into_iter().find(|at| Mechanism::of(&at.value) == Some(mechanism))
    }
}

/// Reads the settings of a bind.
pub(super) fn read(p: &mut Problems, section: &mut Section<'_>) -> Bind {
    let least = ITERATIONS_MIN as usize;
    Bind {
        dn: section.string(p, "bind_dn"),
        password_file: section.string(p, "bind_password_file"),
        mechanisms: section.string_or_strings(p, "bind_mechanism"),
        authcid: section.string(p, "bind_authcid"),
        authzid: section.string(p, "bind_authzid"),
        in_clear: section.boolean(p, "bind_in_clear"),
        iterations_max: section.count(p, "bind_iterations_max", least, ITERATIONS_MAX as usize),
        kerberos: check_kerberos::read(p, section),
    }
}

/// The outer none: something is wrong.
#[allow(clippy::option_option)]
pub(super) fn check(p: &mut Problems, section: &Place, raw: &Bind, folder: &Folder) -> Option<Option<plan::Bind>> {
    if let Some(mechanisms) = &raw.mechanisms {
        return sasl(p, section, raw, mechanisms, folder).map(|sasl| Some(plan::Bind::Sasl(sasl)));
    }
    if !p.absent(section, "bind_mechanism") {
        return None;
    }
    let before = p.errors();
    for (key, place) in raw.of_sasl() {
        p.error(place, format!("`{key}` without `bind_mechanism`"))
            .label("it is for a bind by SASL")
            .help("add bind_mechanism = \"SCRAM-SHA-256\", or remove it");
    }
    let bind = simple(p, section, raw, folder)?;
    (p.errors() == before).then_some(bind)
}

#[allow(clippy::option_option)]
fn simple(p: &mut Problems, section: &Place, raw: &Bind, folder: &Folder) -> Option<Option<plan::Bind>> {
    match (&raw.dn, &raw.password_file) {
        (None, None) => Some(None),
        (Some(dn), Some(file)) => {
            let sound = check_directory::check_dn(p, "bind_dn", dn);
            let password = files::secret(p, folder, file)?;
            sound.then(|| {
                Some(plan::Bind::Simple(plan::Simple {
                    dn: dn.value.clone(),
                    password,
                }))
            })
        }
        (Some(_), None) if !p.absent(section, "bind_password_file") => None,
        (None, Some(_)) if !p.absent(section, "bind_dn") => None,
        (Some(dn), None) => {
            check_directory::check_dn(p, "bind_dn", dn);
            p.error(&dn.place, "`bind_dn` without `bind_password_file`")
                .help("add bind_password_file = \"…\", a file that holds the password and only the daemon may read");
            None
        }
        (None, Some(file)) => {
            p.error(&file.place, "`bind_password_file` without `bind_dn`")
                .help("add bind_dn = \"cn=usherd,dc=example,dc=com\"");
            None
        }
    }
}

fn sasl(
    p: &mut Problems,
    section: &Place,
    raw: &Bind,
    written: &At<Vec<At<String>>>,
    folder: &Folder,
) -> Option<plan::Sasl> {
    let before = p.errors();
    let mechanisms = mechanisms(p, written);
    if let Some(dn) = &raw.dn {
        p.error(&dn.place, "`bind_dn` and `bind_mechanism` exclude each other")
            .label("a name of a bind by name and password")
            .also(&written.place, "a bind by SASL")
            .help("say who the daemon is with bind_authcid = \"…\", or remove `bind_mechanism`");
    }
    let has_password = mechanisms.iter().any(|one| one.has_password());
    let password = if has_password {
        password(p, section, raw, written, folder)
    } else {
        if !mechanisms.is_empty() {
            without_password(p, raw, &mechanisms);
        }
        Some(Zeroizing::default())
    };
    let has = |mechanism| mechanisms.contains(&mechanism);
    if let Some(at) = raw.iterations_max.as_ref()
        && !has(Mechanism::ScramSha256)
        && !has(Mechanism::ScramSha1)
    {
        p.error(&at.place, "`bind_iterations_max` is for SCRAM")
            .help("remove it");
    }
    if let Some(at) = raw.in_clear.as_ref().filter(|_| !has(Mechanism::Plain)) {
        p.error(&at.place, "`bind_in_clear` is for PLAIN")
            .label("the other mechanisms do not send the password")
            .help("remove it");
    }
    if let Some(authzid) = &raw.authzid {
        check_authzid(p, authzid);
    }
    let kerberos = if has(Mechanism::Gssapi) {
        check_kerberos::check(p, &raw.kerberos, folder)
    } else {
        check_kerberos::refuse(p, &raw.kerberos);
        None
    };
    let password = password?;
    if p.errors() > before {
        return None;
    }
    let text = |at: &Option<At<String>>| at.as_ref().map_or_else(String::new, |at| at.value.clone());
    let who = Who {
        authcid: text(&raw.authcid),
        authzid: text(&raw.authzid),
    };
    let iterations_max = raw.iterations_max.as_ref().map_or(ITERATIONS_DEFAULT, |at| {
        u32::try_from(at.value).unwrap_or(ITERATIONS_DEFAULT)
    });
    match Account::new(&mechanisms, &who, password, iterations_max) {
        Ok(account) => Some(plan::Sasl {
            account: Arc::new(account),
            in_clear: raw.in_clear.as_ref().is_some_and(|at| at.value),
            kerberos: kerberos.map(Arc::new),
        }),
        Err(unfit) => {
            say_unfit(p, raw, written, unfit);
            None
        }
    }
}

fn mechanisms(p: &mut Problems, written: &At<Vec<At<String>>>) -> Vec<Mechanism> {
    let mut all: Vec<Mechanism> = Vec::new();
    for name in &written.value {
        match Mechanism::of(&name.value) {
            Some(Mechanism::Gssapi) if !gssapi::IS_BUILT => check_kerberos::not_built(p, name),
            Some(one) if all.contains(&one) => {
                p.error(&name.place, format!("`bind_mechanism` names {} twice", one.name()))
                    .help("remove one of them");
            }
            Some(one) => all.push(one),
            None => unknown(p, name),
        }
    }
    if written.value.is_empty() {
        p.error(&written.place, "`bind_mechanism` names no mechanism")
            .help("as in bind_mechanism = \"SCRAM-SHA-256\"; without it the daemon binds with `bind_dn`");
    }
    all
}

fn unknown(p: &mut Problems, name: &At<String>) {
    let built = |one: &Mechanism| *one != Mechanism::Gssapi || gssapi::IS_BUILT;
    let names: Vec<&str> = Mechanism::ALL.into_iter().filter(built).map(Mechanism::name).collect();
    let why = match name.value.to_ascii_uppercase().as_str() {
        plus if plus.ends_with("-PLUS") => "without -PLUS it works: there is no channel binding here",
        "GSS-SPNEGO" | "DIGEST-MD5" | "NTLM" | "CRAM-MD5" | "LOGIN" => "clients may use it, the daemon does not",
        _ => "no mechanism of this name is known",
    };
    p.error(
        &name.place,
        format!("the daemon cannot bind with the SASL mechanism \"{}\"", name.value),
    )
    .label(why)
    .help(format!("it can with {}", names.join(", ")));
}

/// The password, where a mechanism takes one; and that there is a name to it.
fn password(
    p: &mut Problems,
    section: &Place,
    raw: &Bind,
    written: &At<Vec<At<String>>>,
    folder: &Folder,
) -> Option<Zeroizing<Vec<u8>>> {
    if raw.authcid.is_none() && p.absent(section, "bind_authcid") {
        p.error(&written.place, "`bind_mechanism` without `bind_authcid`")
            .label("nothing says whose password it is")
            .help("add bind_authcid = \"usherd\", the daemon's name as the server's SASL knows it");
    }
    match &raw.password_file {
        Some(file) => files::secret(p, folder, file),
        None => {
            if p.absent(section, "bind_password_file") {
                p.error(&written.place, "`bind_mechanism` without `bind_password_file`")
                    .help(
                        "add bind_password_file = \"…\", a file that holds the password and only the daemon may read",
                    );
            }
            None
        }
    }
}

/// EXTERNAL or GSSAPI alone: the connection says who we are, or the ticket does.
fn without_password(p: &mut Problems, raw: &Bind, mechanisms: &[Mechanism]) {
    let by_ticket = mechanisms.contains(&Mechanism::Gssapi);
    let (what, label) = if by_ticket {
        (
            "GSSAPI",
            "the ticket says who the daemon is: see bind_principal and bind_keytab",
        )
    } else {
        ("EXTERNAL", "the connection says who the daemon is")
    };
    let settings = [
        ("bind_authcid", raw.authcid.as_ref()),
        ("bind_password_file", raw.password_file.as_ref()),
    ];
    for (key, at) in settings {
        if let Some(at) = at {
            p.error(&at.place, format!("`{key}` has no meaning with {what}"))
                .label(label)
                .help("remove it; to act as somebody else, write bind_authzid = \"dn:…\"");
        }
    }
}

/// RFC 4513 section 5.2.1.8.
fn check_authzid(p: &mut Problems, authzid: &At<String>) {
    if let Some(dn) = authzid.value.strip_prefix("dn:") {
        check_directory::check_dn(p, "bind_authzid", &At::new(dn.to_owned(), authzid.place.clone()));
    } else if !authzid.value.starts_with("u:") || authzid.value == "u:" {
        p.error(&authzid.place, "`bind_authzid` is not an authorization identity")
            .label(format!("found \"{}\"", authzid.value))
            .help("write \"dn:cn=usherd,dc=example,dc=com\" or \"u:usherd\" (RFC 4513)");
    }
}

fn say_unfit(p: &mut Problems, raw: &Bind, written: &At<Vec<At<String>>>, unfit: Unfit) {
    let place = |at: &Option<At<String>>| at.as_ref().map_or(&written.place, |at| &at.place).clone();
    let (place, what, why) = match unfit {
        Unfit::NoMechanism => return,
        Unfit::Authcid(why) => (place(&raw.authcid), "`bind_authcid` cannot be used", why),
        Unfit::Authzid(why) => (place(&raw.authzid), "`bind_authzid` cannot be used", why),
        Unfit::Password(why) => (place(&raw.password_file), "the password cannot be used with SASL", why),
    };
    p.error(&place, what).label(why);
}

/// Whether a bind can be made over the connections to a server. `url`: where the server is written.
pub(super) fn fits(p: &mut Problems, raw: &Bind, url: &Place, target: &Target) {
    let no_tls = matches!(
        target,
        Target::Tcp {
            tls: UpstreamTls::None,
            ..
        } | Target::Srv {
            tls: UpstreamTls::None,
            ..
        }
    );
    if let Some(plain) = raw.names(Mechanism::Plain).filter(|_| no_tls && !target.is_here()) {
        if raw.in_clear.as_ref().is_some_and(|at| at.value) {
            p.warning(url, "the password of `bind_authcid` travels in plain text")
                .help("write ldaps://, or add starttls = \"required\"");
        } else {
            p.error(url, "PLAIN would send the password in plain text")
                .also(&plain.place, "asked for here")
                .help("write ldaps://, add starttls = \"required\", or allow it with bind_in_clear = true");
        }
    }
    if let Some(gssapi) = raw.names(Mechanism::Gssapi) {
        check_kerberos::fits(p, &raw.kerberos, &gssapi.place, url, target);
    }
    let Some(external) = raw.names(Mechanism::External) else {
        return;
    };
    let shows_nothing = |tls: &TlsClient| tls.identity.is_none();
    let missing = match target {
        Target::Tcp { tls, .. } | Target::Srv { tls, .. } => match tls {
            UpstreamTls::None => Some("write ldaps:// or starttls, with cert_file and key_file in `tls`; or ldapi://"),
            UpstreamTls::Ldaps(tls) | UpstreamTls::StartTlsRequired(tls) | UpstreamTls::StartTlsTried(tls) => {
                shows_nothing(tls).then_some("add tls = { cert_file = \"…\", key_file = \"…\" }")
            }
        },
        Target::Unix(_) | Target::Local(_) => None,
    };
    if let Some(help) = missing {
        p.error(url, "EXTERNAL needs a connection that says who the daemon is")
            .label("no certificate of ours is shown to this server")
            .also(&external.place, "asked for here")
            .help(help);
    }
}
