//! Becoming somebody else for good.

use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid, set_thread_uid};
use serde::{Deserialize, Serialize};

/// Whom a program runs as, in numbers: names were looked up when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// The process has these groups and no others. It has one thread, so that what is set for the thread is set for the process.
///
/// # Errors
/// What could not be done, in words.
pub(super) fn set_groups(groups: &[u32]) -> Result<(), String> {
    let mut wanted: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&wanted).map_err(|error| format!("the supplementary groups cannot be set: {error}"))?;
    let mut has = getgroups().map_err(|error| format!("the supplementary groups cannot be read: {error}"))?;
    for list in [&mut wanted, &mut has] {
        list.sort_by_key(|group| group.as_raw());
        list.dedup();
    }
    if wanted == has {
        Ok(())
    } else {
        Err("the supplementary groups do not hold".into())
    }
}

/// The process is this user's, and cannot go back.
///
/// # Errors
/// What could not be done, in words.
pub(super) fn set_user(user: &User) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid).map_err(|error| format!("group {}: {error}", user.gid))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| format!("user {}: {error}", user.uid))?;
    let held = [getuid(), geteuid()] == [uid; 2] && [getgid(), getegid()] == [gid; 2];
    let back = !uid.is_root() && set_thread_uid(Uid::ROOT).is_ok();
    if held && !back {
        Ok(())
    } else {
        Err(format!("user {} and group {} do not hold", user.uid, user.gid))
    }
}
