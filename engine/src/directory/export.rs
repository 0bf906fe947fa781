//! A directory as LDIF (RFC 2849), so that it can be loaded again and is the same.
//!
//! What is kept of the file that it was loaded from: the comments above its first entry, and the order of its entries.
//! What is not: other comments, folding, and attributes' order within an entry.
//!
//! The line [`MARK`] tells the next load up to which change the file goes, so that consumers ([`super::sync`]) need not
//! begin anew. It holds a digest of all that stands below: a file that a person has edited has no valid mark.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::csn::Csn;
use super::entry::Entry;
use super::schema::Schema;
use super::{Directory, Node};

/// How the line begins that says what this file is.
const MARK: &[u8] = b"# usherd:";

/// What the file says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The newest change in it.
    pub(super) newest: Csn,
    /// Consumers with something older are told everything: the beginning of the run that wrote it.
    pub(super) floor: Csn,
    /// Nothing was done after it was written.
    pub(super) clean: bool,
}

impl Mark {
    /// The mark of a file that nobody has changed since.
    pub(super) fn read(ldif: &[u8]) -> Option<Mark> {
        let (line, below) = comments(ldif).find(|(line, _)| line.starts_with(MARK))?;
        let field = |name: &str| {
            let fields = line.split(|byte| *byte == b' ');
            fields.filter_map(|field| field.strip_prefix(name.as_bytes())).next()
        };
        let digest = hex(&Sha256::digest(below));
        (field("sha256=")? == digest.as_bytes()).then_some(())?;
        Some(Mark {
            newest: Csn::parse(field("newest=")?)?,
            floor: Csn::parse(field("floor=")?)?,
            clean: field("clean=")? == b"yes",
        })
    }
}

/// The comments at the beginning of a file, without ours: they are kept when it is written.
#[must_use]
pub fn heading(ldif: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for (line, _) in comments(ldif).filter(|(line, _)| !line.starts_with(MARK)) {
        kept.extend_from_slice(line);
        kept.push(b'\n');
    }
    kept
}

/// The comment lines and empty lines that a file begins with, each with what stands below it.
fn comments(ldif: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = ldif.strip_prefix(b"\xef\xbb\xbf").unwrap_or(ldif);
    std::iter::from_fn(move || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, below) = (rest.get(..end)?, rest.get(end + 1..)?);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (line.is_empty() || line.starts_with(b"#")).then_some(())?;
        rest = below;
        Some((line, below))
    })
}

impl Directory {
    /// Appends the whole directory as LDIF to `out`: `heading` (see [`heading`]), our own mark, and every entry.
    ///
    /// `clean`: no change will be made after this one, so that the mark may be believed.
    pub fn export(&self, heading: &[u8], clean: bool, out: &mut Vec<u8>) {
        let mut below = b"version: 1\n".to_vec();
        for node in self.nodes.iter().flatten() {
            below.push(b'\n');
            self.export_entry(node, &mut below);
        }
        // One run is looked back to and not more: what of older ones was lost, nobody knows any more.
        let floor = match self.trust.before {
            Some((floor, _)) if self.changes() == 0 => floor,
            _ => self.trust.start,
        };
        out.extend_from_slice(heading);
        out.extend_from_slice(MARK);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            " newest={} floor={} clean={} sha256={}",
            self.log.newest().text(),
            floor.text(),
            if clean { "yes" } else { "no" },
            hex(&Sha256::digest(&below)),
        );
        out.extend_from_slice(text.as_bytes());
        out.append(&mut below);
    }

    fn export_entry(&self, node: &Node, out: &mut Vec<u8>) {
        let entry: &Entry = &node.entry;
        write_line(out, b"dn", &entry.dn);
        for (kind, _, attribute) in entry.listed() {
            if self.schema.get(kind).is_some_and(|known| is_made_anew(&known.name)) {
                continue;
            }
            for value in entry.raw_values(attribute) {
                write_line(out, entry.description(attribute), value);
            }
            if kind == Schema::OBJECT_CLASS {
                for password in entry.passwords() {
                    write_line(out, b"userPassword", password);
                }
            }
        }
    }
}

/// What the directory knows better than any file.
pub(super) fn is_made_anew(name: &str) -> bool {
    matches!(name, "entryDN" | "hasSubordinates" | "subschemaSubentry")
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    if is_safe(value) {
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    } else {
        out.extend_from_slice(b":: ");
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
    }
    out.push(b'\n');
}

/// Whether a value can stand in a line as it is (SAFE-STRING).
fn is_safe(value: &[u8]) -> bool {
    let begins = !matches!(value.first(), Some(b' ' | b':' | b'<'));
    let plain = |byte: &u8| byte.is_ascii() && !matches!(byte, 0 | b'\n' | b'\r');
    begins && value.last() != Some(&b' ') && value.iter().all(plain)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
