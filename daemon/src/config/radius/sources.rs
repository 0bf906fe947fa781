//! What the files of RADIUS have in common: finding those that others include, reading TOML that may hold secrets, and the
//! dictionary.
//!
//! No line of a file with secrets is ever shown, and the mistakes that are told of one keep nothing of its text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;
use wire::radius::Dictionary;
use wire::radius::dictionary::{Fault, Source};
use zeroize::Zeroizing;

use super::super::diagnostic::{At, Diagnostic, Problems};
use super::super::files::{self, Folder};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files of a folder that is included, at most.
const FOLDER_FILES_MAX: usize = 2_000;

/// The standard dictionary and, on top of it, files in the syntax of FreeRADIUS 3.
pub fn dictionary(p: &mut Problems, folder: &Folder, files: &[At<String>]) -> Option<Arc<Dictionary>> {
    let mut dictionary = Dictionary::standard();
    let mut is_right = true;
    for file in files {
        let path = folder.path(&file.value).display().to_string();
        // A file that is wrong does not hide what is wrong with the next one.
        match dictionary.clone().load(&path, &mut include) {
            Ok(loaded) => dictionary = loaded.dictionary,
            Err(faults) => {
                is_right = false;
                p.error(&file.place, format!("the dictionary {path} cannot be used"));
                p.take(faults.iter().map(mistake));
            }
        }
    }
    is_right.then(|| Arc::new(dictionary))
}

/// A mistake in a file that is no TOML.
pub fn mistake(fault: &Fault) -> Diagnostic {
    told(Diagnostic::error(place(fault)), fault)
}

/// Something worth knowing of a file that is no TOML.
pub fn doubt(fault: &Fault) -> Diagnostic {
    told(Diagnostic::warning(place(fault)), fault)
}

fn place(fault: &Fault) -> String {
    match fault.line {
        0 => format!("{}: {}", fault.file, fault.found),
        line => format!("{}:{line}: {}", fault.file, fault.found),
    }
}

fn told(mut found: Diagnostic, fault: &Fault) -> Diagnostic {
    if !fault.right.is_empty() {
        found.help(fault.right.as_str());
    }
    found
}

/// Whether a file is in our own form.
pub(in crate::config) fn is_toml(file: &At<String>) -> bool {
    Path::new(&file.value)
        .extension()
        .is_some_and(|ending| ending == "toml")
}

/// Reads a file of ours. `read` is told the folder of this file and its table; what it finds wrong is told in the order of the
/// file.
pub(in crate::config) fn toml<T>(
    p: &mut Problems,
    folder: &Folder,
    file: &At<String>,
    what: &str,
    read: impl FnOnce(&mut Problems, &Folder, &DeTable<'_>) -> T,
) -> Option<T> {
    let path = folder.path(&file.value);
    let content = files::content(p, folder, file, what)?;
    let Ok(text) = std::str::from_utf8(&content) else {
        p.error(&file.place, format!("{what} {} is not UTF-8", path.display()));
        return None;
    };
    let source = super::super::diagnostic::Source {
        name: path.display().to_string(),
        text: shape(text),
    };
    let mut inner = Problems::new(Some(Arc::new(source)));
    let (table, broken) = DeTable::parse_recoverable(text);
    let own = Folder::new(path.parent().unwrap_or(Path::new("")));
    let value = read(&mut inner, &own, table.get_ref());
    super::super::is_toml(&mut inner, &broken);
    inner.hide_lines();
    let is_right = !inner.has_errors();
    p.take(inner.into_list());
    is_right.then_some(value)
}

/// A text of the same lines and columns, without what stands there.
fn shape(text: &str) -> String {
    let same = |c: char| match c.len_utf8() {
        _ if c == '\n' => '\n',
        1 => 'x',
        2 => 'é',
        3 => '…',
        _ => '🔒',
    };
    text.chars().map(same).collect()
}

/// Finds a file of a dictionary: a relative name starts at the folder of the file that has it.
pub fn include(from: &str, name: &str) -> Result<Option<Source>, String> {
    let path = beside(from, name);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::plain(&error)),
        // Comments in dictionaries are in whatever their authors wrote.
        Ok(octets) => Ok(Some(Source {
            name: path.display().to_string(),
            text: String::from_utf8_lossy(&octets).into_owned(),
        })),
    }
}

/// The same of a file whose octets matter.
pub fn include_exact(from: &str, name: &str) -> Result<Option<Source>, String> {
    let path = beside(from, name);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::plain(&error)),
        Ok(octets) => match std::str::from_utf8(&octets) {
            Ok(text) => Ok(Some(Source {
                name: path.display().to_string(),
                text: text.to_owned(),
            })),
            Err(error) => {
                let before = octets.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
                Err(format!("line {line} of {} is not UTF-8", path.display()))
            }
        },
    }
}

/// The same of a file, or of all files of a folder, in the order of their names. As in FreeRADIUS, names with other signs than
/// letters, digits, `.`, `-` and `_` are left out: those are left behind by editors and packages.
pub fn include_all(from: &str, name: &str) -> Result<Vec<Source>, String> {
    let path = beside(from, name);
    if !path.is_dir() {
        return Ok(include_exact(from, name)?.into_iter().collect());
    }
    let mut names = Vec::new();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    for found in std::fs::read_dir(&path).map_err(|error| files::plain(&error))? {
        let found = found.map_err(|error| files::plain(&error))?.file_name();
        if let Some(name) = found.to_str()
            && !name.starts_with('.')
            && name.chars().all(is_plain)
        {
            names.push(path.join(name));
        }
        if names.len() > FOLDER_FILES_MAX {
            return Err(format!("more than {FOLDER_FILES_MAX} files"));
        }
    }
    names.sort();
    let files = names.iter().filter(|path| path.is_file());
    let read = files.map(|path| include_exact("", &path.display().to_string()));
    read.filter_map(Result::transpose).collect()
}

fn beside(from: &str, name: &str) -> PathBuf {
    match (from, Path::new(from).parent()) {
        ("", _) | (_, None) => PathBuf::from(name),
        (_, Some(folder)) => folder.join(name),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::new());
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets)?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(octets)
}
