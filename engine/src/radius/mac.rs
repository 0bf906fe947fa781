//! MAC addresses as people and devices write them.

/// Twelve digits, and what may stand between them.
const TEXT_BYTES_MAX: usize = 23;

/// How an address is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// What stands between groups; none: nothing does.
    pub separator: Option<char>,
    /// Digits of a group: 2, 4 or 6.
    pub digits: usize,
    /// Whether the letters are large.
    pub upper: bool,
}

impl Default for Format {
    /// `aa-bb-cc-dd-ee-ff`
    fn default() -> Self {
        Format {
            separator: Some('-'),
            digits: 2,
            upper: false,
        }
    }
}

impl Format {
    /// Reads an example of it: `aa-bb-cc-dd-ee-ff`, `AABB.CCDD.EEFF`, `aabbccddeeff`.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(example: &str) -> Result<Format, &'static str> {
        let right = "an example like aa-bb-cc-dd-ee-ff, AA:BB:CC:DD:EE:FF, aabb.ccdd.eeff or aabbccddeeff";
        let separator = example.chars().find(|c| !c.is_ascii_hexdigit());
        let digits = match separator {
            None => 2,
            Some(sign) => example.split(sign).next().map_or(0, str::len),
        };
        let upper = example.chars().any(|c| c.is_ascii_uppercase());
        let format = Format {
            separator,
            digits,
            upper,
        };
        let same = parse(example.as_bytes()).is_some_and(|octets| format.write(&octets) == example);
        let known = matches!(digits, 2 | 4 | 6) && separator.is_none_or(is_separator);
        if same && known { Ok(format) } else { Err(right) }
    }

    /// An address as a name.
    #[must_use]
    pub fn write(self, octets: &[u8; 6]) -> String {
        let mut out = String::with_capacity(TEXT_BYTES_MAX);
        let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
        for (at, digit) in digits.enumerate() {
            if let Some(separator) = self.separator
                && at > 0
                && self.digits > 0
                && at % self.digits == 0
            {
                out.push(separator);
            }
            let digit = char::from_digit(digit.into(), 16).unwrap_or('0');
            out.push(if self.upper { digit.to_ascii_uppercase() } else { digit });
        }
        out
    }
}

fn is_separator(sign: char) -> bool {
    matches!(sign, '-' | ':' | '.' | ' ')
}

/// The address that a text is: twelve hex digits, in pairs, fours or sixes with one kind of separator between them, or without.
#[must_use]
pub fn parse(text: &[u8]) -> Option<[u8; 6]> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut octets = [0; 6];
    let (mut digits, mut separator, mut since) = (0, None, 0);
    let mut group = None;
    for octet in text {
        let sign = char::from(*octet);
        if let Some(digit) = sign.to_digit(16).and_then(|digit| u8::try_from(digit).ok()) {
            let place = octets.get_mut(digits / 2)?;
            *place = *place << 4 | digit;
            digits += 1;
            since += 1;
            continue;
        }
        let fits = is_separator(sign) && *separator.get_or_insert(sign) == sign && digits < 12;
        let same = *group.get_or_insert(since) == since && matches!(since, 2 | 4 | 6);
        (fits && same).then_some(())?;
        since = 0;
    }
    (digits == 12 && group.is_none_or(|group| group == since)).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTETS: [u8; 6] = [0x00, 0x1a, 0x2b, 0xcc, 0xdd, 0xef];

    #[test]
    fn an_address_has_many_forms_and_nothing_else_is_one() {
        for text in [
            "001a2bccddef",
            "001A2BCCDDEF",
            "00-1a-2b-cc-dd-ef",
            "00:1A:2b:cc:dd:ef",
            "001a.2bcc.ddef",
            "001a2b-ccddef",
            "00 1a 2b cc dd ef",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(OCTETS), "{text}");
        }
        for text in [
            "",
            "001a2bccdde",
            "001a2bccddeff",
            "00-1a:2b-cc-dd-ef",
            "00-1a2b-cc-dd-ef",
            "-001a2bccddef",
            "001a2bccddef-",
            "00--1a-2b-cc-dd-ef",
            "0-01a2bccddef",
            "alice",
            "00-1a-2b-cc-dd-eg",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_format_is_read_from_an_example_and_written_so() {
        for (example, written) in [
            ("aa-bb-cc-dd-ee-ff", "00-1a-2b-cc-dd-ef"),
            ("AA:BB:CC:DD:EE:FF", "00:1A:2B:CC:DD:EF"),
            ("aabb.ccdd.eeff", "001a.2bcc.ddef"),
            ("AABBCC-DDEEFF", "001A2B-CCDDEF"),
            ("aabbccddeeff", "001a2bccddef"),
        ] {
            assert_eq!(Format::read(example).unwrap().write(&OCTETS), written);
        }
        assert_eq!(Format::default().write(&OCTETS), "00-1a-2b-cc-dd-ef");
        for wrong in ["", "aa-bb", "Aa-bb-cc-dd-ee-ff", "aa/bb/cc/dd/ee/ff", "name"] {
            assert!(Format::read(wrong).is_err(), "{wrong}");
        }
    }
}
