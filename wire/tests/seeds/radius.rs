//! What the corpora of RADIUS begin with.

use crate::written;
use wire::radius::text::Line;
use wire::radius::{Code, Dictionary, Secret, Writer};

const LINES: &[&str] = &[
    "Access-Request id=7 authenticator=0x0102030405060708090a0b0c0d0e0f10 User-Name = \"bob\", User-Password = \"x\"",
    "Access-Accept id=1 request=0x07070707070707070707070707070707 Message-Authenticator = 0x, Tunnel-Type:1 = VLAN, Tunnel-Password:1 = \"p\"",
    "Accounting-Request Acct-Status-Type = Start, IPv6-6rd-Configuration = { IPv6-6rd-IPv4MaskLen = 1 }, Framed-IPv6-Prefix = 2001:db8::/32",
    "CoA-Request Attr-26.9.250 = 0x00, MS-CHAP-MPPE-Keys = 0x000102030405060708090a0b0c0d0e0f1011121314151617, Ascend-Send-Secret = s",
    "Status-Server Proxy-State = 0x, Attr-245.26.9.1 = 0x01, IP-Port-Limit = 1, Event-Timestamp = 2026-11-27T00:02:37Z",
    "Disconnect-NAK request=0x07070707070707070707070707070707 Error-Cause = 503, Framed-Interface-Id = 1:2:3:4, Class = \"\\377\"",
];

const DICTIONARIES: &[&str] = &[
    "VENDOR A 9 format=2,1\nBEGIN-VENDOR A\nATTRIBUTE B 1 tlv\nATTRIBUTE C 1.1 string\nATTRIBUTE D .2 byte\nEND-VENDOR A\nVALUE D E 1\n",
    "ATTRIBUTE A 241 extended\nATTRIBUTE B 241.26 evs\nVENDOR C 5\nBEGIN-VENDOR C parent=B\nATTRIBUTE D 1 octets[3] encrypt=2\nEND-VENDOR C\n",
    "$INCLUDE x\n$INCLUDE- y\nFLAGS internal\nBEGIN-TLV z\nATTRIBUTE A 1 integer has_tag,array\nATTRIBUTE A 2 string\n",
];

/// The lines as packets, and what no encoder of ours writes.
pub(crate) fn packets() -> Vec<Vec<u8>> {
    let (dictionary, secret) = (Dictionary::standard(), Secret::new(b"xyzzy5461"));
    let mut packets: Vec<Vec<u8>> = LINES
        .iter()
        .map(|text| {
            let line = Line::parse(&dictionary, text).unwrap();
            written(|out| {
                line.write(&dictionary, Some(&secret), &[1; 16], &mut || 1, out)
                    .unwrap()
            })
        })
        .collect();
    let raw: [&[(u8, &[u8])]; 4] = [
        &[
            (26, b"\0\0\x1f\xe4\0\x03\0\x0c\x01\x08\x01\x06\0\0\0\x05"),
            (26, b"\0\0\x1f\xe4\0\x04\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08"),
        ],
        &[
            (26, b"\0\0\x60\xb5\x05\x04\x80\x01"),
            (26, b"\0\0\x60\xb5\x05\x04\0\x02"),
            (26, b"\0\0\x60\xb5\x01\x06\0\x01\x03\x07"),
        ],
        &[
            (245, b"\x01\x80\x01\x04"),
            (245, b"\x01\0ab"),
            (245, b"\x1a\0\0\0\0\x09\x01x"),
            (79, b"ab"),
            (79, b"cd"),
        ],
        &[
            (26, b"\0\0\0\x09\x01\x03a\x02\x03b"),
            (26, b"\0\0\x01\xad\0\0\x90\x23\x01"),
            (26, b"\0"),
            (64, b"\xff\0\0\x01"),
            (97, b"\0\x81"),
        ],
    ];
    for attributes in raw {
        packets.push(written(|out| {
            let mut writer = Writer::bare(out, Code::ACCOUNTING_REQUEST, 3, &[0; 16]);
            for (number, value) in attributes {
                writer.attribute(*number, value).unwrap();
            }
            writer.finish(&secret).unwrap();
        }));
    }
    packets
}

/// Lines of attributes, and dictionaries.
pub(crate) fn texts() -> Vec<Vec<u8>> {
    let all = LINES.iter().chain(DICTIONARIES);
    all.map(|text| text.as_bytes().to_vec()).collect()
}
