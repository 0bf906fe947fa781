//! A small reader of Rust source: enough to see paths, modules and functions, without a compiler.
//!
//! Comments and literals are blanked first, byte for byte, so that every offset and line number stays true and nothing
//! that a text merely mentions is taken for code.

/// The source with comments, strings and characters replaced by spaces; line breaks stay.
pub(crate) fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_literal(source, at);
        if end > at {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else if is_word(bytes[at]) {
            // A whole word at once: the r of `for"` begins no raw string.
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).expect("only whole literals are blanked")
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn skip_literal(source: &str, at: usize) -> usize {
    let rest = &source[at..];
    if rest.starts_with("//") {
        return at + rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return at + block_comment(rest);
    }
    let prefix = rest
        .bytes()
        .take_while(|byte| matches!(byte, b'b' | b'c' | b'r'))
        .count();
    if prefix <= 2 {
        let (letters, quoted) = rest.split_at(prefix);
        let hashes = quoted.bytes().take_while(|byte| *byte == b'#').count();
        if letters.ends_with('r') && quoted[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let content = prefix + hashes + 1;
            return at
                + rest[content..]
                    .find(&close)
                    .map_or(rest.len(), |n| content + n + close.len());
        }
        if quoted.starts_with('"') && !letters.contains('r') {
            return at + prefix + quoted_end(quoted, b'"');
        }
        if quoted.starts_with('\'') && matches!(letters, "" | "b") {
            let mut chars = quoted[1..].chars();
            let first = chars.next();
            // 'a' is a character, 'a a lifetime.
            if first == Some('\\') || chars.next() == Some('\'') {
                return at + prefix + quoted_end(quoted, b'\'');
            }
        }
    }
    at
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

fn quoted_end(quoted: &str, quote: u8) -> usize {
    let bytes = quoted.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A word, `::`, or one other character.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text
            .bytes()
            .next()
            .is_some_and(|byte| is_word(byte) && !byte.is_ascii_digit())
            && self.text != "use"
    }
}

/// The words and signs of blanked source.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_whitespace() {
            line += usize::from(bytes[at] == b'\n');
            at += 1;
            continue;
        }
        if is_word(bytes[at]) {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
        } else {
            at += if code[at..].starts_with("::") { 2 } else { 1 };
        }
        tokens.push(Token {
            text: &code[start..at],
            at: start,
            line,
        });
    }
    tokens
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From the line of `fn` to the line of the closing brace, both counted.
    pub(crate) lines: usize,
}

/// Every function with a body, nested ones too.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for (i, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_name() {
            continue;
        }
        let Some(end) = body_end(&tokens[i..]) else { continue };
        found.push(Function {
            name: pair[1].text.to_string(),
            line: pair[0].line,
            lines: end - pair[0].line + 1,
        });
    }
    found
}

