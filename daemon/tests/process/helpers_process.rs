//! What a helper's process is: whose, within which limits, and what it reaches.

use wire::rpc::ErrorCode;

use crate::calls::{Client, Ended};
use crate::helpers::{answer, helpers, program, sections};
use crate::proc::Folder;
use crate::usherd::Setup;

/// Asks the helper to evaluate something in Python.
fn attempt(client: &mut Client, name: &str, what: &str) -> String {
    answer(client.ask(name, format!("try {what}").as_bytes()))
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[test]
fn a_process_has_the_user_groups_limits_folder_and_environment_of_its_service() {
    let folder = Folder::new("work");
    let path = folder.path().display();
    let user = if is_root() {
        "user = \"nobody\"\ngroups = [\"daemon\"]"
    } else {
        ""
    };
    let usherd = helpers(&[(
        "set",
        &["word"],
        &format!(
            "{user}\nlimits = {{ nofile = 77, core = 0, cpu = \"50s\" }}\nenvironment = {{ WORD = \"value\" }}\n\
             directory = \"{path}\""
        ),
    )]);
    // The folder is the test's own: others must be able to enter it.
    let mut client = Client::connect(&usherd);
    let says = answer(client.ask("set", b"says"));
    for part in [
        "'RLIMIT_NOFILE': 77",
        "'RLIMIT_CORE': 0",
        "'RLIMIT_CPU': 50",
        "'WORD': 'value'",
        "'USHERD_HELPER': '1'",
        "'argv': ['word']",
        "'no_new_privs': '1'",
        &format!("'cwd': '{path}'"),
    ] {
        assert!(says.contains(part), "{part} in {says}");
    }
    assert!(!says.contains("HOME"), "nothing of the daemon's environment: {says}");
    if is_root() {
        assert!(
            says.contains("'uid': 65534") && says.contains("'groups': [1]"),
            "{says}"
        );
        let back = attempt(&mut client, "set", "__import__('os').setuid(0)");
        assert!(back.starts_with("PermissionError"), "{back}");
    }
    usherd.stop();
}

#[test]
fn a_sandbox_leaves_what_the_profile_names_and_nothing_else() {
    let folder = Folder::new("sandbox");
    let inside = folder.write("inside", "to be read");
    let written = folder.file("written");
    let here = env!("CARGO_MANIFEST_DIR");
    let sandbox = |profile: &str, more: &str| {
        format!(
            "sandbox = {{ profile = \"{profile}\", read = [\"{here}\", \"{inside}\"], write = [\"{}\"]{more} }}",
            folder.path().display()
        )
    };
    let usherd = helpers(&[
        ("standard", &[], &sandbox("standard", "")),
        ("network", &[], &sandbox("standard", ", network = true")),
        ("strict", &[], &sandbox("strict", "")),
    ]);
    let mut client = Client::connect(&usherd);
    let other = Folder::new("outside");
    let outside = format!("open('{}', 'w')", other.file("file"));
    for name in ["standard", "network", "strict"] {
        let mut says = |what: &str| attempt(&mut client, name, what);
        assert_eq!(says(&format!("open('{inside}').read()")), "'to be read'", "{name}");
        assert_eq!(says(&format!("open('{written}', 'w').write('x')")), "1", "{name}");
        assert!(says(&outside).starts_with("PermissionError"), "{name}");
        assert!(
            says("__import__('os').listdir('/var')").starts_with("PermissionError"),
            "{name}"
        );
        assert!(
            says("__import__('ctypes').CDLL(None).unshare(0x10000000)").starts_with("-1"),
            "{name}"
        );
        assert!(
            says("__import__('ctypes').CDLL(None).ptrace(0, 0, 0, 0)").starts_with("-1"),
            "{name}"
        );
        let socket = says("__import__('socket').socket(2, 1).fileno() > 0");
        assert_eq!(socket == "True", name == "network", "{name}: {socket}");
        assert_eq!(
            says("__import__('socket').socket(1, 1).fileno() > 0"),
            "True",
            "{name}: unix sockets"
        );
        assert_eq!(
            says("__import__('threading').Thread(target=int).start()"),
            "None",
            "{name}: threads"
        );
        let run = says("__import__('subprocess').run(['/bin/true']).returncode");
        assert_eq!(run == "0", name != "strict", "{name}: {run}");
    }
    usherd.stop();
}

#[test]
fn what_the_process_cannot_be_is_told_to_callers_exactly_and_nothing_is_run() {
    let missing = Folder::new("missing");
    let gone = missing.write("gone", "");
    let ran = missing.file("ran");
    let sandbox = format!("sandbox = {{ profile = \"standard\", read = [\"{gone}\"] }}");
    let lines = format!("min = 0\nqueue_timeout = \"1s\"\n{sandbox}");
    let touch = format!("[service.exec]\nhelper = \"exec\"\nprogram = [\"/usr/bin/touch\", \"{ran}\"]\n{sandbox}\n");
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&sections(&[("helper", &[], &lines)]))
        .section(&touch)
        .start();
    std::fs::remove_file(&gone).expect("our own file");
    let mut client = Client::connect(&usherd);
    for name in ["helper", "exec"] {
        let ended = client.ask(name, b"pid");
        let Ended::Error(ErrorCode::Unavailable, text) = &ended else {
            panic!("{name}: {ended:?}")
        };
        assert!(
            text.contains(&format!("the sandbox names {gone}")) && text.contains("No such file"),
            "{name}: {text}"
        );
    }
    assert!(!std::path::Path::new(&ran).exists(), "nothing was run");
    usherd.stop();
}

#[test]
fn what_a_helper_writes_to_its_output_is_logged_line_by_line() {
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&format!("[service.talk]\n{}\n", program(&[])))
        .start();
    let mut client = Client::connect(&usherd);
    assert_eq!(answer(client.ask("talk", b"log it is said\nin two lines")), "said");
    crate::proc::wait_for("the lines", std::time::Duration::from_secs(5), || {
        let log = usherd.process.output();
        let line = |said: &str| {
            log.lines()
                .any(|line| line.contains(said) && line.contains("service=\"talk\""))
        };
        (line("it is said") && line("in two lines")).then_some(())
    });
    usherd.stop();
}
