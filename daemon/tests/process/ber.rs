//! BER for the tests' own client, written apart from `wire` so that both cannot share a mistake.

/// Tag, fewest length octets, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(u8::try_from(short).unwrap()),
        long => {
            let octets: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
            out.push(0x80 | u8::try_from(octets.len()).unwrap());
            out.extend_from_slice(&octets);
        }
    }
    out.extend_from_slice(content);
    out
}

/// Several elements in one constructed element.
pub(crate) fn seq(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

pub(crate) fn int(tag: u8, value: i64) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let mut skip = 0;
    while skip < 7 {
        let redundant = if octets[skip] == 0 {
            octets[skip + 1] < 0x80
        } else {
            octets[skip] == 0xFF && octets[skip + 1] >= 0x80
        };
        if !redundant {
            break;
        }
        skip += 1;
    }
    tlv(tag, &octets[skip..])
}

pub(crate) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    tlv(0x04, value.as_ref())
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xFF } else { 0 }])
}

/// One element off the front of `bytes`: tag, content, and how many octets it took. `None`: not all there yet.
pub(crate) fn take(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&tag, &first) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let count = usize::from(first & 0x7F);
        assert!((1..=4).contains(&count), "a server sent a length of {count} octets");
        let octets = bytes.get(2..2 + count)?;
        (
            2 + count,
            octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)),
        )
    };
    Some((tag, bytes.get(header..header + length)?, header + length))
}

/// All elements of one level; panics when `content` does not end with an element's end.
pub(crate) fn elements(mut content: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (tag, inner, used) = take(content).expect("whole elements");
        found.push((tag, inner));
        content = &content[used..];
    }
    found
}

pub(crate) fn value(content: &[u8]) -> i64 {
    let start = if content.first().is_some_and(|first| *first >= 0x80) {
        -1
    } else {
        0
    };
    content
        .iter()
        .fold(start, |value, octet| value << 8 | i64::from(*octet))
}