/// Line of the brace that closes the body of the function whose `fn` comes first; none where it has no body.
fn body_end(tokens: &[Token<'_>]) -> Option<usize> {
    let (mut inside, mut depth) = (0_usize, 0_usize);
    for token in tokens {
        match token.text {
            "(" | "[" => inside += 1,
            ")" | "]" => inside = inside.saturating_sub(1),
            ";" if depth == 0 && inside == 0 => return None,
            "{" if depth > 0 || inside == 0 => depth += 1,
            "}" if depth == 1 => return Some(token.line),
            "}" if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A path as written, with `use` trees taken apart and aliases dropped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The modules written in place around it.
    pub(crate) within: Vec<String>,
}

/// Every path of two or more segments.
pub(crate) fn paths(code: &str) -> Vec<Path> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut modules = Modules::default();
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        modules.step(&tokens, i);
        if !token.is_name() || follows_on(&tokens[..i]) {
            i += 1;
            continue;
        }
        let mut leaves = Vec::new();
        i = tree(&tokens, i, &[], &mut leaves);
        found.extend(
            leaves
                .into_iter()
                .filter(|leaf| leaf.0.len() > 1)
                .map(|(segments, line)| Path {
                    segments,
                    line,
                    within: modules.names(),
                }),
        );
    }
    found
}

/// What stands before goes on: the next word is not the first of its path. (`use ::name` begins one.)
fn follows_on(before: &[Token<'_>]) -> bool {
    match before {
        [.., owner, sign] if sign.text == "::" => owner.text == ">" || owner.is_name(),
        _ => false,
    }
}

type Leaf = (Vec<String>, usize);

/// Reads one path or `use` tree from `tokens[i]` on; the index behind it.
fn tree(tokens: &[Token<'_>], mut i: usize, before: &[String], leaves: &mut Vec<Leaf>) -> usize {
    let mut segments = before.to_vec();
    let line = tokens.get(i).map_or(0, |token| token.line);
    loop {
        match tokens.get(i) {
            Some(token) if token.is_name() || token.text == "*" => {
                segments.push(token.text.to_string());
                i += 1;
            }
            Some(token) if token.text == "{" => {
                i += 1;
                while let Some(token) = tokens.get(i) {
                    match token.text {
                        "}" => return i + 1,
                        _ if token.is_name() || token.text == "*" || token.text == "{" => {
                            i = tree(tokens, i, &segments, leaves);
                        }
                        _ => i += 1,
                    }
                    // `as name` renames the leaf; the name is no path.
                    if tokens.get(i).is_some_and(|token| token.text == "as") {
                        i += 2;
                    }
                }
                return i;
            }
            _ => break,
        }
        if tokens.get(i).is_none_or(|token| token.text != "::") {
            break;
        }
        i += 1;
    }
    leaves.push((segments, line));
    i
}

/// A `mod name;`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) within: Vec<String>,
    /// What `#[path = "…"]` before it says.
    pub(crate) path: Option<String>,
}

/// Every module that is declared to be in a file of its own. `source` is what `code` was before it was blanked.
pub(crate) fn declared(source: &str, code: &str) -> Vec<Declared> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut modules = Modules::default();
    for i in 0..tokens.len() {
        modules.step(&tokens, i);
        let [word, name, end] = match tokens.get(i..i + 3) {
            Some(three) => [three[0], three[1], three[2]],
            None => break,
        };
        if word.text == "mod" && name.is_name() && end.text == ";" {
            found.push(Declared {
                name: name.text.to_string(),
                line: word.line,
                within: modules.names(),
                path: path_attribute(source, &tokens[..i]),
            });
        }
    }
    found
}

/// The text of the last `#[path = "…"]` of the item whose tokens come next.
fn path_attribute(source: &str, before: &[Token<'_>]) -> Option<String> {
    let start = before
        .iter()
        .rposition(|token| matches!(token.text, ";" | "{" | "}"))
        .map_or(0, |i| i + 1);
    let item = &before[start..];
    let i = item.windows(3).position(|three| {
        let [bracket, word, equals] = [three[0], three[1], three[2]];
        bracket.text == "[" && word.text == "path" && equals.text == "="
    })?;
    let quoted = &source[item[i + 2].at + 1..];
    quoted.split('"').nth(1).map(str::to_string)
}

/// Which modules written in place are open.
#[derive(Default)]
struct Modules {
    depth: usize,
    open: Vec<(String, usize)>,
}

impl Modules {
    fn step(&mut self, tokens: &[Token<'_>], i: usize) {
        match tokens[i].text {
            "{" => {
                if let Some([word, name]) = i.checked_sub(2).and_then(|from| tokens.get(from..i))
                    && word.text == "mod"
                {
                    self.open.push((name.text.to_string(), self.depth));
                }
                self.depth += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.open.last().is_some_and(|(_, depth)| *depth == self.depth) {
                    self.open.pop();
                }
            }
            _ => {}
        }
    }

    fn names(&self) -> Vec<String> {
        self.open.iter().map(|(name, _)| name.clone()).collect()
    }
}

mod tests {
    use super::*;

    #[test]
    fn what_a_text_mentions_is_not_code() {
        let source = concat!(
            "let a = \"std::net // \\\" {\"; // std::net\n",
            "/* outer /* std::net */ { */ let b = r#\"fn x() { \"quoted\" \"#;\n",
            "let c = ['\\'', '{', b'\"', b'\\\\']; fn f<'a>(x: &'a str) {}\n",
        );
        let code = blank(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), 3);
        assert!(!code.contains("net") && !code.contains("quoted"), "{code}");
        assert!(code.contains("fn f<'a>(x: &'a str) {}"), "{code}");
        assert_eq!(code.matches('{').count(), 1, "{code}");
    }

    #[test]
    fn raw_identifiers_and_words_that_end_in_r_are_no_raw_strings() {
        assert_eq!(blank("r#fn(\"x\")"), "r#fn(   )");
        assert_eq!(blank("bar\"x\" cr#\"y\"# b\"\\\"\""), format!("bar{}", " ".repeat(17)));
    }

    #[test]
    fn functions_are_measured_from_their_first_line_to_their_closing_brace() {
        let code = "trait T {\n fn a(&self);\n fn b(&self) -> [u8; 2] {\n  if x {\n  }\n }\n}\ntype F = fn(u8);\n";
        let found = functions(code);
        let b = Function {
            name: "b".to_string(),
            line: 3,
            lines: 4,
        };
        assert_eq!(found, [b]);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let code = "use std::{time::{Duration, Instant as Now}, net};\nmod tests { use super::super::wire::*; }\nuse ::e::f; let x = a::b::<C>();";
        let found: Vec<(String, usize)> = paths(code)
            .into_iter()
            .map(|path| (path.segments.join("::"), path.within.len()))
            .collect();
        let expected = [
            ("std::time::Duration", 0),
            ("std::time::Instant", 0),
            ("std::net", 0),
            ("super::super::wire::*", 1),
            ("e::f", 0),
            ("a::b", 0),
        ];
        assert_eq!(found, expected.map(|(path, depth)| (path.to_string(), depth)));
    }

    #[test]
    fn declared_modules_are_found_with_their_place() {
        let source = "mod a;\nmod b { pub mod c; }\n#[cfg(test)]\n#[path = \"../d.rs\"]\nmod e;\nfn f() {}";
        let found = declared(source, &blank(source));
        let names: Vec<(&str, usize, Option<&str>)> = found
            .iter()
            .map(|module| (module.name.as_str(), module.within.len(), module.path.as_deref()))
            .collect();
        assert_eq!(names, [("a", 0, None), ("c", 1, None), ("e", 0, Some("../d.rs"))]);
    }
}
