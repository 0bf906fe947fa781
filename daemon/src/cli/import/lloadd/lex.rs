//! Files as slapd and lloadd read them: logical lines, each a list of words (lloadd.conf(5)).
//!
//! A line that begins with white space continues the one before, comments included; so does what follows a backslash at the
//! end of a line. Words are divided by blanks; double quotes keep blanks together, a backslash takes away the meaning of
//! what follows it. Words may be secrets: they are wiped, and no message repeats one that may be.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::told::{At, Told};
use crate::config::files::plain;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files within files within files …
const DEPTH_MAX: usize = 16;
/// Files in all.
const FILES_MAX: usize = 1_000;

/// A word, and the line on which it begins.
pub struct Word {
    /// Without quotes and backslashes.
    pub text: Zeroizing<String>,
    /// From 1.
    pub line: usize,
}

/// A logical line: a setting and its arguments.
pub struct Line {
    /// The file.
    pub file: Rc<str>,
    /// The first word, as it is written.
    pub name: String,
    /// Where that stands.
    pub line: usize,
    /// What follows it.
    pub words: Vec<Word>,
}

impl Line {
    /// Where it begins.
    pub fn at(&self) -> At {
        self.at_line(self.line)
    }

    /// Where one of its words stands.
    pub fn at_word(&self, word: &Word) -> At {
        self.at_line(word.line)
    }

    fn at_line(&self, line: usize) -> At {
        At {
            file: Rc::clone(&self.file),
            line,
        }
    }
}

/// Reads a file and all that it includes, in the order in which lloadd takes the settings.
///
/// # Errors
/// Why the file itself cannot be read. What is wrong with one that it includes is told.
pub fn read(path: &Path, told: &mut Told) -> Result<Vec<Line>, String> {
    let text = content(path).map_err(|why| format!("{} cannot be read: {why}", path.display()))?;
    let mut reading = Reading {
        lines: Vec::new(),
        files: 1,
        told,
    };
    reading.file(path, &text, 1);
    Ok(reading.lines)
}

struct Reading<'t> {
    lines: Vec<Line>,
    files: usize,
    told: &'t mut Told,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path, text: &str, depth: usize) {
        let file: Rc<str> = path.display().to_string().into();
        for logical in logical_lines(text) {
            let Some(&(number, first)) = logical.first() else {
                continue;
            };
            if first.starts_with('#') {
                continue;
            }
            let Some(words) = words(&logical) else {
                let at = At {
                    file: Rc::clone(&file),
                    line: number,
                };
                self.told
                    .fault(&at, "a quote is opened and not closed", "the line is left out");
                continue;
            };
            let mut words = words.into_iter();
            let Some(name) = words.next() else { continue };
            let line = Line {
                file: Rc::clone(&file),
                name: name.text.to_string(),
                line: name.line,
                words: words.collect(),
            };
            if line.name.eq_ignore_ascii_case("include") {
                self.include(&line, depth);
            } else {
                self.lines.push(line);
            }
        }
    }

    /// Relative names start at the working directory, as lloadd's do.
    fn include(&mut self, line: &Line, depth: usize) {
        let [name] = line.words.as_slice() else {
            self.told
                .fault(&line.at(), "include takes one file", "the line is left out");
            return;
        };
        let path = Path::new(name.text.as_str());
        self.files += 1;
        let text = if depth >= DEPTH_MAX {
            Err(format!("files include each other more than {DEPTH_MAX} deep"))
        } else if self.files > FILES_MAX {
            Err(format!("there are more than {FILES_MAX} files"))
        } else {
            content(path)
        };
        match text {
            Ok(text) => self.file(path, &text, depth + 1),
            Err(why) => {
                let found = format!("include {} cannot be read: {why}", path.display());
                self.told
                    .fault(&line.at(), &found, "what it has to say is missing here");
            }
        }
    }
}

/// The text of a regular file.
fn content(path: &Path) -> Result<Zeroizing<String>, String> {
    let explain = |error: io::Error| plain(&error);
    let file = File::open(path).map_err(explain)?;
    let metadata = file.metadata().map_err(explain)?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or(0),
    ));
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 <= FILE_BYTES_MAX => Ok(text),
        Ok(_) => Err("it has more than 16 MiB".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("it is not UTF-8".to_owned()),
        Err(error) => Err(explain(error)),
    }
}

