//! `usherd check`: doubts about what built-in helpers stand on. They are about this machine and not about the file, so only
//! `check` asks them; what is not there to be asked is no mistake.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::plan::{Builtin, Service, ServiceKind};
use crate::config::{Diagnostic, Plan};

/// Samba's own reader of smb.conf; a machine without it is passed over.
const TESTPARM: &str = "testparm";
const TESTPARM_TIMEOUT: Duration = Duration::from_secs(5);
/// Where PAM's services are written, on a machine that has the first (else it reads one file of old, which is not looked at).
const PAM_FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// All doubts.
pub(super) fn doubts(plan: &Plan) -> Vec<Diagnostic> {
    let of = |wanted: Builtin| {
        plan.services.values().filter(move |service| {
            matches!(service.kind, ServiceKind::Helper { builtin: Some(builtin), .. } if builtin == wanted)
        })
    };
    let mut found = Vec::new();
    if let Some(largest) = of(Builtin::Winbind)
        .max_by_key(|service| service.max)
        .filter(|service| service.max > 1)
    {
        found.extend(domain_connections().and_then(|connections| serialised(largest, connections)));
    }
    for service in of(Builtin::Pam) {
        found.extend(pam_services(service).filter_map(|name| missing(service, name)));
    }
    found
}

fn serialised(service: &Service, connections: usize) -> Option<Diagnostic> {
    if connections >= service.max {
        return None;
    }
    let mut found = Diagnostic::warning(format!(
        "winbindd asks each domain {connections} thing{} at a time, and the service `{}` has up to {} helpers",
        if connections == 1 { "" } else { "s" },
        service.name,
        service.max
    ));
    found.help(format!(
        "set `winbind max domain connections = {}` in smb.conf: more helpers than that wait for each other",
        service.max
    ));
    Some(found)
}

/// `winbind max domain connections` of this machine's Samba, where it has one.
fn domain_connections() -> Option<usize> {
    let mut child = Command::new(TESTPARM)
        .args(["-s", "--parameter-name=winbind max domain connections"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begun.elapsed() > TESTPARM_TIMEOUT {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The names that the helper of this service may ask PAM for.
fn pam_services(service: &Service) -> impl Iterator<Item = &str> {
    let named = |argument: &'_ String| argument.starts_with("--service=");
    let default = (!service.program.iter().any(named)).then_some("login");
    let written = service.program.iter().filter_map(|argument| {
        argument
            .strip_prefix("--service=")
            .or_else(|| argument.strip_prefix("--allow="))
    });
    default.into_iter().chain(written)
}

fn missing(service: &Service, name: &str) -> Option<Diagnostic> {
    let wrapped = service.environment.contains_key("PAM_WRAPPER_SERVICE_DIR");
    let there = PAM_FOLDERS.iter().any(|folder| Path::new(folder).join(name).exists());
    if there || wrapped || !Path::new(PAM_FOLDERS[0]).exists() {
        return None;
    }
    let mut found = Diagnostic::warning(format!(
        "the service `{}` asks PAM for `{name}`, which this machine has not",
        service.name
    ));
    found.help(format!(
        "write /etc/pam.d/{name}: without it PAM follows /etc/pam.d/other, which usually refuses everybody"
    ));
    Some(found)
}
