//! `bindmethod=sasl`: what of it the daemon's own bind has, and what is missing.

use engine::upstream::sasl::Mechanism;

use super::super::text::quoted;
use super::model::{Bind, Model, Settings};
use super::told::{At, Told};
use crate::config::values::{self, Scheme};

const PINNED: &str = "without, clients' own binds stay on connections of theirs (identity = \"pinned\")";

/// The settings of such a bind; none where the daemon cannot make it. `at`: the last line of bindconf.
pub fn settings(model: &Model, at: &At, told: &mut Told) -> Option<Settings> {
    let bind = &model.bind;
    let mechanisms = mechanisms(bind, at, told)?;
    let has_password = mechanisms.iter().any(|one| one.has_password());
    if has_password && (bind.authcid.is_none() || bind.password.is_none()) {
        let right = format!("a name and a password; {PINNED}");
        told.fault(at, "bindmethod=sasl without authcid and credentials", &right);
        return None;
    }
    if let Some((value, at)) = &bind.authzid
        && !value.starts_with("dn:")
        && !value.starts_with("u:")
    {
        let right = format!("dn:NAME or u:USER (RFC 4513); {PINNED}");
        told.fault(at, &format!("authzid={value}"), &right);
        return None;
    }
    let by_ticket = mechanisms.contains(&Mechanism::Gssapi);
    let mut settings = Settings::default();
    let from = |what: &str, at: &At| format!("{at} {what}");
    let names: Vec<String> = mechanisms.iter().map(|one| quoted(one.name()).to_string()).collect();
    let names = match &names[..] {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let place = bind.mechanism.as_ref().map_or(at, |(_, at)| at);
    settings.plain("bind_mechanism", names, from("saslmech", place));
    match &bind.authcid {
        Some((name, at)) if has_password => settings.text("bind_authcid", name, from("authcid", at)),
        Some((_, at)) if by_ticket => told.notice(
            at,
            "authcid is left out",
            "with GSSAPI the ticket says who that is; if there are several: bind_principal",
        ),
        Some((_, at)) => told.notice(
            at,
            "authcid is left out",
            "with EXTERNAL the connection says who that is",
        ),
        None => {}
    }
    if let Some((name, at)) = &bind.authzid {
        settings.text("bind_authzid", name, from("authzid", at));
    }
    if let Some((_, at)) = &bind.dn {
        told.notice(at, "binddn is left out", "a bind by SASL has no name of its own");
    }
    if let Some((_, at)) = &bind.realm {
        told.notice(
            at,
            "realm is left out",
            "SCRAM, PLAIN and EXTERNAL have none; of GSSAPI it is a part of bind_principal",
        );
    }
    if by_ticket {
        ticket(model, place, told);
    }
    let allows_plain = secprops(bind, told);
    if mechanisms.contains(&Mechanism::Plain) && is_ever_clear(model) {
        if let Some(at) = allows_plain {
            let right = "bind_in_clear = true: whoever listens reads the password, as there";
            told.notice(&at, "PLAIN is allowed where nothing protects it", right);
            settings.plain("bind_in_clear", true, from("secprops", &at));
        } else {
            let right = "nor does usherd: add starttls=critical or ldaps:// to its servers";
            told.fault(
                place,
                "PLAIN on a connection that nothing protects: lloadd refuses it",
                right,
            );
        }
    }
    Some(settings)
}

fn mechanisms(bind: &Bind, at: &At, told: &mut Told) -> Option<Vec<Mechanism>> {
    let known = "SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, EXTERNAL or GSSAPI";
    let Some((written, at)) = &bind.mechanism else {
        told.fault(
            at,
            "bindmethod=sasl without saslmech",
            &format!("name one: {known}; {PINNED}"),
        );
        return None;
    };
    let mut all = Vec::new();
    for name in written.split_whitespace() {
        match Mechanism::of(name) {
            Some(one) if !all.contains(&one) => all.push(one),
            Some(_) => {}
            None => {
                let found = format!("bindmethod=sasl (saslmech={name}) has no counterpart");
                told.fault(at, &found, &format!("the daemon binds with {known}; {PINNED}"));
                return None;
            }
        }
    }
    if all.is_empty() {
        told.fault(at, "saslmech names no mechanism", &format!("{known}; {PINNED}"));
        return None;
    }
    Some(all)
}

/// What GSSAPI needs beside the mechanism. `at`: where that is named.
fn ticket(model: &Model, at: &At, told: &mut Told) {
    told.notice(
        at,
        "GSSAPI takes its key or tickets where lloadd did",
        "from the environment (KRB5_CLIENT_KTNAME, KRB5CCNAME), unless you write bind_keytab or bind_ccache",
    );
    let mut servers = model.tiers.iter().flat_map(|tier| &tier.servers);
    if servers.any(|server| values::server_url(&server.url).is_ok_and(|url| url.scheme == Scheme::Ldapi)) {
        let right = "write bind_service = \"ldap@HOST\", the host of the server's principal";
        told.fault(at, "GSSAPI to a server without a name (ldapi://)", right);
    }
}

/// `secprops`; where it stands, if it allows PLAIN. Without it lloadd has noanonymous and noplain.
fn secprops(bind: &Bind, told: &mut Told) -> Option<At> {
    let (written, at) = bind.secprops.as_ref()?;
    let mut allows_plain = true;
    for word in written.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name.to_ascii_lowercase().as_str() {
            "noplain" => allows_plain = false,
            "minssf" if value != "0" && value != "1" => told.fault(
                at,
                &format!("secprops {word} has no counterpart"),
                "no mechanism here protects the connection: TLS does, ldaps:// or starttls=critical",
            ),
            "none" | "noanonymous" | "minssf" | "maxssf" | "maxbufsize" => {}
            "noactive" | "nodict" | "forwardsec" | "passcred" => {
                let right = "whether a mechanism has that property is known by its name: see saslmech";
                told.notice(at, &format!("secprops {word} is left out"), right);
            }
            _ => told.fault(at, &format!("secprops {word}: no such property"), "it is left out"),
        }
    }
    allows_plain.then(|| at.clone())
}

/// Whether some server is reached without protection.
fn is_ever_clear(model: &Model) -> bool {
    let mut servers = model.tiers.iter().flat_map(|tier| &tier.servers);
    servers.any(|server| {
        let has_tls = server.settings.all().iter().any(|setting| setting.key == "starttls");
        let is_ldap = values::server_url(&server.url).is_ok_and(|url| url.scheme == Scheme::Ldap);
        is_ldap && !has_tls
    })
}
