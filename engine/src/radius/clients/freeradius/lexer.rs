//! The words of a file in the syntax of FreeRADIUS's configuration.

use zeroize::Zeroizing;

/// One piece of the text.
pub(super) enum Token {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `=` and its like.
    Sign,
    /// The end of a line, a `;` or a `,`.
    Break,
    /// `$INCLUDE` and what stands behind it; false: `$-INCLUDE`, whose file may be missing.
    Include(String, bool),
    Word(Word),
    /// What was found, and what would be right. The rest of its line is skipped.
    Wrong(String, String),
    End,
}

/// A word, or what stands in quotes.
pub(super) struct Word {
    octets: Zeroizing<Vec<u8>>,
    is_expanded: bool,
}

impl Word {
    /// None: it is no UTF-8.
    pub(super) fn text(&self) -> Option<String> {
        std::str::from_utf8(&self.octets).ok().map(str::to_owned)
    }

    pub(super) fn into_octets(self) -> Zeroizing<Vec<u8>> {
        self.octets
    }

    /// Whether FreeRADIUS would put something else into its place.
    pub(super) fn is_expanded(&self) -> bool {
        self.is_expanded
    }
}

/// Reads a text from its beginning to its end.
pub(super) struct Lexer<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Lexer<'t> {
        Lexer { rest: text, line: 1 }
    }

    /// The line that is being read, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn peek(&self) -> Token {
        Lexer { ..*self }.next()
    }

    pub(super) fn next(&mut self) -> Token {
        self.blanks();
        let Some(first) = self.rest.chars().next() else {
            return Token::End;
        };
        match first {
            '\n' => {
                self.take(1);
                self.line += 1;
                Token::Break
            }
            ';' | ',' => self.one(Token::Break),
            '{' => self.one(Token::Open),
            '}' => self.one(Token::Close),
            '=' | ':' | '+' | '!' | '<' | '>' => {
                let length = self.rest.bytes().take_while(|octet| b"=:+!<>~".contains(octet)).count();
                match self.take(length) {
                    "=" | ":=" | "+=" | "==" => Token::Sign,
                    sign => self.wrong(format!("the sign {sign}"), "="),
                }
            }
            '$' if self.rest.starts_with("$INCLUDE") || self.rest.starts_with("$-INCLUDE") => {
                let line = self.rest.split('\n').next().unwrap_or_default();
                self.take(line.len());
                let name = line.split_once(char::is_whitespace).map_or("", |(_, name)| name);
                let name = name.split(" #").next().unwrap_or_default().trim().trim_matches('"');
                Token::Include(name.to_owned(), line.starts_with("$I"))
            }
            _ => self.value(),
        }
    }

    /// The next word, where a value is due: a sign inside it belongs to it.
    pub(super) fn value(&mut self) -> Token {
        self.blanks();
        match self.rest.chars().next() {
            None => Token::End,
            Some('\n' | ';' | ',' | '{' | '}') => self.next(),
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some('`') => self.wrong("a value in backquotes", "the value itself: no program is run for it"),
            Some(_) => self.bare(),
        }
    }

    /// Up to the end of the line.
    pub(super) fn skip_line(&mut self) {
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        self.take(length);
    }

    /// Behind the `}` of a section whose `{` was read.
    pub(super) fn skip_section(&mut self, depth_max: usize) {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Token::End => return,
                Token::Open if depth < depth_max => depth += 1,
                Token::Close => depth -= 1,
                // A value may have any sign in it.
                Token::Sign => {
                    self.value();
                }
                _ => {}
            }
        }
    }

    fn bare(&mut self) -> Token {
        let ends = |c: char| c.is_whitespace() || matches!(c, ';' | ',' | '{' | '}' | '"' | '\'' | '#' | '=');
        let mut length = 0;
        while let Some(c) = self.rest.get(length..).and_then(|rest| rest.chars().next()) {
            // `${…}` is one word, so that it can be told of.
            let is_brace = c == '{' && self.rest.get(..length).is_some_and(|before| before.ends_with('$'));
            if is_brace {
                length = self
                    .rest
                    .find(['}', '\n'])
                    .filter(|end| *end > length)
                    .unwrap_or(length);
            } else if ends(c) {
                break;
            }
            length += c.len_utf8();
        }
        let behind = self.rest.get(length..).unwrap_or_default();
        if length == 0 || behind.starts_with(['{', '}', '"', '\'', '#']) {
            return self.wrong("a word with a sign in it", "double quotes around it");
        }
        let word = self.take(length);
        Token::Word(Word {
            octets: Zeroizing::new(word.as_bytes().to_vec()),
            is_expanded: word.contains("${") || word.contains("$ENV{"),
        })
    }

    fn quoted(&mut self, quote: char) -> Token {
        let mut octets = Zeroizing::new(Vec::new());
        let mut raw = self.rest.char_indices().skip(1);
        let mut end = None;
        while let Some((at, c)) = raw.next() {
            match c {
                '\n' => break,
                c if c == quote => {
                    end = Some(at + 1);
                    break;
                }
                '\\' => {
                    let behind = self.rest.get(at + 1..).unwrap_or_default();
                    let (used, octet) = escape(behind, quote);
                    octets.extend_from_slice(octet.as_slice());
                    for _ in 0..used {
                        raw.next();
                    }
                }
                c => octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let Some(end) = end else {
            return self.wrong("a quote that does not end", "the same quote on the same line");
        };
        let word = self.take(end);
        Token::Word(Word {
            octets,
            is_expanded: quote == '"' && (word.contains("${") || word.contains("$ENV{")),
        })
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            self.rest = rest;
            if rest.starts_with('#') {
                self.skip_line();
            } else if let Some(next) = rest.strip_prefix("\\\n").or_else(|| rest.strip_prefix("\\\r\n")) {
                self.rest = next;
                self.line += 1;
            } else {
                return;
            }
        }
    }

    fn one(&mut self, token: Token) -> Token {
        self.take(1);
        token
    }

    fn take(&mut self, length: usize) -> &'t str {
        let (word, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    fn wrong(&mut self, found: impl Into<String>, right: &str) -> Token {
        self.skip_line();
        Token::Wrong(found.into(), right.to_owned())
    }
}

/// How many characters behind a backslash belong to it, and what they stand for.
fn escape(behind: &str, quote: char) -> (usize, Vec<u8>) {
    let octal = behind
        .get(..3)
        .filter(|digits| digits.bytes().all(|octet| (b'0'..=b'7').contains(&octet)))
        .and_then(|digits| u8::from_str_radix(digits, 8).ok());
    match (behind.chars().next(), octal) {
        (Some(c), _) if c == quote || c == '\\' => (1, vec![u8::try_from(c).unwrap_or(b'\\')]),
        _ if quote == '\'' => (0, b"\\".to_vec()),
        (_, Some(octet)) => (3, vec![octet]),
        (Some('n'), _) => (1, b"\n".to_vec()),
        (Some('r'), _) => (1, b"\r".to_vec()),
        (Some('t'), _) => (1, b"\t".to_vec()),
        _ => (0, b"\\".to_vec()),
    }
}
