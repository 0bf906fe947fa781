//! Whole runs against a server that answers over a real socket, rightly or with one fault; what a run reports must be
//! that fault and nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use wire::ber::{self, Reader};
use wire::frame::Step;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::message::{oid, write_entry};
use wire::ldap::result::{code, write_extended, write_notice_of_disconnection, write_result};

use super::plan::Plan;
use super::shared::Event;
use super::tally::Tally;
use super::{Args, Protocol, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// What the server does wrong, on the search with this number on a connection (counted from 1) unless said otherwise.
#[derive(Clone, Copy)]
enum Fault {
    None,
    /// Gives the entry of another user, on every hundredth search.
    Another,
    /// Gives the result twice, on every hundredth search.
    Twice,
    /// Gives the entry behind the result, on every hundredth search.
    Late,
    /// Does not answer.
    Silent(u32),
    /// Says that it goes, and closes.
    Leaves(u32),
    /// Waits.
    Stalls(u32, Duration),
    /// Answers the first binds, so many of all connections, with this code.
    Refuses(u32, u32),
}

/// Runs `bench ldap` with these flags against such a server on a port of its own.
fn counted(fault: Fault, flags: &[&str]) -> Result<Tally, String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ldap://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (nth, stream) in (1..).zip(listener.incoming()) {
            thread::spawn(move || serve(stream.unwrap(), fault, nth));
        }
    });
    let common = [
        "bench",
        "ldap",
        &url,
        "--base",
        "dc=example",
        "--warmup",
        "50ms",
        "--quiet",
    ];
    let cli = Cli::try_parse_from(common.iter().chain(flags)).map_err(|error| error.to_string())?;
    let Protocol::Ldap(args) = cli.args.protocol else {
        panic!("not ldap");
    };
    let plan = Plan::new(&args)?;
    let (events, received) = channel();
    run::measure(&args, &plan, &events, &received).map(|(tally, _)| tally)
}

/// Serves one connection, the `connection`th.
fn serve(mut stream: TcpStream, fault: Fault, connection: u32) {
    let (mut buffer, mut searches, mut identity) = (Vec::new(), 0, Vec::new());
    let mut chunk = [0; 4096];
    loop {
        let got = stream.read(&mut chunk).unwrap_or(0);
        if got == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..got]);
        let (mut out, mut used) = (Vec::new(), 0);
        while let Step::Frame { len } = envelope::split(&buffer[used..], 1 << 20) {
            let message = envelope::peek(&buffer[used..used + len]).unwrap();
            used += len;
            match message.tag {
                tag::SEARCH_REQUEST => {
                    searches += 1;
                    if let Fault::Leaves(nth) = fault
                        && nth == searches
                    {
                        write_notice_of_disconnection(&mut out, code::UNAVAILABLE, "");
                        let _ = stream.write_all(&out);
                        return;
                    }
                    answer_search(&mut out, &message, fault, searches);
                }
                tag::UNBIND_REQUEST => return,
                tag::ABANDON_REQUEST => {}
                tag::BIND_REQUEST
                    if let Fault::Refuses(first, code) = fault
                        && connection <= first =>
                {
                    write_result(&mut out, message.id, tag::BIND_RESPONSE, code, b"", "");
                }
                _ => answer(&mut out, &message, &mut identity),
            }
        }
        buffer.drain(..used);
        let _ = stream.write_all(&out);
    }
}

/// The searched value is the last element of the filter, an equality.
fn answer_search(out: &mut Vec<u8>, message: &Envelope<'_>, fault: Fault, nth: u32) {
    let mut reader = Reader::inside(message.op, tag::SEARCH_REQUEST).unwrap();
    for _ in 0..6 {
        reader.element().unwrap();
    }
    let mut filter = Reader::new(reader.element().unwrap().content);
    filter.element().unwrap();
    let mut uid = filter.element().unwrap().content.to_vec();
    let each_hundredth = nth.is_multiple_of(100);
    match fault {
        Fault::Silent(silent) if silent == nth => return,
        Fault::Stalls(at, time) if at == nth => thread::sleep(time),
        Fault::Another if each_hundredth => uid.push(b'0'),
        _ => {}
    }
    let entry = |out: &mut Vec<u8>| {
        let dn = [b"uid=", uid.as_slice(), b",dc=example"].concat();
        write_entry(out, message.id, &dn, [(b"uid".as_slice(), [uid.as_slice()])]);
    };
    let done = |out: &mut Vec<u8>| write_result(out, message.id, tag::SEARCH_DONE, code::SUCCESS, b"", "");
    entry(out);
    done(out);
    match fault {
        Fault::Twice if each_hundredth => done(out),
        Fault::Late if each_hundredth => entry(out),
        _ => {}
    }
}

