//! What records look like.

use jiff::tz::TimeZone;

use super::super::moment::{Moment, micros};
use super::super::plan::PathTemplate;
use super::super::{detail, json};
use super::{dictionary, packet, record};

const LINE: &str = "Accounting-Request id=1 Acct-Status-Type = Start, \
    User-Name = \"bob \\\"q\\\" \\\\ back\\nline\\ttab ü \\001é\", Acct-Session-Id = \"abc'1\", NAS-IP-Address = 192.0.2.1, \
    NAS-Port = 7, Class = 0x00ff10, Event-Timestamp = \"Nov 27 2026 00:02:37 UTC\", Acct-Delay-Time = 5, \
    Tunnel-Type:1 = VLAN, Tunnel-Private-Group-Id:1 = \"12\", Tunnel-Medium-Type:1 = IEEE-802, \
    Framed-IPv6-Prefix = 2001:db8::/32, NAS-IPv6-Address = 2001:db8::1, Framed-Interface-Id = 1:2:3:4, \
    Cisco-AVPair = \"a=b\", Cisco-AVPair = \"c=d\", Acct-Input-Gigawords = 1, Service-Type = 99, \
    Framed-IP-Netmask = 255.255.255.0, Attr-26.99999.3 = 0x0102, Attr-200 = 0x0a0b, Acct-Terminate-Cause = User-Request, \
    NAS-Port-Type = Wireless-802.11, Delegated-IPv6-Prefix = 2001:db8:1::/48";

/// What FreeRADIUS 3.2.1 wrote (rlm_detail, header "%t") for the same packet, received at the same second.
const DETAIL: &str = "Fri Nov 27 05:50:32 2026
	Acct-Status-Type = Start
	User-Name = \"bob \\\"q\\\" \\\\ back\\nline\\ttab ü \\001é\"
	Acct-Session-Id = \"abc'1\"
	NAS-IP-Address = 192.0.2.1
	NAS-Port = 7
	Class = 0x00ff10
	Event-Timestamp = \"Nov 27 2026 00:02:37 UTC\"
	Acct-Delay-Time = 5
	Tunnel-Type:1 = VLAN
	Tunnel-Private-Group-Id:1 = \"12\"
	Tunnel-Medium-Type:1 = IEEE-802
	Framed-IPv6-Prefix = 2001:db8::/32
	NAS-IPv6-Address = 2001:db8::1
	Framed-Interface-Id = 1:2:3:4
	Cisco-AVPair = \"a=b\"
	Cisco-AVPair = \"c=d\"
	Acct-Input-Gigawords = 1
	Service-Type = 99
	Framed-IP-Netmask = 255.255.255.0
	Attr-26.99999.3 = 0x0102
	Attr-200 = 0x0a0b
	Acct-Terminate-Cause = User-Request
	NAS-Port-Type = Wireless-802.11
	Delegated-IPv6-Prefix = 2001:db8:1::/48
	Timestamp = 1795758632

";

fn as_json(line: &str) -> serde_json::Value {
    let mut out = Vec::new();
    json::write(&mut out, &dictionary(), &record(1, packet(line)));
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&out)))
}

#[test]
fn a_detail_record_is_what_freeradius_writes() {
    let mut out = Vec::new();
    detail::write(&mut out, &dictionary(), &record(1, packet(LINE)), &TimeZone::UTC);
    assert_eq!(String::from_utf8(out).unwrap(), DETAIL);
}

#[test]
fn a_detail_record_begins_with_the_machine_s_own_time() {
    let first_line = |zone: &str| {
        let mut out = Vec::new();
        let zone = TimeZone::posix(zone).unwrap();
        detail::write(&mut out, &dictionary(), &record(1, packet(LINE)), &zone);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\tTimestamp = 1795758632\n\n"), "{text}");
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line("NPT-5:45"), "Fri Nov 27 11:35:32 2026");
    assert_eq!(first_line("PST8PDT,M3.2.0,M11.1.0"), "Thu Nov 26 21:50:32 2026");
    assert_eq!(first_line("NZST-12NZDT,M9.5.0,M4.1.0/3"), "Fri Nov 27 18:50:32 2026");
}

#[test]
fn days_of_one_digit_are_padded_as_ctime_does() {
    let mut out = Vec::new();
    Moment::new(951_782_399_999_999).write_ctime(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "Mon Feb 28 23:59:59 2000");
    let mut out = Vec::new();
    Moment::new(1_000_000).write_ctime(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "Thu Jan  1 00:00:01 1970");
    let mut out = Vec::new();
    Moment::new(-1).write(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "1969-12-31T23:59:59.999999");
}

