//! BlastRADIUS (CVE-2024-3596): which requests are answered, and how the answers are protected.

use crate::radius_peer::Python;

#[test]
fn the_blast_radius_matrix() {
    let python = Python::new(include_str!("radius_blast.py"));
    let clients = python.run(&["clients"]);
    let usherd = python.before_service(&clients, &[("", "")], "max = 4\nmin = 4");
    let (port, log) = (usherd.port(0).to_string(), usherd.folder.file("log"));
    python.run(&["ask", &port, &log]);
    usherd.stop();
}
