//! What can be said only when everything has been read: identity, certificates, what is held where.

use std::path::Path;
use std::time::Duration;

use super::super::text::quoted;
use super::model::{Method, Model, Settings, Verify};
use super::told::{At, Told};
use crate::config::values::{self, Scheme, show_duration};

/// lloadd's own, in milliseconds.
const RETRY_DEFAULT: u64 = 5000;
/// Ours.
const RETRY_MIN: Duration = Duration::from_millis(500);

/// The settings of the daemon's own bind, but for the file of its password; none where it does not bind by itself and
/// acts for nobody.
pub fn own_bind(model: &Model, told: &mut Told) -> Option<Settings> {
    let bind = &model.bind;
    let mut settings = match (bind.method, &bind.at) {
        (Method::Simple, Some(at)) => {
            let (Some((dn, place)), Some(_)) = (&bind.dn, &bind.password) else {
                let right = "without both, clients' own binds stay on connections of theirs (identity = \"pinned\")";
                told.fault(at, "bindmethod=simple without binddn and credentials", right);
                return None;
            };
            let mut settings = Settings::default();
            settings.text("bind_dn", dn, format!("{place} binddn"));
            settings
        }
        (Method::Sasl, Some(at)) => super::sasl::settings(model, at, told)?,
        _ => {
            if let Some((true, at)) = &model.proxies {
                let right = "clients' own binds stay on connections of theirs (identity = \"pinned\")";
                told.notice(at, "proxyauthz without a bind of the daemon's own", right);
            }
            return None;
        }
    };
    match (&model.proxies, &bind.at) {
        (Some((false, at)), _) => {
            told.fault(
                at,
                "proxyauthz is off: lloadd does everything as itself, whoever asks",
                "here nobody gets another's rights: clients' own binds stay on connections of theirs \
                 (identity = \"pinned\"), without one they are anonymous",
            );
            return None;
        }
        (None, Some(at)) => {
            let right = "it is on here; where it was off, clients had the rights of lloadd's own bind";
            told.notice(at, "proxyauthz is not named", right);
        }
        _ => {}
    }
    let simple = bind.dn.as_ref().filter(|_| bind.method == Method::Simple);
    let named = simple.or(bind.authzid.as_ref().filter(|(authzid, _)| authzid.starts_with("dn:")));
    if let Some((_, at)) = named {
        settings.plain("allow_own_assertion", true, format!("{at} lloadd's own identity may"));
    }
    Some(settings)
}

/// How soon a server that cannot be reached is tried again.
pub fn retry(model: &mut Model, told: &mut Told) {
    let servers: usize = model.tiers.iter().map(|tier| tier.servers.len()).sum();
    let mut all: Vec<u64> = model.retries.iter().map(|(ms, _)| *ms).collect();
    if all.len() < servers {
        all.push(RETRY_DEFAULT);
    }
    let Some(least) = all.iter().min().copied() else { return };
    let first = model.retries.iter().find(|(ms, _)| *ms == least);
    let from = match first {
        Some((_, at)) => format!("{at} retry"),
        None => "lloadd's own retry".to_owned(),
    };
    if let Some((_, at)) = model.retries.first().filter(|_| all.iter().any(|ms| *ms != least)) {
        let right = format!("it is one for all here: {least} ms");
        told.notice(at, "servers differ in their retry", &right);
    }
    let longest = Duration::from_millis(least.clamp(10, 86_400_000));
    if longest < RETRY_MIN {
        model.directory.text("retry_min", &show_duration(longest), from.clone());
    }
    model.directory.text("retry_max", &show_duration(longest), from);
}

/// `tls` of the directory; none where no server has any.
pub fn client_tls(model: &Model, told: &mut Told) -> Option<String> {
    let mut servers = model.tiers.iter().flat_map(|tier| &tier.servers);
    let has_tls = servers.any(|server| {
        let is_ldaps = values::server_url(&server.url).is_ok_and(|url| url.scheme == Scheme::Ldaps);
        is_ldaps || server.settings.all().iter().any(|setting| setting.key == "starttls")
    });
    if !has_tls {
        return None;
    }
    let tls = &model.bind.tls;
    let mut pairs = Vec::new();
    if let Some(at) = &tls.unverified {
        let right = "verify = false: whoever answers is believed, and reads every password, as there";
        told.notice(at, "certificates of servers are not demanded", right);
        pairs.push("verify = false".to_owned());
    } else if let Some((ca, _)) = tls.ca.as_ref().or(model.tls.ca.as_ref()) {
        pairs.push(file("ca_file", ca));
    }
    match (&tls.cert, &tls.key) {
        (Some((cert, _)), Some((key, _))) => {
            pairs.push(file("cert_file", cert));
            pairs.push(file("key_file", key));
        }
        (Some((_, at)), None) => told.fault(at, "tls_cert without tls_key", "they come together"),
        (None, Some((_, at))) => told.fault(at, "tls_key without tls_cert", "they come together"),
        (None, None) => {}
    }
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

/// `tls` of the listeners; none where there is no certificate.
pub fn server_tls(model: &Model, told: &mut Told) -> Option<String> {
    let tls = &model.tls;
    let (cert, key) = match (&tls.cert, &tls.key) {
        (Some((cert, _)), Some((key, _))) => (cert, key),
        (Some((_, at)), None) | (None, Some((_, at))) => {
            let right = "TLSCertificateFile and TLSCertificateKeyFile come together";
            told.fault(
                at,
                "a certificate without its key, or a key without its certificate",
                right,
            );
            return None;
        }
        (None, None) => return None,
    };
    let mut pairs = vec![file("cert_file", cert), file("key_file", key)];
    if let Some((verify, at)) = tls.verify.as_ref().filter(|(verify, _)| *verify != Verify::Never) {
        match &tls.ca {
            Some((ca, _)) => {
                let level = if *verify == Verify::Require {
                    "require"
                } else {
                    "request"
                };
                pairs.push(file("client_ca_file", ca));
                pairs.push(format!("client_cert = \"{level}\""));
                let right = "their names are no identity yet: SASL EXTERNAL is answered with 7";
                told.notice(at, "clients' certificates are verified", right);
            }
            None => told.fault(
                at,
                "TLSVerifyClient without TLSCACertificateFile",
                "name the authorities; without them clients' certificates are not looked at",
            ),
        }
    }
    Some(format!("{{ {} }}", pairs.join(", ")))
}

/// What lloadd has no bound for.
pub fn timeout(model: &Model, file: &str, told: &mut Told) {
    if !model.has_timeout {
        let at = At {
            file: file.into(),
            line: 0,
        };
        let right = "here 60 s for a search, 30 s for others: see search_timeout and operation_timeout";
        told.notice(&at, "bindconf has no timeout: lloadd waits for ever", right);
    }
}

/// Relative names start at the working directory, as lloadd's do.
fn file(key: &str, name: &str) -> String {
    let path = std::path::absolute(Path::new(name)).unwrap_or_else(|_| name.into());
    format!("{key} = {}", *quoted(&path.display().to_string()))
}
