//! The tables of the built-in helpers `winbind` and `pam`: what their processes are told as arguments.

use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::reader::Section;
use super::values::{DURATION_MAX, show_duration};

/// `[service.NAME.winbind]`.
#[derive(Debug)]
pub struct Winbind {
    /// The section.
    pub place: Place,
    /// The domain of names that say none.
    pub domain: Option<At<String>>,
    /// Names of that domain are given without it.
    pub use_default_domain: Option<At<bool>>,
    /// Groups that may log on.
    pub require_membership: Option<At<Vec<At<String>>>>,
    /// Entries in one page of a listing.
    pub page_entries: Option<At<usize>>,
    /// Passwords that expire sooner are told about.
    pub password_warning: Option<At<Duration>>,
}

/// `[service.NAME.pam]`.
#[derive(Debug)]
pub struct Pam {
    /// The section.
    pub place: Place,
    /// The PAM service of requests that name none.
    pub service: Option<At<String>>,
    /// PAM services that requests may name.
    pub services: Option<At<Vec<At<String>>>>,
}

pub(super) fn read_winbind(p: &mut Problems, mut section: Section<'_>) -> Winbind {
    let winbind = Winbind {
        place: section.place.clone(),
        domain: section.string(p, "domain"),
        use_default_domain: section.boolean(p, "use_default_domain"),
        require_membership: section.strings(p, "require_membership"),
        page_entries: section.count(p, "page_entries", 1, 10_000),
        password_warning: section.duration(p, "password_warning", Duration::ZERO, DURATION_MAX),
    };
    section.finish(p);
    winbind
}

pub(super) fn read_pam(p: &mut Problems, mut section: Section<'_>) -> Pam {
    let pam = Pam {
        place: section.place.clone(),
        service: section.string(p, "service"),
        services: section.strings(p, "services"),
    };
    section.finish(p);
    pam
}

/// The arguments of `usherd helper winbind`.
pub(super) fn winbind_arguments(p: &mut Problems, raw: Option<&Winbind>) -> Vec<String> {
    let Some(raw) = raw else { return Vec::new() };
    let mut arguments = Vec::new();
    if let Some(domain) = &raw.domain {
        if domain.value.is_empty() || domain.value.contains(['\\', '@', '/', '\0']) {
            p.error(&domain.place, "`domain` is no NetBIOS name of a domain")
                .label(format!("found \"{}\"", domain.value.escape_debug()))
                .help("write the short name, as `wbinfo --own-domain` prints it: domain = \"CORP\"");
        }
        arguments.push(format!("--domain={}", domain.value));
    }
    if let Some(written) = raw.use_default_domain.as_ref().filter(|at| at.value) {
        if raw.domain.is_none() {
            p.error(&written.place, "`use_default_domain` needs `domain`")
                .help("add domain = \"CORP\": whose names are given without their domain");
        }
        arguments.push("--use-default-domain".to_owned());
    }
    for group in raw.require_membership.iter().flat_map(|at| &at.value) {
        if group.value.is_empty() || group.value.contains('\0') {
            p.error(&group.place, "a group has a name")
                .help("write a SID or a name: require_membership = [\"CORP\\\\vpn\"]");
        }
        arguments.push(format!("--require-membership={}", group.value));
    }
    if let Some(entries) = &raw.page_entries {
        arguments.push(format!("--page-entries={}", entries.value));
    }
    if let Some(warning) = &raw.password_warning {
        arguments.push(format!("--password-warning={}", show_duration(warning.value)));
    }
    arguments
}

/// The arguments of `usherd helper pam`.
pub(super) fn pam_arguments(p: &mut Problems, raw: Option<&Pam>) -> Vec<String> {
    let Some(raw) = raw else { return Vec::new() };
    let mut arguments = Vec::new();
    if let Some(service) = &raw.service {
        pam_service(p, service);
        arguments.push(format!("--service={}", service.value));
    }
    for service in raw.services.iter().flat_map(|at| &at.value) {
        pam_service(p, service);
        arguments.push(format!("--allow={}", service.value));
    }
    arguments
}

/// The name of a file in `/etc/pam.d`, and nothing else.
fn pam_service(p: &mut Problems, at: &At<String>) {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@');
    if at.value.is_empty() || at.value.starts_with('.') || !at.value.chars().all(usual) {
        p.error(&at.place, "this is no name of a PAM service")
            .label(format!("found \"{}\"", at.value.escape_debug()))
            .help("write the name of a file in /etc/pam.d, without the folder: \"login\"");
    }
}
