use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use std::process::ExitStatus;

use mio::unix::pipe;

use super::*;
use crate::config::plan::ServiceKind;

fn service(program: &[&str]) -> Service {
    Service {
        max: 1,
        environment: BTreeMap::from([("WORD".into(), "value of ours".into())]),
        ..Service::sample(ServiceKind::Exec, program)
    }
}

fn ended(program: &mut Program) -> ExitStatus {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = program.reap() {
            return status;
        }
        assert!(Instant::now() < until, "the program did not end");
        std::thread::yield_now();
    }
}

fn output(pipe: Option<pipe::Receiver>) -> String {
    let mut pipe = pipe.unwrap();
    pipe.set_nonblocking(false).unwrap();
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_program_has_our_words_our_environment_and_nothing_else() {
    // One of our descriptors, which no program may find.
    let name = format!("usherd-spawner-test-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    let ours = std::fs::File::create(&path).unwrap();
    let script = "pwd; env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL=; ls -l /proc/self/fd/ >&2; echo \"$1\"; cat";
    let mut program = Program::start(&service(&["/bin/sh", "-c", script, "sh", "$(false) `x` ; *"])).unwrap();
    program.stdin.take().unwrap().write_all(b"the request").unwrap();
    assert_eq!(
        output(program.stdout.take()),
        "/\nWORD=value of ours\n$(false) `x` ; *\nthe request"
    );
    let descriptors = output(program.stderr.take());
    assert!(
        descriptors.contains("pipe:") && !descriptors.contains(&name),
        "{descriptors}"
    );
    drop(ours);
    std::fs::remove_file(path).unwrap();
    assert_eq!(ended(&mut program).code(), Some(0));
}

#[test]
fn what_cannot_be_started_says_why() {
    let absent = Program::start(&service(&["/nonexistent/program"])).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    let no_program = Program::start(&service(&["/etc/passwd"])).unwrap_err();
    assert_eq!(no_program.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn an_interrupt_reaches_what_the_program_started() {
    let mut program = Program::start(&service(&[
        "/bin/sh",
        "-c",
        "trap 'exit 7' INT; /bin/sh -c 'echo ready; exec sleep 60'; exit 1",
    ]))
    .unwrap();
    let mut ready = [0; 6];
    let stdout = program.stdout.as_mut().unwrap();
    stdout.set_nonblocking(false).unwrap();
    stdout.read_exact(&mut ready).unwrap();
    program.interrupt();
    // The shell goes on only because the other one was interrupted too.
    assert_eq!(ended(&mut program).code(), Some(7));
}

#[test]
fn a_dropped_program_is_killed() {
    let mut program = Program::start(&service(&["/bin/sleep", "60"])).unwrap();
    let mut stdout = program.stdout.take().unwrap();
    stdout.set_nonblocking(false).unwrap();
    let begun = Instant::now();
    drop(program);
    // Its end of the pipe closes with it.
    assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(30));
}
