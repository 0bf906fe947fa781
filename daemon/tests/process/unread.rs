//! What a client does not read: where it waits, and how much of it.

use std::time::Duration;

use crate::client::Client;
use crate::ops::{self, present};
use crate::slapd::{BASE, PHOTO_BYTES, PHOTOS, Slapd};
use crate::usherd::{Setup, server};

/// Octets that the kernel holds to be sent from this port, over all its connections.
fn unsent(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("proc");
    let local = format!(":{port:04X}");
    let queued = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (sending, _) = columns.get(4)?.split_once(':')?;
        (columns.get(1)?.ends_with(&local)).then(|| usize::from_str_radix(sending, 16).expect("a number"))
    };
    table.lines().filter_map(queued).sum()
}

/// The most that the kernel held for one client that asked for 10 MB and read nothing.
fn held_for_who_does_not_read(setting: &str) -> usize {
    let slapd = Slapd::start();
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", &format!("directory = \"corp\"\n{setting}"))
        .start();
    let port = usherd.port(0);
    let mut client = Client::connect(&usherd.plain(0));
    let base = format!("ou=photos,{BASE}");
    client.send(&ops::search(&base, ops::SUB, &present("jpegPhoto"), &["jpegPhoto"]));
    let mut most = 0;
    for _ in 0..60 {
        most = most.max(unsent(port));
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(client);
    usherd.stop();
    most
}

#[test]
fn what_a_client_does_not_read_takes_little_of_the_memory_that_the_kernel_has_for_everybody() {
    let (usual, wide) = (
        held_for_who_does_not_read(""),
        held_for_who_does_not_read("tcp_unsent_bytes_max = \"2MiB\""),
    );
    eprintln!(
        "of {} octets the kernel holds {usual}, and {wide} where it may hold more",
        PHOTOS * PHOTO_BYTES
    );
    assert!(usual > 0 && usual <= 384 * 1024, "{usual}");
    assert!(wide > 2 * usual, "{wide}");
}
