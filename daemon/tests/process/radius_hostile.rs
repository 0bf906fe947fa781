//! Datagrams that no client sends: nothing is let in by them, and what comes right after is answered.

use crate::proc::alone;
use crate::radius_peer::Python;

fn run(scene: &str) {
    let python = Python::new(include_str!("radius_hostile.py"));
    let clients = python.run(&["clients"]);
    let usherd = python.before_service(&clients, &[("", "")], "min = 2\nmax = 2");
    let port = usherd.port(0).to_string();
    let more = match scene {
        "ask" => Some(usherd.folder.file("log")),
        "peers" => Some(usherd.process.pid().to_string()),
        _ => None,
    };
    let args = [scene, &port];
    let args: Vec<&str> = args.into_iter().chain(more.as_deref()).collect();
    python.run(&args);
    usherd.stop();
}

#[test]
fn malformed_requests_are_dropped_for_what_they_are() {
    run("ask");
}

#[test]
fn no_changed_bit_and_nothing_made_up_is_answered() {
    run("noise");
}

#[test]
fn the_memory_for_many_peers_is_bounded() {
    let _alone = alone();
    run("peers");
}