/// The lines that belong together, each piece with its number.
fn logical_lines(text: &str) -> Vec<Vec<(usize, &str)>> {
    let mut all: Vec<Vec<(usize, &str)>> = Vec::new();
    for (number, piece) in (1..).zip(text.lines()) {
        if let Some(current) = all.last_mut()
            && let Some((_, before)) = current.last_mut()
        {
            if let Some(cut) = before.strip_suffix('\\').filter(|cut| !cut.ends_with('\\')) {
                *before = cut;
                current.push((number, piece));
                continue;
            }
            let is_include = current.first().is_some_and(|(_, first)| is_include(first));
            if piece.starts_with(|c: char| c.is_ascii_whitespace()) && !is_include {
                current.push((number, piece));
                continue;
            }
        }
        all.push(vec![(number, piece)]);
    }
    all
}

/// Such a line ends where it ends.
fn is_include(line: &str) -> bool {
    let name = "include";
    line.get(..name.len())
        .is_some_and(|first| first.eq_ignore_ascii_case(name))
}

/// The words of a logical line; none: a quote is not closed.
fn words(logical: &[(usize, &str)]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (line, piece) in logical {
        for c in piece.chars() {
            if !is_quoted && !is_escaped && (c == ' ' || c == '\t') {
                words.extend(word.take());
                continue;
            }
            let current = word.get_or_insert_with(|| Word {
                // Room for all of it: a text that grows leaves copies behind.
                text: Zeroizing::new(String::with_capacity(
                    logical.iter().map(|(_, piece)| piece.len()).sum(),
                )),
                line: *line,
            });
            match c {
                _ if is_escaped => {
                    is_escaped = false;
                    current.text.push(c);
                }
                '\\' => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                c => current.text.push(c),
            }
        }
    }
    words.extend(word);
    (!is_quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(text: &str) -> Vec<Vec<(String, usize)>> {
        let lines = logical_lines(text).into_iter();
        let lines = lines.filter(|logical| !logical[0].1.starts_with('#'));
        lines
            .filter_map(|logical| words(&logical))
            .map(|words| words.iter().map(|word| (word.text.to_string(), word.line)).collect())
            .filter(|words: &Vec<_>| !words.is_empty())
            .collect()
    }

    fn is_read(text: &str, right: &[&[(&str, usize)]]) {
        let right: Vec<Vec<(String, usize)>> = right
            .iter()
            .map(|line| line.iter().map(|(word, at)| ((*word).to_owned(), *at)).collect())
            .collect();
        assert_eq!(read_text(text), right, "{text:?}");
    }

    #[test]
    fn lines_are_continued_and_comments_with_them() {
        is_read(
            "a 1\n\n  b\n#c\n d\ne",
            &[&[("a", 1), ("1", 1)], &[("b", 3)], &[("e", 6)]],
        );
        is_read("a b\\\nc\r\n\td", &[&[("a", 1), ("bc", 1), ("d", 3)]]);
        is_read(
            "include f\n a b\n",
            &[&[("include", 1), ("f", 1)], &[("a", 2), ("b", 2)]],
        );
        is_read("# all\\\n of \n this\nis one", &[&[("is", 4), ("one", 4)]]);
        is_read("a\n   \n b", &[&[("a", 1), ("b", 3)]]);
    }

    #[test]
    fn quotes_and_backslashes() {
        is_read("x a=\"b c\"d", &[&[("x", 1), ("a=b cd", 1)]]);
        is_read(
            "x \"\" \\\"y\\\\ \"\\\"\"",
            &[&[("x", 1), ("", 1), ("\"y\\", 1), ("\"", 1)]],
        );
        is_read("x \"a\n  b\"", &[&[("x", 1), ("a  b", 1)]]);
        is_read("x \"a\ny b", &[&[("y", 2), ("b", 2)]]);
        is_read("x a\\ b \"#\"", &[&[("x", 1), ("a b", 1), ("#", 1)]]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(words in proptest::collection::vec("[^\\n\\r]{0,12}", 1..5)) {
            let quoted: Vec<String> = words
                .iter()
                .map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let text = format!("setting {}", quoted.join("\n\t "));
            let lines = read_text(&text);
            prop_assert_eq!(lines.len(), 1);
            let read: Vec<&str> = lines[0].iter().skip(1).map(|(word, _)| word.as_str()).collect();
            prop_assert_eq!(read, words.iter().map(String::as_str).collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_read(text in any::<String>()) {
            read_text(&text);
        }
    }
}
