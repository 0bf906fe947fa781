//! Where daemons without a configuration file put their control socket: a folder of their own, readable by nobody
//! else, so that any number of them live side by side and `usherd status` still finds the only one.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const SOCKET: &str = "control.sock";
const PREFIX: &str = "usherd-";

/// Makes a private folder (mode 0700) and names the control socket in it. Nothing that another user made is used.
///
/// # Errors
/// Why no such folder could be made.
pub fn make() -> io::Result<PathBuf> {
    let (parent, prefix) = place();
    let pid = std::process::id();
    let mut last = None;
    for attempt in 0..16 {
        let name = if attempt == 0 {
            format!("{prefix}{pid}")
        } else {
            format!("{prefix}{pid}-{attempt}")
        };
        let folder = parent.join(name);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder.join(SOCKET)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no attempt")))
}

/// Removes the folder that [`make`] made for this control socket, and the socket; anything else is left alone.
pub fn remove(control: &Path) {
    let Some(folder) = control.parent() else { return };
    let (parent, prefix) = place();
    let ours = folder.parent() == Some(parent.as_path())
        && folder
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    if ours && control.file_name().is_some_and(|name| name == SOCKET) {
        // Nothing can be done about a failure, and nothing is lost: the next start takes another name.
        let _ = std::fs::remove_file(control);
        let _ = std::fs::remove_dir(folder);
    }
}

/// The control sockets of this user's daemons without a configuration file; sockets of dead daemons may be among them.
pub fn sockets() -> Vec<PathBuf> {
    let (parent, prefix) = place();
    let me = rustix::process::getuid().as_raw();
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|folder| folder.is_dir() && folder.uid() == me)
        })
        .map(|entry| entry.path().join(SOCKET))
        .filter(|socket| socket.exists())
        .take(1000)
        .collect();
    found.sort();
    found
}

/// The folder of folders, and how ours begin there.
fn place() -> (PathBuf, String) {
    match std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_dir())
    {
        Some(dir) => (dir, PREFIX.to_owned()),
        None => (
            std::env::temp_dir(),
            format!("{PREFIX}{}-", rustix::process::getuid().as_raw()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_private_found_and_removed() {
        let first = make().unwrap();
        let second = make().unwrap();
        assert_ne!(first, second, "any number lives side by side");
        assert_eq!(first.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        std::fs::write(&first, "").unwrap();
        assert!(sockets().contains(&first));
        assert!(!sockets().contains(&second), "a folder without a socket is no daemon");
        remove(&first);
        remove(&second);
        assert!(!first.parent().unwrap().exists() && !second.parent().unwrap().exists());
        remove(Path::new("/etc/passwd"));
    }
}
