//! winbindd, the real one, of a machine that is in no domain: ready in a quarter of a second, with users of its own.
//!
//! It starts processes that outlive it (samba-dcerpcd, rpcd_lsad), so it lives in a process namespace, which the kernel clears
//! when its first process ends, however that happens. It finds "Unix" users in files of ours, by nss_wrapper; its clients find its
//! socket by the same environment ([`Winbind::environment`]).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::pam::wrapper;
use crate::proc::{Folder, Process, require, run_reading, run_with, shown, wait_for};

/// The machine's own domain.
pub(crate) const DOMAIN: &str = "BOX";
/// The password of every user.
pub(crate) const PASSWORD: &str = "Secret-123";
/// The users and their uids, in group `users` (gid 100); alice and bob also in `staff` (gid 5100).
/// All "Domain Users" are in the alias with the relative number 3000.
pub(crate) const USERS: [(&str, u32); 6] = [
    ("alice", 5001),
    ("bob", 5002),
    // Disabled.
    ("carol", 5003),
    // Must change the password.
    ("dave", 5004),
    // For wrong passwords: three lock the account.
    ("erin", 5005),
    // For changed passwords.
    ("frank", 5006),
];

/// A running winbindd.
pub(crate) struct Winbind {
    folder: Folder,
    process: Process,
}

impl Winbind {
    /// One of its own, that answers.
    pub(crate) fn start() -> Self {
        for program in [
            "/usr/sbin/winbindd",
            "/usr/bin/pdbedit",
            "/usr/bin/net",
            "/usr/bin/wbinfo",
            "/usr/bin/unshare",
        ] {
            require(program);
        }
        wrapper("libnss_wrapper.so", "libnss-wrapper");
        let folder = Folder::new("winbind");
        for name in ["private", "lock", "state", "cache", "pid", "log", "ncalrpc", "wbsock"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let mut passwd =
            String::from("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n");
        for (name, uid) in USERS {
            passwd.push_str(&format!(
                "{name}:x:{uid}:100:{name} of the test:/home/{name}:/bin/bash\n"
            ));
        }
        folder.write("passwd", passwd);
        folder.write(
            "group",
            "root:x:0:\nnogroup:x:65534:\nusers:x:100:\nstaff:x:5100:alice,bob\nhelpers:x:5200:\n",
        );
        folder.write("smb.conf", configuration(&folder));
        let process = Self::spawn(&folder);
        let winbind = Self { folder, process };
        winbind.people();
        winbind.until_ready();
        winbind
    }

    fn spawn(folder: &Folder) -> Process {
        let configuration = folder.file("smb.conf");
        let environment: Vec<String> = variables(folder)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut args: Vec<&str> = ["--fork", "--pid", "--kill-child", "--", "/usr/bin/env"].into();
        args.extend(environment.iter().map(String::as_str));
        // The first process of the namespace takes in the orphans; with it all end.
        args.extend(["/bin/sh", "-c", "\"$@\" & wait", "sh", "/usr/sbin/winbindd"]);
        args.extend(["-s", configuration.as_str(), "-F", "--no-process-group"]);
        Process::start("/usr/bin/unshare", &args, &folder.path().join("log/said"))
    }

    /// The users, made while winbindd starts.
    fn people(&self) {
        for (name, _) in USERS {
            let input = self.folder.write("input", format!("{PASSWORD}\n{PASSWORD}\n"));
            self.tool("/usr/bin/pdbedit", &["-a", "-t", "-u", name], &input);
        }
        let net = |args: &[&str]| self.tool("/usr/bin/net", args, "/dev/null");
        net(&[
            "groupmap",
            "add",
            "rid=513",
            "ntgroup=Domain Users",
            "unixgroup=users",
            "type=domain",
        ]);
        net(&[
            "groupmap",
            "add",
            "rid=2000",
            "ntgroup=Staff",
            "unixgroup=staff",
            "type=domain",
        ]);
        net(&[
            "groupmap",
            "add",
            "rid=3000",
            "ntgroup=Helpers",
            "unixgroup=helpers",
            "type=local",
        ]);
        let domain = self.domain_sid();
        net(&[
            "groupmap",
            "addmem",
            &format!("{domain}-3000"),
            &format!("{domain}-513"),
        ]);
        net(&["sam", "set", "pwdmustchangenow", "dave", "yes"]);
        self.tool("/usr/bin/pdbedit", &["-u", "carol", "-r", "-c", "[D]"], "/dev/null");
        self.tool(
            "/usr/bin/pdbedit",
            &["-P", "bad lockout attempt", "-C", "3"],
            "/dev/null",
        );
    }

    /// The SID of its own domain.
    fn domain_sid(&self) -> String {
        let configuration = self.folder.file("smb.conf");
        let args = ["-s", &configuration, "getlocalsid"];
        let output = run_with("/usr/bin/net", &args, &[], Duration::from_secs(20));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let sid = said.split_whitespace().find(|word| word.starts_with("S-1-5-21-"));
        sid.unwrap_or_else(|| panic!("no SID: {}", shown(&output))).to_owned()
    }

    fn tool(&self, program: &str, args: &[&str], input: &str) {
        let configuration = self.folder.file("smb.conf");
        let variables = variables(&self.folder);
        let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let args = [&["-s", configuration.as_str()], args].concat();
        let output = run_reading(program, &args, &environment, input.as_ref(), Duration::from_secs(20));
        assert!(output.status.success(), "{program} {args:?}: {}", shown(&output));
    }

    fn until_ready(&self) {
        let variables = variables(&self.folder);
        let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let user = format!("{DOMAIN}\\alice");
        wait_for("winbindd answers", Duration::from_secs(20), || {
            let output = run_with("/usr/bin/wbinfo", &["-i", &user], &environment, Duration::from_secs(20));
            output.status.success().then_some(())
        });
    }

    /// What a client needs in its environment to find this winbindd.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        variables(&self.folder)
    }