#[test]
fn a_json_record_has_typed_attributes_by_name() {
    let object = as_json(LINE);
    let expected = serde_json::json!({
        "time": "2026-11-27T05:50:32.000007Z",
        "event_time": "2026-11-27T00:02:37.000000Z",
        "client": "switch",
        "source": "192.0.2.9:40000",
        "nas": "192.0.2.1",
        "status": "Start",
        "session": "abc'1",
        "user": "bob \"q\" \\ back\nline\ttab ü \u{1}é",
        "session_key": object["session_key"],
        "record_key": object["record_key"],
        "attributes": {
            "Acct-Status-Type": "Start",
            "User-Name": "bob \"q\" \\ back\nline\ttab ü \u{1}é",
            "Acct-Session-Id": "abc'1",
            "NAS-IP-Address": "192.0.2.1",
            "NAS-Port": 7,
            "Class": "0x00ff10",
            "Event-Timestamp": "2026-11-27T00:02:37.000000Z",
            "Acct-Delay-Time": 5,
            "Tunnel-Type:1": "VLAN",
            "Tunnel-Private-Group-Id:1": "12",
            "Tunnel-Medium-Type:1": "IEEE-802",
            "Framed-IPv6-Prefix": "2001:db8::/32",
            "NAS-IPv6-Address": "2001:db8::1",
            "Framed-Interface-Id": "1:2:3:4",
            "Cisco-AVPair": ["a=b", "c=d"],
            "Acct-Input-Gigawords": 1,
            "Service-Type": 99,
            "Framed-IP-Netmask": "255.255.255.0",
            "Attr-26.99999.3": "0x0102",
            "Attr-200": "0x0a0b",
            "Acct-Terminate-Cause": "User-Request",
            "NAS-Port-Type": "Wireless-802.11",
            "Delegated-IPv6-Prefix": "2001:db8:1::/48",
        },
    });
    assert_eq!(object, expected);
    assert_eq!(object["session_key"].as_str().unwrap().len(), 32);
}

#[test]
fn counters_are_joined_and_delays_taken_off() {
    let object = as_json(
        "Accounting-Request Acct-Input-Octets = 5, Acct-Input-Gigawords = 2, Acct-Output-Octets = 4294967295, \
         Acct-Delay-Time = 90, User-Name = \"\\377\\376\", Class = 0x",
    );
    assert_eq!(object["input_octets"], 2 * (1_u64 << 32) + 5);
    assert_eq!(object["output_octets"], 4_294_967_295_u64);
    assert_eq!(object["event_time"], "2026-11-27T05:49:02.000007Z");
    assert_eq!(object["nas"], "192.0.2.9", "where it came from, where it does not say");
    assert_eq!(object["user"], serde_json::json!({ "octets": "0xfffe" }), "no UTF-8");
    assert!(object.get("session").is_none() && object.get("destination").is_none());
}

#[test]
fn keys_tell_sessions_and_records_apart() {
    let keys = |line: &str| {
        let object = as_json(&format!("Accounting-Request {line}"));
        let key = |name: &str| object[name].as_str().unwrap().to_owned();
        (key("session_key"), key("record_key"))
    };
    let start = keys("Acct-Status-Type = Start, Acct-Session-Id = \"1\", User-Name = \"bob\", Acct-Delay-Time = 0");
    let again = keys("Acct-Status-Type = Start, Acct-Session-Id = \"1\", User-Name = \"bob\", Acct-Delay-Time = 4");
    let stop = keys("Acct-Status-Type = Stop, Acct-Session-Id = \"1\", User-Name = \"bob\", Acct-Delay-Time = 0");
    let other = keys("Acct-Status-Type = Start, Acct-Session-Id = \"1b\", User-Name = \"ob\", Acct-Delay-Time = 0");
    assert_eq!(start, again, "sent again");
    assert_eq!(start.0, stop.0);
    assert_ne!(start.1, stop.1);
    assert_ne!(start.0, other.0, "what is between the parts counts");
}

#[test]
fn a_call_of_a_statement_has_its_parameters() {
    let line = "Accounting-Request Acct-Status-Type = Stop, Acct-Session-Id = \"1\", Acct-Session-Time = 60";
    let names = [
        "event_time",
        "status",
        "Acct-Session-Time",
        "Framed-IP-Address",
        "destination",
    ]
    .map(String::from);
    let mut out = Vec::new();
    json::write_call(&mut out, &dictionary(), &record(1, packet(line)), "account", &names);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"do\":\"account\",\"parameters\":[\"2026-11-27T05:50:32.000007\",\"Stop\",60,null,null]}"
    );
}

#[test]
fn places_in_a_path() {
    let moment = Moment::new(micros(record(1, Vec::new()).received));
    let path = |text: &str, client: &str| {
        let template = PathTemplate::parse(text).unwrap();
        template.path(client, &moment).to_str().unwrap().to_owned()
    };
    assert_eq!(
        path("/v/%{client}/detail-%Y%m%d:%H", "nas"),
        "/v/nas/detail-20261127:05"
    );
    assert_eq!(path("/v/%{client}/x", "../../etc"), "/v/_._.._etc/x", "no other folder");
    assert_eq!(path("/v/100%%", "nas"), "/v/100%");
    assert!(PathTemplate::parse("/v/100%%").unwrap().is_plain());
    assert_eq!(PathTemplate::parse("/v/%S"), Err("%S".into()));
    assert_eq!(PathTemplate::parse("/v/%"), Err("%".into()));
}
