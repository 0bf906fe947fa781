use std::path::Path as File;

use super::*;

/// Reads files from the disk, as the daemon does.
fn from_disk(from: &str, name: &str) -> Result<Option<Source>, String> {
    let path = File::new(from).parent().unwrap_or(File::new("")).join(name);
    let octets = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(Source {
        name: path.display().to_string(),
        text: String::from_utf8_lossy(&octets).into_owned(),
    }))
}

fn load(text: &str) -> Result<Loaded, Vec<Fault>> {
    load_onto(Dictionary::empty(), text)
}

fn load_onto(base: Dictionary, text: &str) -> Result<Loaded, Vec<Fault>> {
    base.load("test", &mut |_, name| {
        Ok((name == "test").then(|| Source {
            name: name.to_string(),
            text: text.to_string(),
        }))
    })
}

fn faults(text: &str) -> Vec<String> {
    let faults = load(text).map(|_| ()).expect_err("it is wrong");
    faults.iter().map(ToString::to_string).collect()
}

const PEER: &str = "/usr/share/freeradius/dictionary";

fn peers() -> Loaded {
    assert!(
        File::new(PEER).exists(),
        "{PEER} is missing: apt-get install freeradius-common"
    );
    Dictionary::empty().load(PEER, &mut from_disk).expect("it is right")
}

