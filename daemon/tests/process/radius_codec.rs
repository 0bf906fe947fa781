//! `usherd radius decode|encode` beside radclient, pyrad and scapy: each reads what the other writes.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::Output;
use std::time::Duration;

use crate::proc::{Folder, Process, run, run_reading, shown};
use crate::usherd::BINARY;

const RADCLIENT: &str = "/usr/bin/radclient";
const PYTHON: &str = "/usr/bin/python3";
const DICTIONARY: &str = "/usr/share/freeradius/dictionary";
const LIMIT: Duration = Duration::from_secs(20);

struct Codec {
    folder: Folder,
    secret: String,
}

impl Codec {
    fn new() -> Self {
        let folder = Folder::new("radius");
        let secret = folder.write("secret", "testing123\n");
        Codec { folder, secret }
    }

    fn run(&self, command: &str, more: &[&str], input: &str) -> Output {
        let input = self.folder.write("input", input);
        let args = [&["radius", command, "--secret-file", &self.secret], more].concat();
        run_reading(BINARY, &args, &[], input.as_ref(), LIMIT)
    }

    /// One line in, one line out, and nothing to complain about.
    fn line(&self, command: &str, more: &[&str], input: &str) -> String {
        let output = self.run(command, more, &format!("{input}\n"));
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{input}\n{}",
            shown(&output)
        );
        String::from_utf8(output.stdout)
            .expect("it is UTF-8")
            .trim_end()
            .to_string()
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn octets(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let mut words = line.split(' ').filter_map(|word| word.split_once('='));
    words.find(|(found, _)| *found == key).map_or("", |(_, value)| value)
}

/// Lets radclient ask; gives what it asked, as we print it, and the octets, and who it is.
fn asked(codec: &Codec, socket: &UdpSocket, kind: &str, attributes: &str) -> (String, String, SocketAddr, Process) {
    crate::proc::require(RADCLIENT);
    let at = socket.local_addr().unwrap().to_string();
    let file = codec.folder.write("attributes", format!("{attributes}\n"));
    let args = [
        "-x",
        "-D",
        "/usr/share/freeradius",
        "-r",
        "1",
        "-t",
        "10",
        "-f",
        &file,
        &at,
        kind,
        "testing123",
    ];
    let process = Process::start(RADCLIENT, &args, &codec.folder.path().join("radclient"));
    let mut datagram = [0; 4096];
    let (length, from) = socket.recv_from(&mut datagram).expect("radclient asks");
    let packet = hex(&datagram[..length]);
    let text = codec.line("decode", &["--dictionary", DICTIONARY], &packet);
    (text, packet, from, process)
}

/// The attributes that radclient shows of what it got.
fn received(process: &mut Process) -> Vec<String> {
    process.wait(LIMIT);
    let output = process.output();
    let behind = output
        .split_once("Received ")
        .unwrap_or_else(|| panic!("no answer was taken\n{output}"))
        .1;
    let lines = behind.lines().filter_map(|line| line.strip_prefix('\t'));
    lines.map(str::to_string).collect()
}

#[test]
fn radclient_and_we_read_each_other_and_print_the_same() {
    let codec = Codec::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let (long, short) = ("cd".repeat(400), "ab".repeat(240));
    let asks = format!(
        "User-Name = \"bob\", User-Password = \"a password of more than sixteen\", NAS-Port = 3, Tunnel-Type:2 = L2TP, \
         FreeRADIUS-802.1X-EAPoL-Key-Msg = 0x{short}, WiMAX-AAA-Session-Id = 0x{long}, WiMAX-Release = \"1.0\", USR-Last-Number-Dialed-Out = \"9\", \
         SN-VPN-Name = \"vpn\", Message-Authenticator = 0x00, Proxy-State = 0x01"
    );
    let (text, packet, from, mut process) = asked(&codec, &socket, "auth", &asks);
    let (head, list) = text.split_once(" User-Name").unwrap();
    let shown = list.replace(
        "WiMAX-Capability = { WiMAX-Release = \"1.0\" }",
        "WiMAX-Release = \"1.0\"",
    );
    let (before, behind) = shown.split_once("Message-Authenticator = 0x").unwrap();
    assert_eq!(
        format!("User-Name{before}Message-Authenticator = 0x00{}", &behind[32..]),
        asks
    );
    assert_eq!(codec.line("encode", &["--dictionary", DICTIONARY], &text), packet);

    let lines = [
        "Reply-Message = \"a \\\"q\\\" \\\\ é\\n\"",
        "Tunnel-Type:1 = VLAN",
        "Tunnel-Private-Group-Id:1 = \"7\"",
        "Tunnel-Password:1 = \"pass\"",
        "Framed-IPv6-Prefix = 2001:db8::/32",
        "Framed-Interface-Id = 1:2:3:4",
        "MS-MPPE-Send-Key = 0x0102030405060708090a0b0c0d0e0f10",
        "Session-Timeout = 7",
        "Cisco-AVPair = \"a=b\"",
        "WiMAX-Release = \"1.0\"",
        "WiMAX-Accounting-Capabilities = IP-Session-Based",
        "SN-VPN-Name = \"x\"",
        "USR-Last-Number-Dialed-Out = \"9\"",
        "IP-Port-Limit = 7",
        "FreeRADIUS-802.1X-EAPoL-Key-Msg = 0xabcd",
        "Proxy-State = 0x01",
        "Class = 0x616263",
        "Ascend-Send-Secret = \"sec\"",
        "Attr-250 = 0x01",
        "Event-Timestamp = \"Nov 27 2026 00:02:37 UTC\"",
        "NAS-IPv6-Address = ::1",
        "MIP6-Feature-Vector = 5",
        "PMIP6-Home-IPv4-HoA = 192.0.2.0/24",
        "WiMAX-GMT-Timezone-offset = -5",
    ];
    let session = format!("WiMAX-AAA-Session-Id = 0x{long}");
    let eap = format!("EAP-Message = 0x{}", "02".repeat(300));
    let (request, id) = (field(head, "authenticator"), field(head, "id"));
    let answer = format!(
        "Access-Accept id={id} request={request} Message-Authenticator = 0x, {}, {session}, {eap}",
        lines.join(", ")
    );
    let reply = codec.line("encode", &["--dictionary", DICTIONARY], &answer);
    socket.send_to(&octets(&reply), from).unwrap();
    let got = received(&mut process);
    assert!(got[0].starts_with("Message-Authenticator = 0x"), "{got:?}");
    assert_eq!(got[1..got.len() - 2], lines);
    assert_eq!(got[got.len() - 2], session);
    assert_eq!(got[got.len() - 1], eap);
}

#[test]
fn every_kind_of_request_of_radclient_is_answered() {
    let codec = Codec::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    for (kind, asks, starts, answer) in [
        (
            "auth",
            "User-Name = \"bob\", CHAP-Password = \"x\"",
            "Access-Request",
            "Access-Accept",
        ),
        (
            "auth",
            "User-Name = \"bob\", MS-CHAP-Password = \"x\"",
            "Access-Request",
            "Access-Challenge",
        ),
        (
            "acct",
            "Acct-Status-Type = Start, Acct-Session-Id = \"1\"",
            "Accounting-Request",
            "Accounting-Response",
        ),
        (
            "coa",
            "User-Name = \"bob\", Tunnel-Password:1 = \"tp\"",
            "CoA-Request",
            "CoA-NAK",
        ),
        (
            "disconnect",
            "User-Name = \"bob\"",
            "Disconnect-Request",
            "Disconnect-ACK",
        ),
        (
            "status",
            "Message-Authenticator = 0x00",
            "Status-Server",
            "Access-Accept",
        ),
    ] {
        let (text, _, from, mut process) = asked(&codec, &socket, kind, asks);
        assert!(text.starts_with(starts), "{text}");
        if kind == "coa" {
            assert!(
                text.ends_with("User-Name = \"bob\", Tunnel-Password:1 = \"tp\""),
                "{text}"
            );
        }
        let (request, id) = (field(&text, "authenticator"), field(&text, "id"));
        let own = if answer == "Accounting-Response" {
            ""
        } else {
            "Message-Authenticator = 0x, "
        };
        let reply = format!(
            "{answer} id={id} request={request} {own}Proxy-State = 0x{:02}",
            kind.len()
        );
        socket
            .send_to(&octets(&codec.line("encode", &[], &reply)), from)
            .unwrap();
        let got = received(&mut process);
        assert_eq!(
            got.last().unwrap(),
            &format!("Proxy-State = 0x{:02}", kind.len()),
            "{kind}"
        );
        // One bit changed on the way is told.
        let packet = codec.line("encode", &[], &reply);
        let last = if packet.ends_with('0') { "1" } else { "0" };
        let forged = format!("{}{last}", &packet[..packet.len() - 1]);
        let told = codec.run("decode", &["--request-authenticator", request], &forged);
        assert!(
            told.stdout.starts_with(answer.as_bytes()) && !told.status.success(),
            "{}",
            shown(&told)
        );
        assert!(
            String::from_utf8_lossy(&told.stderr).contains("Authenticator is wrong"),
            "{}",
            shown(&told)
        );
    }
}

#[test]
fn pyrad_and_scapy_and_we_read_each_other() {
    let codec = Codec::new();
    let script = codec.folder.write("script.py", include_str!("radius_codec.py"));
    let made = run(PYTHON, &[script.as_str(), "make"], LIMIT);
    assert!(
        made.status.success(),
        "these tests need pyrad and scapy: apt-get install python3-pyrad python3-scapy\n{}",
        shown(&made)
    );
    let output = codec.run("decode", &[], &String::from_utf8_lossy(&made.stdout));
    assert!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lists: Vec<&str> = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap()).collect();
    let expected = [
        "User-Name = \"bob\", User-Password = \"a password of more than sixteen octets\", NAS-IP-Address = 192.0.2.1, \
         Service-Type = Framed-User, Cisco-AVPair = \"a=b\", Framed-IPv6-Prefix = 2001:db8::/32",
        "User-Name = \"bob\", Acct-Status-Type = Start",
        "User-Name = \"bob\"",
    ];
    assert_eq!(lists, expected);
    let request = "authenticator=0x000102030405060708090a0b0c0d0e0f";
    let request = format!(
        "Access-Request id=7 {request} Message-Authenticator = 0x, User-Name = \"bob\", User-Password = \"pässword\""
    );
    let request = codec.line("encode", &[], &request);
    let reply = "Access-Accept id=7 request=0x000102030405060708090a0b0c0d0e0f Message-Authenticator = 0x, Reply-Message = \"hi\", \
                 Session-Timeout = 60, Cisco-AVPair = \"a=b\", Framed-IPv6-Prefix = 2001:db8::/32, Tunnel-Type:1 = VLAN";
    let reply = codec.line("encode", &[], reply);
    let checked = run(PYTHON, &[script.as_str(), "check", &request, &reply], LIMIT);
    let expected = "user bob\npassword pässword\nreply True\nmessage hi timeout 60\npair a=b prefix 2001:db8::/32\n\
                    scapy 2 7 73 [80, 18, 27, 26, 97, 64]\nscapy message True\nscapy reply True\n";
    assert_eq!(
        String::from_utf8_lossy(&checked.stdout),
        expected,
        "{}",
        shown(&checked)
    );
}

