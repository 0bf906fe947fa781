//! What the process of a service is given: its user and groups, sandbox, working directory and environment.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd;

use super::diagnostic::{At, Problems};
use super::files::{self, Folder};
use super::plan::{Sandbox, SandboxProfile, User};
use super::raw;

/// What a program finds as PATH when its environment says nothing of it.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Set for helpers by the daemon itself.
const OURS: [&str; 2] = ["USHERD_HELPER", "USHERD_DBUS_FD"];
/// Groups that one process can have (Linux's NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// As whom it runs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Account {
    /// None: as the daemon's user.
    pub(super) user: Option<User>,
    /// None: the daemon's.
    pub(super) groups: Option<Vec<u32>>,
}

/// User and groups, looked up. `root`: whether the daemon may change them at all.
pub(super) fn account(p: &mut Problems, raw: &raw::Service, root: bool) -> Account {
    let user = raw.user.as_ref().and_then(|at| Some((at, user(p, at)?)));
    let mut account = Account::default();
    if let Some((at, user)) = user {
        let own = user.uid == rustix::process::geteuid().as_raw();
        if !root && !own {
            refuse(p, at, "user", &format!("to run as {}", user.name));
        }
        account.groups = groups_of(&user).filter(|_| root);
        account.user = Some(user).filter(|_| root);
    }
    if let Some(written) = &raw.groups {
        if !root {
            refuse(p, written, "groups", "to be in other groups");
        }
        let found: Vec<u32> = written.value.iter().filter_map(|name| group(p, name)).collect();
        account.groups = Some(found);
    }
    account
}

fn refuse<T>(p: &mut Problems, at: &At<T>, key: &str, what: &str) {
    p.error(&at.place, format!("`{key}` needs a daemon that runs as root"))
        .label(format!("only root can start a process {what}"))
        .help(format!(
            "start usherd as root, or leave `{key}` out: the process runs as usherd does"
        ));
}

fn user(p: &mut Problems, at: &At<String>) -> Option<User> {
    let found = match at.value.parse::<u32>() {
        Ok(number) => unistd::User::from_uid(number.into()),
        Err(_) => unistd::User::from_name(&at.value),
    };
    match found {
        Ok(Some(found)) => {
            return Some(User {
                name: found.name,
                uid: found.uid.as_raw(),
                gid: found.gid.as_raw(),
            });
        }
        Ok(None) => p.error(&at.place, format!("there is no user `{}`", at.value)),
        Err(error) => p
            .error(&at.place, format!("the user `{}` cannot be looked up", at.value))
            .label(error.desc()),
    };
    None
}

fn group(p: &mut Problems, at: &At<String>) -> Option<u32> {
    if let Ok(number) = at.value.parse::<u32>() {
        return Some(number);
    }
    match unistd::Group::from_name(&at.value) {
        Ok(Some(found)) => return Some(found.gid.as_raw()),
        Ok(None) => p.error(&at.place, format!("there is no group `{}`", at.value)),
        Err(error) => p
            .error(&at.place, format!("the group `{}` cannot be looked up", at.value))
            .label(error.desc()),
    };
    None
}

/// All groups that a user is in, the primary one included.
fn groups_of(user: &User) -> Option<Vec<u32>> {
    let name = CString::new(user.name.as_str()).ok()?;
    let found = unistd::getgrouplist(&name, user.gid.into()).ok()?;
    Some(found.into_iter().take(GROUPS_MAX).map(unistd::Gid::as_raw).collect())
}

/// The sandbox, its paths made absolute.
pub(super) fn sandbox(p: &mut Problems, raw: &raw::Service, folder: &Folder) -> Sandbox {
    let Some(raw) = &raw.sandbox else {
        return Sandbox {
            network: true,
            ..Sandbox::default()
        };
    };
    if raw.profile.is_none() && p.absent(&raw.place, "profile") {
        p.error(&raw.place, "`sandbox` without a profile")
            .help("add profile = \"standard\" or \"strict\"");
    }
    let profile = raw.profile.as_ref().map_or(SandboxProfile::None, |at| at.value);
    let mut paths = |written: &Option<At<Vec<At<String>>>>| -> Vec<PathBuf> {
        let written = written.iter().flat_map(|at| &at.value);
        written.filter_map(|at| existing(p, at, folder)).collect()
    };
    let (read, write) = (paths(&raw.read), paths(&raw.write));
    let network = raw
        .network
        .as_ref()
        .map_or(profile == SandboxProfile::None, |at| at.value);
    if let (SandboxProfile::None, Some(at)) = (profile, &raw.profile)
        && (raw.read.is_some() || raw.write.is_some() || raw.network.as_ref().is_some_and(|at| !at.value))
    {
        p.error(&at.place, "profile \"none\" forbids nothing")
            .label("what else is written in `sandbox` has no effect")
            .help("write profile = \"standard\" or \"strict\", or leave `sandbox` out");
    }
    Sandbox {
        profile,
        read,
        write,
        network,
    }
}

fn existing(p: &mut Problems, at: &At<String>, folder: &Folder) -> Option<PathBuf> {
    let path = folder.path(&at.value);
    match std::fs::metadata(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            p.error(
                &at.place,
                format!("the path {} of a sandbox cannot be used", path.display()),
            )
            .label(files::plain(&error))
            .help("what is not there cannot be allowed: make it first, or name the folder that it will be in");
            None
        }
    }
}

/// An existing folder.
pub(super) fn working_directory(p: &mut Problems, at: &At<String>, folder: &Folder) -> Option<PathBuf> {
    let path = folder.path(&at.value);
    let failure = match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Some(path),
        Ok(_) => "it is not a folder".to_owned(),
        Err(error) => files::plain(&error),
    };
    p.error(
        &at.place,
        format!("the working directory {} cannot be used", path.display()),
    )
    .label(failure);
    None
}

/// The whole environment: `PATH`, what is handed on of the daemon's own, and what is written, the later winning.
pub(super) fn environment(p: &mut Problems, raw: &raw::Service) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), PATH_DEFAULT.to_owned())]);
    for name in raw.environment_pass.iter().flat_map(|at| &at.value) {
        if !check_name(p, name) {
            continue;
        }
        match std::env::var(&name.value) {
            Ok(value) => {
                environment.insert(name.value.clone(), value);
            }
            Err(std::env::VarError::NotPresent) => {}
            Err(std::env::VarError::NotUnicode(_)) => {
                p.error(
                    &name.place,
                    format!("`{}` of the daemon's environment is not UTF-8", name.value),
                )
                .help("leave it out, or write its value in `environment`");
            }
        }
    }
    for (name, value) in &raw.environment {
        check_name(p, name);
        if value.value.contains('\0') {
            p.error(&value.place, "a variable cannot contain a zero byte");
        }
        environment.insert(name.value.clone(), value.value.clone());
    }
    environment
}

fn check_name(p: &mut Problems, name: &At<String>) -> bool {
    if name.value.is_empty() || name.value.contains(['=', '\0']) {
        p.error(
            &name.place,
            format!("`{}` cannot be the name of a variable", name.value.escape_debug()),
        );
        return false;
    }
    if OURS.contains(&name.value.as_str()) {
        p.error(&name.place, format!("`{}` is set by usherd itself", name.value))
            .help("leave it out");
        return false;
    }
    true
}
