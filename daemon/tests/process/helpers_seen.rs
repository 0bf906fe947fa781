//! What can be seen of helpers: each figure of a pool, in `/metrics` and in `usherd status`, while it happens.

use std::time::Duration;

use wire::rpc::ErrorCode;

use crate::calls::{Client, Ended, service};
use crate::commands::get;
use crate::helpers::{sections, until};
use crate::proc::{free_port, shown, wait_for};
use crate::usherd::{Setup, Usherd};

/// Five services, each with another fate, and where their figures are.
fn start() -> (Usherd, u16) {
    let admin = free_port();
    let usherd = Setup::new()
        .server(&format!("admin = \"127.0.0.1:{admin}\""))
        .listen("rpc", "unix:rpc", "")
        .section(&sections(&[
            ("full", &[], "min = 1\nmax = 2\nqueue_max = 2\nslow_log = \"200ms\""),
            ("worn", &[], "min = 1\nmax = 1\nrequests_max = 3"),
            ("fat", &[], "min = 1\nmax = 2\nmemory_max = \"64MiB\""),
            ("rare", &[], "min = 0\nidle_timeout = \"200ms\""),
            (
                "mortal",
                &[],
                "min = 1\nmax = 1\nrequest_timeout = \"400ms\"\ngrace = \"100ms\"",
            ),
        ]))
        .start();
    (usherd, admin)
}

/// The value of a line of `/metrics`; the line begins so, up to the value.
fn figure(page: &str, line: &str) -> f64 {
    let found = page.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {line} in\n{page}"));
    found.parse().expect("a number")
}

fn page(admin: u16) -> String {
    let (fine, page) = get(admin, "/metrics").expect("metrics");
    assert!(fine, "{page}");
    page
}

#[test]
fn metrics_and_status_show_everything_of_a_pool() {
    let (usherd, admin) = start();
    let mut client = Client::connect(&usherd);
    for _ in 0..6 {
        assert_eq!(client.ask("worn", b"echo:x"), Ended::Answer(b"x".to_vec()));
    }
    assert_eq!(client.ask("fat", b"grow 100"), Ended::Answer(b"grown".to_vec()));
    assert_eq!(client.ask("rare", b"echo:x"), Ended::Answer(b"x".to_vec()));
    let crashed = client.ask("mortal", b"exit 3").code();
    assert_eq!(crashed, Some(ErrorCode::Crashed { status: 3 }));
    wait_for("the next one is there", Duration::from_secs(5), || {
        (client.ask("mortal", b"echo:x").code().is_none()).then_some(())
    });
    assert_eq!(client.ask("mortal", b"deaf").code(), Some(ErrorCode::Deadline));
    // Two at work, two in the queue, one refused.
    for id in 11..=14 {
        client.call(id, "full", b"sleep 3");
        if id == 12 {
            until(&usherd, "full", "at the maximum", |one| one["busy"] == 2);
        }
    }
    until(&usherd, "full", "full", |one| one["queued"] == 2);
    assert_eq!(client.ask("full", b"echo:x").code(), Some(ErrorCode::QueueFull));
    for (name, reason) in [
        ("worn", "recycled"),
        ("fat", "memory"),
        ("rare", "idle"),
        ("mortal", "crash"),
        ("mortal", "timeout"),
    ] {
        let line = format!("usherd_service_exits_total{{service=\"{name}\",reason=\"{reason}\"}}");
        wait_for(&line, Duration::from_secs(5), || {
            (figure(&page(admin), &line) >= 1.0).then_some(())
        });
    }
    std::thread::sleep(Duration::from_millis(250));
    let page = page(admin);
    let is = |line: &str, value: f64| {
        let found = figure(&page, line);
        assert!((found - value).abs() < 0.5, "{line} {found}, not {value}");
    };
    let helpers = |state: &str| format!("usherd_service_helpers{{service=\"full\",state=\"{state}\"}}");
    for (state, count) in [("starting", 0.0), ("idle", 0.0), ("busy", 2.0), ("stopping", 0.0)] {
        is(&helpers(state), count);
    }
    is("usherd_service_helpers_max{service=\"full\"}", 2.0);
    is("usherd_service_queue{service=\"full\"}", 2.0);
    is("usherd_service_queue_max{service=\"full\"}", 2.0);
    is("usherd_service_max_reached_total{service=\"full\"}", 1.0);
    is(
        "usherd_service_refusals_total{service=\"full\",reason=\"queue-full\"}",
        1.0,
    );
    is("usherd_service_starts_total{service=\"full\"}", 2.0);
    is("usherd_service_kills_total{service=\"mortal\"}", 1.0);
    is("usherd_service_queue_seconds_count{service=\"full\"}", 2.0);
    is("usherd_service_seconds_count{service=\"worn\"}", 6.0);
    is("usherd_service_seconds_bucket{service=\"worn\",le=\"+Inf\"}", 6.0);
    assert!(figure(&page, "usherd_service_queue_oldest_milliseconds{service=\"full\"}") >= 200.0);
    let status = service(&usherd, "full");
    let held = status["helpers"].as_array().expect("helpers");
    assert_eq!(held.len(), 2, "{status:#}");
    for helper in held {
        let of = format!("{{service=\"full\",pid=\"{}\"}}", helper["pid"]);
        is(&format!("usherd_helper_requests_total{of}"), 0.0);
        assert!(figure(&page, &format!("usherd_helper_call_milliseconds{of}")) >= 200.0);
        assert!(figure(&page, &format!("usherd_helper_memory_bytes{of}")) > 1e6);
    }
    told_to_people(&usherd);
    usherd.stop();
}

/// The same, as `usherd status` prints it, and the slow log.
fn told_to_people(usherd: &Usherd) {
    let status = service(usherd, "full");
    let output = usherd.command(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "the oldest of 2 waits ",
        ", room for 2; 1 times at the maximum; refused: 1 queue-full",
    ] {
        assert!(text.contains(part), "no {part:?}: {}", shown(&output));
    }
    for (name, exits) in [
        ("worn", " recycled"),
        ("fat", "1 memory"),
        ("rare", "1 idle"),
        ("mortal", "1 timeout, 1 crash"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("  {name}: ")));
        let told = line.is_some_and(|line| line.contains("exits: ") && line.contains(exits));
        assert!(told, "{name} {exits}: {}", shown(&output));
    }
    let caller = format!("ms, pid {}", std::process::id());
    for helper in status["helpers"].as_array().expect("helpers") {
        let pid = helper["pid"].to_string();
        let line = text
            .lines()
            .find(|line| line.starts_with("full ") && line.contains(&pid));
        let line = line.unwrap_or_else(|| panic!("no helper {pid}: {}", shown(&output)));
        assert!(
            line.contains("busy") && line.contains("MiB") && line.contains(&caller),
            "{line}"
        );
        let slow = format!(
            "a call holds a helper service=\"full\" pid={pid} call={}",
            helper["call"]
        );
        assert!(
            usherd.process.output().contains(&slow),
            "no {slow:?}\n{}",
            usherd.process.output()
        );
    }
}
