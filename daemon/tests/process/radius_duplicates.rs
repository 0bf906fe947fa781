//! What comes again: each request is answered once, and its answer is repeated octet by octet.

use crate::proc::alone;
use crate::radius_peer::{Python, client};
use crate::usherd::Usherd;

fn daemon(helpers: usize) -> (Python, Usherd) {
    let python = Python::new(include_str!("radius_duplicates.py"));
    let service = format!("min = {helpers}\nmax = {helpers}\nrequest_timeout = \"60s\"");
    let usherd = python.before_service(&client("here", "127.0.0.1", ""), &[("", "")], &service);
    (python, usherd)
}

fn run(scene: &str, helpers: usize) {
    let (python, usherd) = daemon(helpers);
    let (port, pid) = (usherd.port(0).to_string(), usherd.process.pid().to_string());
    let mut args = vec![scene, &port];
    let calls = python.calls();
    args.push(&calls);
    if scene == "storm" {
        args.push(&pid);
    }
    python.run(&args);
    usherd.stop();
}

#[test]
fn a_thousand_requests_sent_five_times_each_are_answered_once() {
    let _alone = alone();
    run("many", 16);
}

#[test]
fn who_takes_an_identifier_cancels_the_request_that_had_it() {
    run("cancel", 4);
}

#[test]
fn a_storm_of_one_request_is_answered_with_the_same_octets() {
    let _alone = alone();
    run("storm", 2);
}
