//! What systemd is told of this process (sd_notify(3)): nothing where it does not ask.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Ready to serve.
pub fn ready() {
    say("READY=1\n");
}

/// The configuration is being read again; [`ready`] ends that.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
    say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
}

/// On its way to the end.
pub fn stopping() {
    say("STOPPING=1\n");
}

/// Another process is the service now.
pub fn succeeded_by(pid: u32) {
    say(&format!("MAINPID={pid}\nREADY=1\n"));
}

fn say(text: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let name = name.as_bytes();
    let address = match name.strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(abstracted) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(abstracted)
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
