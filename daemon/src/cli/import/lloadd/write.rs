//! The model as text.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::text::{comment, lists, quoted};
use super::model::{Listener, Model, Settings, Tier};
use super::told::Told;
use super::{decide, servers};

/// The configuration, but for its head and for the name of the file with the password.
pub struct Body {
    before: String,
    after: String,
    /// Whether there is a password.
    pub has_password: bool,
}

/// Decides what is left to decide, and writes. `control`: the control socket, where another one is wanted.
pub fn body(model: &mut Model, listeners: &[Listener], control: Option<&str>, file: &str, told: &mut Told) -> Body {
    let own = decide::own_bind(model, told);
    decide::retry(model, told);
    decide::timeout(model, file, told);
    if let Some(control) = control {
        model.server.text("control", control, String::new());
    }
    let mut before = String::new();
    if !model.server.all().is_empty() {
        before.push_str("\n[server]\n");
        settings(&mut before, &model.server);
    }
    before.push_str(
        "\n# Limits on pending operations and connections hold for each worker: see docs/ldap.md.\n[directory.ldap]\n",
    );
    if let Some(own) = &own {
        before.push_str("identity = \"proxied\"\n");
        settings(&mut before, own);
    } else {
        before.push_str("identity = \"pinned\"\n");
    }
    let mut after = String::new();
    settings(&mut after, &model.directory);
    if let Some(tls) = decide::client_tls(model, told) {
        let _ = writeln!(after, "tls = {tls}");
    }
    if let Some(rules) = model.rules.text() {
        let _ = writeln!(after, "restrict = {rules}");
    }
    tiers(&mut after, model, told);
    let tls = decide::server_tls(model, told);
    for listener in listeners {
        write_listener(&mut after, listener, &model.listen, tls.as_deref());
    }
    Body {
        before,
        after,
        has_password: own.is_some_and(|own| own.has("bind_dn") || own.has("bind_authcid")),
    }
}

impl Body {
    /// All of it. `password`: the name of the file that holds the password.
    pub fn text(&self, file: &str, password: &str, told: &Told) -> String {
        let mut text = comment(&format!(
            "The configuration of {file}, translated by `usherd import lloadd`."
        ));
        lists(&mut text, &told.faults, &told.notices);
        text.push_str(&self.before);
        if self.has_password {
            let _ = writeln!(text, "bind_password_file = {}", *quoted(password));
        }
        text.push_str(&self.after);
        text
    }
}

fn settings(text: &mut String, settings: &Settings) {
    for setting in settings.all() {
        let _ = write!(text, "{} = {}", setting.key, setting.value);
        match setting.from.as_str() {
            "" => text.push('\n'),
            from => {
                let _ = write!(text, "  {}", comment(from));
            }
        }
    }
}

fn tiers(text: &mut String, model: &Model, told: &mut Told) {
    let mut names = HashMap::new();
    for tier in &model.tiers {
        if tier.servers.is_empty() {
            told.notice(&tier.at, "a tier without servers", "it is left out");
            continue;
        }
        let weights = servers::weights(tier, told);
        write_tier(text, tier, weights.as_deref(), &mut names);
    }
}

fn write_tier<'t>(text: &mut String, tier: &'t Tier, weights: Option<&[u32]>, names: &mut HashMap<&'t str, usize>) {
    let _ = write!(
        text,
        "\n{}[[directory.ldap.tier]]\npolicy = \"{}\"\nserver = [\n",
        comment(&tier.at.to_string()),
        tier.policy.name()
    );
    for (at, server) in tier.servers.iter().enumerate() {
        let mut pairs = vec![format!("url = {}", *quoted(&server.url))];
        let seen = names.entry(&server.url).or_insert(0);
        *seen += 1;
        if *seen > 1 {
            pairs.push(format!("name = {}", *quoted(&format!("{} ({seen})", server.url))));
        }
        if let Some(weight) = weights.and_then(|weights| weights.get(at)) {
            pairs.push(format!("weight = {weight}"));
        }
        let rest = server.settings.all().iter();
        pairs.extend(rest.map(|setting| format!("{} = {}", setting.key, setting.value)));
        let _ = writeln!(
            text,
            "  {}  {{ {} }},",
            comment(&server.at.to_string()),
            pairs.join(", ")
        );
    }
    text.push_str("]\n");
}

fn write_listener(text: &mut String, listener: &Listener, common: &Settings, tls: Option<&str>) {
    let _ = writeln!(text, "\n[[listen]]\naddress = {}", *quoted(&listener.address));
    if listener.is_unix {
        text.push_str("protocol = \"ldap\"\n");
    }
    if let Some(mode) = &listener.mode {
        let _ = writeln!(text, "mode = \"{mode}\"");
    }
    if let Some(tls) = tls.filter(|_| !listener.is_unix) {
        if !listener.is_ldaps {
            text.push_str("starttls = true\n");
        }
        let _ = writeln!(text, "tls = {tls}");
    }
    settings(text, common);
}