fn answer(out: &mut Vec<u8>, message: &Envelope<'_>, identity: &mut Vec<u8>) {
    let mut reader = Reader::inside(message.op, message.tag).unwrap();
    match message.tag {
        tag::BIND_REQUEST => {
            reader.element().unwrap();
            *identity = reader.take(ber::tag::OCTET_STRING).unwrap().to_vec();
            write_result(out, message.id, tag::BIND_RESPONSE, code::SUCCESS, b"", "");
        }
        tag::COMPARE_REQUEST => {
            let dn = reader.take(ber::tag::OCTET_STRING).unwrap();
            let mut assertion = Reader::new(reader.take(ber::tag::SEQUENCE).unwrap());
            let (name, value) = (
                assertion.element().unwrap().content,
                assertion.element().unwrap().content,
            );
            let holds = dn.starts_with(&[name, b"=", value, b","].concat());
            let code = if holds { code::COMPARE_TRUE } else { code::COMPARE_FALSE };
            write_result(out, message.id, tag::COMPARE_RESPONSE, code, b"", "");
        }
        tag::EXTENDED_REQUEST => {
            assert_eq!(reader.element().unwrap().content, oid::WHO_AM_I.as_bytes());
            let identity = [b"dn:", identity.as_slice()].concat();
            write_extended(out, message.id, code::SUCCESS, "", None, Some(&identity));
        }
        other => panic!("request {other:#x}"),
    }
}

#[test]
fn a_right_server_has_no_faults_in_any_mode() {
    let secret = std::env::temp_dir().join(format!("usherd-bench-test-{}", std::process::id()));
    std::fs::write(&secret, "secret{n}\n").unwrap();
    let bind = [
        "--bind-dn",
        "uid=user{n},dc=example",
        "--password-file",
        secret.to_str().unwrap(),
    ];
    let time = ["--duration", "200ms"];
    for mode in [
        vec!["--mode", "search", "--depth", "4"],
        vec!["--mode", "search", "--threads", "2"],
        vec!["--mode", "search", "--rate", "2000"],
        vec!["--mode", "bind"],
        vec!["--mode", "connect", "-c", "4"],
        vec![
            "--mode",
            "mixed",
            "--depth",
            "8",
            "--mix",
            "bind=10,compare=20,whoami=20,abandon=20",
        ],
        vec!["--mode", "mixed", "--depth", "8", "--rate", "5000"],
    ] {
        let tally = counted(Fault::None, &[&mode[..], &bind, &time].concat()).unwrap();
        assert!(tally.latency.len() > 100, "{mode:?}: {}", tally.latency.len());
        assert!(tally.is_faultless(), "{mode:?}");
        assert_eq!((tally.unfulfilled, tally.entry_missing), (0, 0), "{mode:?}");
        assert!(
            tally.lost.is_empty() && tally.refused.is_empty(),
            "{mode:?}: {:?} {:?}",
            tally.lost,
            tally.refused
        );
    }
    let tally = counted(
        Fault::None,
        &[&["--mode", "idle", "-c", "50"], &bind[..], &time].concat(),
    )
    .unwrap();
    assert!(tally.is_faultless() && tally.lost.is_empty() && tally.latency.len() == 0);
    std::fs::remove_file(secret).unwrap();
}

#[test]
fn each_fault_is_counted_under_its_name() {
    let flags = ["--duration", "200ms", "-c", "4", "--depth", "4"];
    let faults =
        |tally: &Tally| [tally.misdelivered, tally.duplicate, tally.late, tally.unanswered].map(|count| count > 0);
    assert_eq!(
        faults(&counted(Fault::Another, &flags).unwrap()),
        [true, false, false, false]
    );
    assert_eq!(
        faults(&counted(Fault::Twice, &flags).unwrap()),
        [false, true, false, false]
    );
    assert_eq!(
        faults(&counted(Fault::Late, &flags).unwrap()),
        [false, false, true, false]
    );
    let silent = counted(Fault::Silent(10), &[&flags[..], &["--grace", "300ms"]].concat()).unwrap();
    assert_eq!(
        [silent.misdelivered, silent.duplicate, silent.late, silent.unanswered],
        [0, 0, 0, 4]
    );
}

#[test]
fn a_server_that_leaves_is_found_again_and_what_was_pending_is_counted_as_lost() {
    let tally = counted(Fault::Leaves(50), &["--duration", "500ms", "-c", "2", "--depth", "3"]).unwrap();
    let lost: u64 = tally.lost.values().sum();
    assert!(lost >= 2, "{:?}", tally.lost);
    assert!(tally.lost_operations >= lost, "{} of {lost}", tally.lost_operations);
    assert_eq!(tally.notices.get(&code::UNAVAILABLE), Some(&lost));
    assert!(tally.is_faultless());
}

