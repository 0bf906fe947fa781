//! Accounting: a record is acknowledged once it is written, or kept where a crash does not reach it, and is delivered then.

use crate::helpers::program;
use crate::proc::alone;
use crate::radius_peer::{Python, client};
use crate::usherd::{Setup, Usherd, restrict};

fn python() -> Python {
    Python::new(include_str!("radius_accounting.py"))
}

/// A daemon whose records go there; `sink` has `FOLDER` for its own folder.
fn start(setup: Setup, sink: &str) -> Usherd {
    restrict(&setup.folder.write("clients.conf", client("here", "127.0.0.0/8", "")));
    let sink = sink.replace("FOLDER", setup.folder.path().to_str().expect("UTF-8"));
    let lines = format!("clients_file = \"clients.conf\"\nanswer = \"accounting\"\naccounting = {sink}");
    setup.listen("radius", "127.0.0.1:0", &lines).start()
}

#[test]
fn a_record_is_a_line_once_it_is_acknowledged() {
    let usherd = start(Setup::new(), "{ file = \"FOLDER/records\" }");
    python().run(&["lines", &usherd.port(0).to_string(), &usherd.folder.file("records")]);
    usherd.stop();
}

#[test]
fn the_detail_format_is_freeradius_s() {
    let usherd = start(Setup::new(), "{ file = \"FOLDER/detail\", format = \"detail\" }");
    python().run(&["detail", &usherd.port(0).to_string(), &usherd.folder.file("detail")]);
    usherd.stop();
}

#[test]
fn what_was_acknowledged_before_a_kill_is_written() {
    let _alone = alone();
    let mut usherd = start(Setup::new(), "{ file = \"FOLDER/records\" }");
    usherd.expect_end();
    let (port, pid) = (usherd.port(0).to_string(), usherd.process.pid().to_string());
    python().run(&["killed", &port, &usherd.folder.file("records"), &pid]);
}

#[test]
fn what_a_service_does_not_take_is_kept_over_a_kill_and_delivered() {
    let _alone = alone();
    let python = python();
    python.beside("calls", "");
    python.beside("calls.refuse", "");
    let calls = python.calls();
    let service = format!("[service.books]\n{}\nmin = 1\nmax = 1\n", program(&["account", &calls]));
    let setup = Setup::new().server("state_dir = \"state\"").section(&service);
    let sink = "{ service = \"books\", spool_after = \"100ms\" }";
    let mut usherd = start(setup, sink);
    python.run(&["down", &usherd.port(0).to_string(), &calls]);
    usherd.restart();
    std::fs::remove_file(format!("{calls}.refuse")).expect("it is there");
    python.run(&["after", &calls, "100"]);
    usherd.stop();
}