#[test]
fn our_own_is_right_and_agrees_with_freeradius() {
    let ours = Dictionary::standard();
    assert!(ours.attributes().count() > 400, "{}", ours.attributes().count());
    let peers = peers().dictionary;
    // Digest authentication has other numbers in the whole than in the RFC, and so a file of its own.
    let digest = "/usr/share/freeradius/dictionary.rfc5090";
    let digest = Dictionary::empty().load(digest, &mut from_disk).unwrap().dictionary;
    let mut found = Vec::new();
    for definition in ours.attributes() {
        // RFC 5580 section 4.6 calls it a string, that is octets.
        if &*definition.name == "Extended-Location-Policy-Rules" {
            continue;
        }
        let Some(peer) = digest.named(&definition.name).or(peers.named(&definition.name)) else {
            found.push(format!("{} is not known there", definition.name));
            continue;
        };
        let mine = (
            definition.path,
            definition.data_type,
            definition.has_tag,
            definition.hiding,
            definition.concat,
        );
        let theirs = (peer.path, peer.data_type, peer.has_tag, peer.hiding, peer.concat);
        if mine != theirs || definition.length != peer.length {
            found.push(format!("{}: {mine:?} {theirs:?} {:?}", definition.name, peer.length));
        }
        for (name, number) in definition.value_names() {
            if peer.value_number(name).is_some_and(|known| known != number) {
                found.push(format!("{} {name} {number}", definition.name));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_whole_dictionary_of_freeradius_is_read() {
    let Loaded { dictionary, notices } = peers();
    let count = dictionary.attributes().count();
    assert!(count > 6000, "{count}");
    assert!(
        notices
            .iter()
            .all(|notice| notice.file.starts_with("/usr/share/freeradius/"))
    );
    let at = |path: &[u32]| {
        dictionary
            .at(path)
            .map(|definition| (&*definition.name, definition.data_type))
    };
    assert_eq!(at(&[1]), Some(("User-Name", DataType::Text)));
    assert_eq!(at(&[26, 9, 1]), Some(("Cisco-AVPair", DataType::Text)));
    assert_eq!(
        at(&[26, 24757, 1, 2]),
        Some(("WiMAX-Accounting-Capabilities", DataType::Byte))
    );
    assert_eq!(
        at(&[245, 26, 11344, 1]),
        Some(("FreeRADIUS-802.1X-Anonce", DataType::Octets))
    );
    assert_eq!(at(&[241, 5, 1]), Some(("IP-Port-Type", DataType::Integer)));
    let usr = dictionary.vendor_named("usr").unwrap();
    assert_eq!(
        (usr.number, usr.format.number_octets, usr.format.length_octets),
        (429, 4, 0)
    );
    assert!(dictionary.vendor(24757).unwrap().format.continuation);
    // On top of ours, too.
    let both = Dictionary::standard().load(PEER, &mut from_disk).unwrap().dictionary;
    assert!(both.attributes().count() >= count);
    assert_eq!(both.named("nas-port-type").unwrap().value_number("ethernet"), Some(15));
}

/// Every file of the package, alone on top of the whole: also those that the whole leaves out.
#[test]
fn every_file_of_freeradius_is_read_or_its_conflict_told() {
    let base = peers().dictionary;
    let mut told = Vec::new();
    for entry in std::fs::read_dir("/usr/share/freeradius").unwrap() {
        let path = entry.unwrap().path().display().to_string();
        if let Err(faults) = base.clone().load(&path, &mut from_disk) {
            let fault = faults.first().unwrap();
            assert!(
                fault.line > 0 && !fault.found.is_empty() && !fault.right.is_empty(),
                "{fault}"
            );
            told.push(path.rsplit('.').next().unwrap().to_string());
        }
    }
    told.sort();
    // Other meanings for what the whole has already; the second has names for values of an attribute that nobody defines.
    assert_eq!(told, ["alvarion", "freedhcp", "openser", "rfc5090", "vsa1", "wichorus"]);
}

#[test]
fn names_and_numbers_are_found() {
    let ours = Dictionary::standard();
    let name = ours.named("uSER-nAME").unwrap();
    assert_eq!((name.path.numbers(), ours.get(name.id).unwrap()), (&[1][..], name));
    assert_eq!(&*ours.numbered(80).unwrap().name, "Message-Authenticator");
    assert!(ours.numbered(0).is_none() && ours.numbered(250).is_none() && ours.at(&[26, 9, 2, 1]).is_none());
    assert_eq!(ours.vendor_named("MICROSOFT").unwrap().number, 311);
    assert_eq!(ours.suggestions("Usr-Name"), ["User-Name"]);
    let service = ours.named("Service-Type").unwrap();
    assert_eq!(service.value_name(2), Some("Framed-User"));
    assert_eq!(service.value_number("FRAMED-user"), Some(2));
    assert!(ours.named("Cleartext-Password").unwrap().internal);
    // The last name of a number is the one that is shown.
    let status = ours.named("Acct-Status-Type").unwrap();
    assert_eq!(
        (status.value_name(3), status.value_number("alive")),
        (Some("Interim-Update"), Some(3))
    );
}

#[test]
fn lines_of_every_kind_are_understood() {
    let text = "
        # a comment
        VENDOR  Acme  0x7d01  format=2,1
        BEGIN-VENDOR Acme
        ATTRIBUTE Acme-Large 0x0102 octets # behind it too
        ATTRIBUTE Acme-Box   3 tlv
        ATTRIBUTE Acme-Inner 3.1 tlv
        ATTRIBUTE Acme-Leaf  .2 string
        BEGIN-TLV Acme-Inner
        ATTRIBUTE Acme-Deep  7 uint32
        END-TLV Acme-Inner
        END-VENDOR Acme
        VALUE Acme-Later Yes 1
        ATTRIBUTE Acme-Later 26.0x7d01.9 byte
        attribute Ext 241 extended
        ATTRIBUTE Evs 241.26 evs
        BEGIN-VENDOR Acme parent=Evs
        ATTRIBUTE Acme-Ext 5 ipv4addr
        END-VENDOR Acme
        FLAGS internal
        ATTRIBUTE Hidden-Name 200 string
        FLAGS !internal
        ATTRIBUTE Fixed 201 octets[7] secret
        $INCLUDE- nothing
    ";
    let dictionary = load(text).unwrap().dictionary;
    let path = |name: &str| dictionary.named(name).unwrap().path.to_string();
    assert_eq!(path("Acme-Large"), "26.32001.258");
    assert_eq!(path("Acme-Leaf"), "26.32001.3.1.2");
    assert_eq!(path("Acme-Deep"), "26.32001.3.1.7");
    assert_eq!(path("Acme-Ext"), "241.26.32001.5");
    assert_eq!(dictionary.named("Acme-Later").unwrap().value_name(1), Some("Yes"));
    assert!(dictionary.named("Hidden-Name").unwrap().internal);
    let fixed = dictionary.named("Fixed").unwrap();
    assert_eq!((fixed.length, fixed.secret, fixed.internal), (Some(7), true, false));
}

#[test]
fn mistakes_are_told_with_file_line_and_what_is_right() {
    let told = faults("ATTRIBUTE A 1 strng\nATTRIBUTE B\n\nFOO\nVALUE C D 1\nATTRIBUTE E 3 integer has_tagg\n");
    assert!(
        told[0].starts_with("test:1: type strng; string, octets, "),
        "{}",
        told[0]
    );
    assert_eq!(
        told[1],
        "test:2: ATTRIBUTE with 1 words; ATTRIBUTE NAME NUMBER TYPE [flag,flag]"
    );
    assert!(
        told[2].starts_with("test:4: unknown keyword FOO; one of ATTRIBUTE, "),
        "{}",
        told[2]
    );
    assert!(told[3].starts_with("test:6: flag has_tagg; has_tag, "), "{}", told[3]);
    assert_eq!(
        told[4],
        "test:5: VALUE of C, which is not known; its ATTRIBUTE in one of the files"
    );
    let one = |text: &str| faults(text).remove(0);
    assert_eq!(
        one("ATTRIBUTE A 1 string\nATTRIBUTE A 2 string"),
        "test:2: A again, as 2 string; it is 1 string: one meaning for each name"
    );
    assert_eq!(
        one("ATTRIBUTE A 1 integer\nVALUE A X 1\nVALUE A X 2"),
        "test:3: A X again, as 2; it is 1: one number for each name"
    );
    assert_eq!(
        one("ATTRIBUTE A 1 byte\nVALUE A X 256"),
        "test:2: value 256; a number of 0 to 255"
    );
    assert_eq!(
        one("ATTRIBUTE A 1 string\nATTRIBUTE B 1.1 string"),
        "test:2: B inside A, of the type string; only tlv, extended, long-extended, evs and vsa have attributes inside"
    );
    assert!(one("ATTRIBUTE B 7.1 string").contains("B inside 7, which is not known"));
    assert!(one("BEGIN-VENDOR X").contains("BEGIN-VENDOR X, which is not known; VENDOR X NUMBER"));
    assert_eq!(
        one("VENDOR X 5\nBEGIN-VENDOR X"),
        "test:2: the file ends within x; close it with END-VENDOR or END-TLV"
    );
    assert_eq!(one("END-VENDOR X"), "test:1: END-VENDOR x; nothing: nothing is open");
    assert!(one("VENDOR X 5 format=3,1").contains("format=T,L"));
    assert!(
        one("VENDOR X 5\nBEGIN-VENDOR X\nATTRIBUTE A 300 string\nEND-VENDOR X")
            .starts_with("test:3: number 300; at most 255")
    );
    assert!(one("ATTRIBUTE A 1 octets[0]").contains("a length of 1 to 253"));
    assert!(one("ATTRIBUTE A .1 octets").contains("an ATTRIBUTE without a dot before it"));
    assert!(one("ATTRIBUTE A 1.2.3.4.5.6.7.8.9 octets").contains("8 at most"));
    assert!(one("ATTRIBUTE A\u{7f} 1 octets").contains("letters, digits"));
    assert!(one("BEGIN-PROTOCOL RADIUS").contains("of the syntax of FreeRADIUS 4"));
    assert_eq!(
        one("$INCLUDE nothing"),
        "test:1: there is no file nothing; name one that is there"
    );
    assert!(one("$INCLUDE test").contains("does one include itself?"));
    assert_eq!(faults(&"FOO\n".repeat(1000)).len(), 100);
}

#[test]
fn what_is_said_twice_is_explained() {
    let Loaded { dictionary, notices } =
        load("ATTRIBUTE Old 9 octets\nATTRIBUTE Old 9 octets\nATTRIBUTE New 9 octets\n").unwrap();
    assert_eq!(
        notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["test:3: New has the number 9 of Old; both names are known, packets are shown with this one"]
    );
    assert_eq!(&*dictionary.numbered(9).unwrap().name, "New");
    assert_eq!(dictionary.named("Old").unwrap().path.numbers(), [9]);
    let notices = load("ATTRIBUTE A 1 string\nVALUE A X 1").unwrap().notices;
    assert!(
        notices[0]
            .to_string()
            .starts_with("test:2: VALUE of A, of the type string; left out: ")
    );
    // Ours give way.
    let text = "ATTRIBUTE Login-Name 1 octets\nATTRIBUTE Class 25 string\nVALUE Service-Type Our-Own 77\n";
    let Loaded { dictionary, notices } = load_onto(Dictionary::standard(), text).unwrap();
    assert_eq!(&*dictionary.numbered(1).unwrap().name, "Login-Name");
    assert!(dictionary.named("User-Name").is_none());
    assert_eq!(dictionary.named("Class").unwrap().data_type, DataType::Text);
    assert_eq!(
        dictionary.named("Service-Type").unwrap().value_name(77),
        Some("Our-Own")
    );
    assert_eq!(notices.len(), 2);
}

#[test]
fn values_are_read_as_people_write_them() {
    let ours = Dictionary::standard();
    let parse = |name: &str, text: &str| ours.named(name).unwrap().parse(text);
    assert_eq!(parse("Service-Type", "framed-user"), Ok(vec![0, 0, 0, 2]));
    assert_eq!(parse("Service-Type", "0x10"), Ok(vec![0, 0, 0, 16]));
    assert_eq!(parse("Tunnel-Type", "VLAN"), Ok(vec![0, 0, 13]));
    assert!(parse("Tunnel-Type", "16777216").unwrap_err().contains("16777215"));
    assert_eq!(parse("Class", "0x00fF"), Ok(vec![0, 255]));
    assert_eq!(parse("Class", "0x0"), Ok(b"0x0".to_vec()));
    assert_eq!(
        parse("Prompt", "Ech"),
        Err("a number, or one of No-Echo, Echo".to_string())
    );
    assert!(parse("Service-Type", "x").unwrap_err().ends_with(", …)"));
    assert_eq!(
        parse("MS-CHAP-Response", "0x00"),
        Err("exactly 50 octets, not 1".to_string())
    );
}