#[test]
fn who_is_too_busy_for_a_connections_first_bind_is_asked_again_and_other_refusals_end_the_run() {
    let secret = std::env::temp_dir().join(format!("usherd-bench-busy-{}", std::process::id()));
    std::fs::write(&secret, "secret").unwrap();
    let flags = [
        "--bind-dn",
        "cn=x",
        "--password-file",
        secret.to_str().unwrap(),
        "-c",
        "4",
        "--duration",
        "200ms",
    ];
    let busy = counted(Fault::Refuses(6, code::BUSY), &flags).unwrap();
    assert_eq!(busy.refused, [("busy", 6)].into());
    assert!(busy.is_faultless() && busy.lost.is_empty() && busy.latency.len() > 100);
    let message = counted(Fault::Refuses(1, code::INVALID_CREDENTIALS), &flags)
        .err()
        .unwrap();
    assert!(
        message.contains("refuses to bind \"cn=x\": invalidCredentials (49)"),
        "{message}"
    );
    // Whoever is always busy is not asked for ever.
    let message = counted(Fault::Refuses(u32::MAX, code::BUSY), &flags).err().unwrap();
    assert!(message.contains("busy (51)"), "{message}");
    std::fs::remove_file(secret).unwrap();
}

#[test]
fn at_a_fixed_rate_a_stall_is_charged_to_all_that_it_kept_from_being_sent() {
    let stall = Fault::Stalls(100, Duration::from_millis(400));
    let flags = ["--duration", "900ms", "-c", "1", "--rate", "500"];
    let paced = counted(stall, &flags).unwrap();
    assert!(paced.latency.max() >= Duration::from_millis(400));
    // 200 of some 450 were due during the stall; half of them waited for more than half of it.
    assert!(
        paced.latency.quantile(900) >= Duration::from_millis(150),
        "{:?}",
        paced.latency.quantile(900)
    );
    let closed = counted(stall, &flags[..4]).unwrap();
    assert!(
        closed.latency.quantile(900) < Duration::from_millis(150),
        "{:?}",
        closed.latency.quantile(900)
    );
}

#[test]
fn operations_are_measured_to_the_number_asked_for() {
    let tally = counted(
        Fault::None,
        &["--operations", "1001", "-c", "6", "--depth", "2", "--threads", "2"],
    )
    .unwrap();
    assert_eq!(tally.latency.len(), 1001);
    assert_eq!(tally.codes.get(&code::SUCCESS), Some(&1001));
}

#[test]
fn the_user_can_end_a_run_and_gets_what_was_found_so_far() {
    let cli = Cli::try_parse_from([
        "bench",
        "ldap",
        "ldap://127.0.0.1:1",
        "--mode",
        "idle",
        "--warmup",
        "0s",
    ])
    .unwrap();
    let Protocol::Ldap(args) = cli.args.protocol else {
        panic!("not ldap");
    };
    let plan = Plan::new(&args).unwrap();
    let (events, received) = channel();
    events.send(Event::Interrupted).unwrap();
    let start = Instant::now();
    let (_, window) = run::measure(&args, &plan, &events, &received).unwrap();
    assert!(window.interrupted && start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_that_is_not_there_or_a_wrong_flag_is_told_in_a_sentence() {
    let refused = |flags: &[&str]| counted(Fault::None, flags).err().unwrap();
    assert!(refused(&["--filter", "(uid=user{n}"]).starts_with("--filter \"(uid=user{n}\": "));
    assert!(refused(&["--mode", "bind"]).starts_with("--bind-dn is missing"));
    assert!(refused(&["--bind-dn", "cn=x"]).starts_with("--bind-dn and --password-file belong together"));
    assert!(refused(&["--mode", "connect", "--depth", "2"]).starts_with("--depth 2 with --mode connect"));
    assert!(refused(&["--threads", "17"]).starts_with("--threads 17 with --connections 16"));
    assert!(refused(&["--mix", "bind=5"]).starts_with("--mix is for --mode mixed only"));
    assert!(refused(&["--mode", "idle", "--rate", "5"]).starts_with("--mode idle sends nothing"));
    let missing = refused(&["--bind-dn", "cn=x", "--password-file", "/nowhere"]);
    assert!(
        missing.starts_with("--password-file /nowhere: No such file"),
        "{missing}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cli = Cli::try_parse_from(["bench", "ldap", &format!("ldap://{nobody}"), "--base", "dc=x"]).unwrap();
    let Protocol::Ldap(args) = cli.args.protocol else {
        panic!("not ldap");
    };
    let plan = Plan::new(&args).unwrap();
    let (events, received) = channel();
    let message = run::measure(&args, &plan, &events, &received).err().unwrap();
    assert!(
        message.starts_with(&format!("no connection to ldap://{nobody}: Connection refused")),
        "{message}"
    );
}
