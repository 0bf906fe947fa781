//! Texts with `{n}` in them, and requests made from such texts without encoding anything twice.
//!
//! Encoding a search per operation would cost the generator more than the balancer spends on it. A request is
//! therefore encoded once for every number of digits that n can have, twice over: with n = 1…1 and with n = 2…2. The
//! bytes in which the two differ are where digits belong; lengths cannot differ, since the digits are as many. An
//! operation then is one copy and a few single bytes. Whatever the encoder does (escapes, nesting), this stays true.

use std::io::Write;

use zeroize::Zeroizing;

/// The decimal digits of one drawn n, without allocation.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    text: [u8; DIGITS_MAX],
    len: usize,
}

/// u32 has at most ten digits.
const DIGITS_MAX: usize = 10;

impl Digits {
    /// The digits of `n`.
    pub(super) fn of(n: u32) -> Self {
        let mut text = [0; DIGITS_MAX];
        let mut rest: &mut [u8] = &mut text;
        // Ten bytes hold every u32.
        let _ = write!(rest, "{n}");
        let len = DIGITS_MAX - rest.len();
        Digits { text, len }
    }

    /// The digits, most significant first.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// A text in which each `{n}` stands for the drawn number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// What stands between the occurrences: one piece more than there are occurrences.
    pieces: Vec<String>,
}

impl Template {
    /// Splits `text` at each `{n}`.
    pub(super) fn new(text: &str) -> Self {
        Template {
            pieces: text.split("{n}").map(str::to_owned).collect(),
        }
    }

    /// Whether `{n}` occurs at all.
    pub(super) fn is_drawn(&self) -> bool {
        self.pieces.len() > 1
    }

    /// The text for one n.
    pub(super) fn render(&self, n: &str) -> String {
        self.pieces.join(n)
    }

    /// Whether `text` begins with the text for n, ASCII case aside (the usual LDAP matching rules ignore it); gives
    /// what follows.
    pub(super) fn strip<'a>(&self, n: &Digits, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = text;
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                rest = rest.strip_prefix(n.as_bytes())?;
            }
            let (head, tail) = rest.split_at_checked(piece.len())?;
            if !head.eq_ignore_ascii_case(piece.as_bytes()) {
                return None;
            }
            rest = tail;
        }
        Some(rest)
    }

    /// Whether `text` is the text for n, ASCII case aside.
    pub(super) fn matches(&self, n: &Digits, text: &[u8]) -> bool {
        self.strip(n, text).is_some_and(<[u8]>::is_empty)
    }
}

/// One protocolOp, encoded for each number of digits. It may hold a password, so it is wiped when dropped.
pub(super) struct Stencil {
    /// At index d - 1 the form for numbers of d digits; a request without `{n}` has only the first.
    forms: Vec<Form>,
}

struct Form {
    op: Zeroizing<Vec<u8>>,
    /// Where digits go, in order; the i-th takes digit i mod d.
    places: Vec<usize>,
}

impl Stencil {
    /// Encodes by `encode(n as text)` for every number of digits up to that of `n_max`; once only, if `drawn` is
    /// false.
    ///
    /// # Errors
    /// The sentence of `encode`.
    pub(super) fn new(
        drawn: bool,
        n_max: u32,
        encode: impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, String>,
    ) -> Result<Self, String> {
        let digits = if drawn { Digits::of(n_max).as_bytes().len() } else { 1 };
        let mut forms = Vec::with_capacity(digits);
        for count in 1..=digits {
            let op = encode(&"1".repeat(count))?;
            let other = encode(&"2".repeat(count))?;
            let places = op
                .iter()
                .zip(other.iter())
                .enumerate()
                .filter(|(_, (a, b))| a != b)
                .map(|(at, _)| at);
            let places = places.collect();
            forms.push(Form { op, places });
        }
        Ok(Stencil { forms })
    }

    /// The encoded request, still with the wrong digits, for a number of as many digits as `n` has.
    pub(super) fn op(&self, n: &Digits) -> &[u8] {
        self.form(n).map(|form| form.op.as_slice()).unwrap_or_default()
    }

    /// Puts the digits of `n` into a copy of [`Stencil::op`].
    pub(super) fn fill(&self, n: &Digits, copy: &mut [u8]) {
        let Some(form) = self.form(n) else { return };
        for (place, digit) in form.places.iter().zip(n.as_bytes().iter().cycle()) {
            if let Some(byte) = copy.get_mut(*place) {
                *byte = *digit;
            }
        }
    }

    fn form(&self, n: &Digits) -> Option<&Form> {
        self.forms.get(n.as_bytes().len() - 1).or(self.forms.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(text: &Template) -> impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, String> + '_ {
        move |n| {
            let text = text.render(n);
            let mut bytes = vec![u8::try_from(text.len()).unwrap()];
            bytes.extend_from_slice(text.as_bytes());
            Ok(Zeroizing::new(bytes))
        }
    }

    #[test]
    fn a_filled_stencil_is_what_the_encoder_would_have_made() {
        for text in ["uid=user{n}", "{n}{n}", "a{n}b{n}c", "1{n}2", "constant 1"] {
            let template = Template::new(text);
            let encode = with_length(&template);
            let stencil = Stencil::new(template.is_drawn(), 1_234_567, &encode).unwrap();
            for n in [0, 1, 2, 9, 10, 12, 21, 99, 100, 1234, 99_999, 123_456, 1_234_567] {
                let digits = Digits::of(n);
                let mut op = stencil.op(&digits).to_vec();
                stencil.fill(&digits, &mut op);
                assert_eq!(op, *encode(&n.to_string()).unwrap(), "{text} for {n}");
            }
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for n in [0, 7, 10, u32::MAX] {
            assert_eq!(Digits::of(n).as_bytes(), n.to_string().as_bytes());
        }
    }

    #[test]
    fn a_text_matches_only_its_own_number() {
        let template = Template::new("uid=user{n},ou=People");
        assert!(template.matches(&Digits::of(12), b"UID=user12,ou=people"));
        for other in [
            "uid=user1,ou=people",
            "uid=user123,ou=people",
            "uid=user12,ou=people,dc=x",
            "uid=user12",
            "",
        ] {
            assert!(!template.matches(&Digits::of(12), other.as_bytes()), "{other}");
        }
        let rest = Template::new("uid=user{n}").strip(&Digits::of(1), b"uid=user12,ou=people");
        assert_eq!(rest, Some(b"2,ou=people".as_slice()));
    }
}