#[test]
fn wrong_lines_and_files_are_told_and_the_others_go_on() {
    let codec = Codec::new();
    let telnet = "01 00 00 38 0f 40 3f 94 73 97 80 57 bd 83 d5 cb 98 f4 22 7a 01 06 6e 65 6d 6f 02 12 0d be 70 8d 93 d4 13 ce \
                  31 96 e4 3f 78 2a 0a ee 04 06 c0 a8 01 10 05 06 00 00 00 03";
    let secret = codec.folder.write("rfc", "xyzzy5461");
    let accounting = "0408001f2f25e7c379065e4bb55c8701e78de1900105626f62280600000001";
    let input = codec.folder.write(
        "input",
        format!("# RFC 2865 section 7.1\n\n{telnet}\nzz\n010\n0100\n{accounting}\n"),
    );
    let output = run_reading(
        BINARY,
        &["radius", "decode", "--json", "--secret-file", &secret],
        &[],
        input.as_ref(),
        LIMIT,
    );
    assert_eq!(output.status.code(), Some(1));
    let objects: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    assert_eq!(objects.len(), 2, "{}", shown(&output));
    assert_eq!(
        objects[0]["attributes"][1],
        serde_json::json!({ "name": "User-Password", "value": "arctangent" })
    );
    assert_eq!(objects[1]["authenticator_valid"], false);
    assert_eq!(
        objects[1]["attributes"][1],
        serde_json::json!({ "name": "Acct-Status-Type", "value": "Start", "number": 1 })
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = [
        "usherd: line 4: 'z' as character 1; a hex digit is right",
        "usherd: line 5: an odd number of hex digits; two for each octet are right",
        "usherd: line 6: 2 octets, and a header alone has 20",
        "usherd: line 7: the Authenticator is wrong; another secret or another request would be right",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    // Nothing of a secret is in any message.
    let wrong = codec.run(
        "encode",
        &[],
        "Access-Request User-Password = canary word, NAS-Port = 1\nAccess-Accept\n",
    );
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && told.contains("line 1: column") && told.contains("line 2: a reply's"),
        "{told}"
    );
    assert!(!told.contains("canary"), "{told}");
    let broken = codec.folder.write("broken", "ATTRIBUTE Mine 300 strng\nVALUE Mine\n");
    let output = codec.run("decode", &["--dictionary", &broken], "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!("{broken}:1: type strng; "))
            && told.contains(&format!("{broken}:2: VALUE with 1 words")),
        "{told}"
    );
}
