//! The files that a plan names.

use super::snapshot;
use crate::config::plan::{Plan, Target, UpstreamTls};
use crate::net::tls;

/// Reads every file that the plan names, so that nothing fails once it is applied.
pub(super) fn verify(plan: &Plan) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    if let Some(Err(why)) = plan.audit.as_ref().map(crate::audit::verify) {
        wrong.push(why);
    }
    for listener in &plan.listeners {
        if let Some(Err(why)) = listener.tls.as_ref().map(|tls| tls::server(tls, None)) {
            wrong.push(format!("listener {}: {why}", snapshot::show(&listener.address)));
        }
    }
    for (name, directory) in &plan.directories {
        for server in directory.tiers.iter().flat_map(|tier| &tier.servers) {
            let checked = match &server.target {
                Target::Local(file) => crate::local_files::check(file),
                Target::Tcp { host, tls: of, .. } => protection(of, Some(host)),
                Target::Srv { tls: of, .. } => protection(of, None),
                Target::Unix(_) => Ok(()),
            };
            if let Err(why) = checked {
                wrong.push(format!("directory {name}, server {}: {why}", server.name));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// `host`: whose certificate it will be, where that is known.
fn protection(of: &UpstreamTls, host: Option<&str>) -> Result<(), String> {
    match of {
        UpstreamTls::None => Ok(()),
        UpstreamTls::Ldaps(client) | UpstreamTls::StartTlsRequired(client) | UpstreamTls::StartTlsTried(client) => {
            tls::client(client)?;
            host.map_or(Ok(()), |host| tls::server_name(client, host).map(|_| ()))
        }
    }
}