    /// The same, for a service.
    pub(crate) fn environment(&self) -> String {
        let variables = self.variables();
        let pairs: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name} = \"{value}\""))
            .collect();
        format!("environment = {{ {} }}", pairs.join(", "))
    }

    /// Where its sockets, databases and logs are.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process in which winbindd asks the domain `domain`, as this test sees its number.
    pub(crate) fn domain_child(&self, domain: &str) -> u32 {
        let title = format!("domain child [{domain}]");
        let mut found = descendants(self.process.pid()).into_iter().filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&title)
        });
        found
            .next()
            .unwrap_or_else(|| panic!("winbindd has no {title}\n{}", self.process.output()))
    }

    /// SIGSTOP or SIGCONT to its domain child: what goes through it hangs, the rest goes on.
    pub(crate) fn signal_domain_child(&self, domain: &str, signal: &str) {
        let pid = self.domain_child(domain).to_string();
        let output = run_with("/bin/kill", &[&format!("-{signal}"), &pid], &[], Duration::from_secs(5));
        assert!(output.status.success(), "{}", shown(&output));
    }

    /// Ends it, and everything it started.
    pub(crate) fn kill(&mut self) {
        let all = descendants(self.process.pid());
        self.process.kill();
        wait_for("all of winbindd is gone", Duration::from_secs(5), || {
            let left = all
                .iter()
                .any(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
            (!left).then_some(())
        });
    }

    /// Starts it again after [`kill`](Self::kill), with the same users.
    pub(crate) fn revive(&mut self) {
        let _ = fs::remove_file(self.path("pid/winbindd.pid"));
        let _ = fs::remove_file(self.path("pid/samba-dcerpcd.pid"));
        self.process = Self::spawn(&self.folder);
        self.until_ready();
    }
}

fn variables(folder: &Folder) -> [(&'static str, String); 4] {
    [
        ("LD_PRELOAD", "libnss_wrapper.so".to_owned()),
        ("NSS_WRAPPER_PASSWD", folder.file("passwd")),
        ("NSS_WRAPPER_GROUP", folder.file("group")),
        ("SELFTEST_WINBINDD_SOCKET_DIR", folder.file("wbsock")),
    ]
}

fn configuration(folder: &Folder) -> String {
    let folder = folder.path().display();
    format!(
        "[global]\nworkgroup = WORK\nnetbios name = {DOMAIN}\nserver role = standalone server\npassdb backend = tdbsam\n\
         private dir = {folder}/private\nlock directory = {folder}/lock\nstate directory = {folder}/state\n\
         cache directory = {folder}/cache\npid directory = {folder}/pid\nncalrpc dir = {folder}/ncalrpc\n\
         log file = {folder}/log/%m\nlog level = winbind:3\ninterfaces = lo\nbind interfaces only = yes\n\
         winbindd socket directory = {folder}/wbsock\nntlm auth = mschapv2-and-ntlmv2-only\nwinbind enum users = yes\nwinbind enum groups = yes\n\
         idmap config * : backend = tdb\nidmap config * : range = 100000-199999\n"
    )
}

/// All processes below one.
fn descendants(of: u32) -> Vec<u32> {
    let mut all = vec![of];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    all
}
