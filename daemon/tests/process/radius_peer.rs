//! Clients of RADIUS in Python, and the daemon that they ask: what the rooms of these tests share.

use std::time::Duration;

use crate::helpers::program;
use crate::proc::{Folder, run, shown};
use crate::radius::SECRET;
use crate::usherd::{Setup, Usherd};

const PYTHON: &str = "/usr/bin/python3";
const LIMIT: Duration = Duration::from_secs(120);

/// A script beside `radius_peer.py`, which it may import.
pub(crate) struct Python {
    folder: Folder,
    script: String,
}

impl Python {
    pub(crate) fn new(script: &str) -> Python {
        let folder = Folder::new("radius");
        folder.write("radius_peer.py", include_str!("radius_peer.py"));
        let script = folder.write("script.py", script);
        Python { folder, script }
    }

    /// Another file beside it.
    pub(crate) fn beside(&self, name: &str, content: &str) {
        self.folder.write(name, content);
    }

    /// Where that file is.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.file(name)
    }

    /// What it prints; it must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = run(PYTHON, &[&["-B", self.script.as_str()], args].concat(), LIMIT);
        assert!(output.status.success(), "{args:?}: {}", shown(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A daemon that asks a service of the tests' helper (user `u5` has the password `pw-u5`), with these listeners: an
    /// address (none: loopback) and further lines each.
    pub(crate) fn before_service(&self, clients: &str, listeners: &[(&str, &str)], service: &str) -> Usherd {
        let calls = self.calls();
        std::fs::write(&calls, "").expect("a temporary file");
        let service = format!("[service.people]\n{}\n{service}\n", program(&["count", &calls]));
        let mut setup = Setup::new().section(&service);
        setup.folder.write("clients.conf", clients);
        for (address, lines) in listeners {
            let address = if address.is_empty() { "127.0.0.1:0" } else { address };
            setup = setup.listen("radius", address, &with_service(lines));
        }
        setup.start()
    }

    /// Where the helper writes the name of each user that it is asked about, one on a line.
    pub(crate) fn calls(&self) -> String {
        self.folder.file("calls")
    }
}

/// Lines of a listener that asks the service.
pub(crate) fn with_service(lines: &str) -> String {
    let authenticate = if lines.contains("answer = \"accounting\"") {
        ""
    } else {
        "authenticate = { service = \"people\", form = \"winbind\" }\n"
    };
    format!("clients_file = \"clients.conf\"\nreject_delay = \"0s\"\n{authenticate}{lines}")
}

/// One client in FreeRADIUS's form, with the secret of the tests.
pub(crate) fn client(name: &str, network: &str, lines: &str) -> String {
    format!("client {name} {{\n\tipaddr = {network}\n\tsecret = \"{SECRET}\"\n{lines}\n}}\n")
}
