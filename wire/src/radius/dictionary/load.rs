//! Dictionaries in the syntax of FreeRADIUS 3.
//!
//! ```text
//! $INCLUDE  FILE            $INCLUDE- FILE (may be missing)
//! VENDOR    NAME  NUMBER  [format=T,L[,c]]
//! BEGIN-VENDOR NAME [parent=ATTRIBUTE | format=ATTRIBUTE]      END-VENDOR NAME
//! BEGIN-TLV NAME                                               END-TLV NAME
//! ATTRIBUTE NAME  NUMBER  TYPE[[LENGTH]]  [flag,flag…]
//! VALUE     ATTRIBUTE NAME NUMBER
//! FLAGS     [!]internal
//! ```
//!
//! A number is decimal, or hex behind `0x`; dots go into TLVs (`1.2`), vendors (`26.9.1`) and extended attributes (`241.1`),
//! and one that begins with a dot is below the last attribute without one. The file system is the caller's: it is asked for
//! each file by a function. A wrong line is told with file and line, and the others are read on, so that all mistakes
//! are told at once.

use std::fmt;

use super::syntax::{Wrong, check_name, number_of, parse_format, read_flags, read_type, wrong};
use super::{AttributeId, Definition, Dictionary, Format, INTERNAL, Path, Place, TOP, Values, Vendor};
use crate::radius::number;
use crate::radius::value::DataType;

/// Files in files, at most.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Files of one dictionary, at most.
const FILES_MAX: usize = 2000;
/// Mistakes that are told, at most.
const FAULTS_MAX: usize = 100;

/// A file.
#[derive(Clone, Debug)]
pub struct Source {
    /// By which name it is told of, and by which its own includes are found.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Finds a file: told the name of the file that includes it (empty: none does) and what stands there. None: there is no such file. Err: it
/// cannot be read, and why.
pub type Include<'f> = dyn FnMut(&str, &str) -> Result<Option<Source>, String> + 'f;

/// A mistake in a dictionary, or something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line, from 1. 0: the file as a whole.
    pub line: usize,
    /// What was found.
    pub found: String,
    /// What would be right, or what was done.
    pub right: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}; {}", self.file, self.found, self.right),
            line => write!(f, "{}:{line}: {}; {}", self.file, self.found, self.right),
        }
    }
}

impl std::error::Error for Fault {}

/// A dictionary, and what is worth knowing of how it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The dictionary.
    pub dictionary: Dictionary,
    /// Numbers that were given a second name, and definitions of ours that were replaced.
    pub notices: Vec<Fault>,
}

impl Dictionary {
    /// Puts a file and all that it includes on top of this dictionary. What our own dictionary says may be said otherwise;
    /// what the files say twice must be the same both times.
    ///
    /// # Errors
    /// All mistakes, up to 100.
    pub fn load(self, file: &str, include: &mut Include<'_>) -> Result<Loaded, Vec<Fault>> {
        self.load_as(file, include, false)
    }

    pub(super) fn load_as(self, file: &str, include: &mut Include<'_>, standard: bool) -> Result<Loaded, Vec<Fault>> {
        let mut loader = Loader {
            dictionary: self,
            include,
            standard,
            files: 0,
            values: 0,
            waiting: Vec::new(),
            at: (file.to_string(), 0),
            faults: Vec::new(),
            notices: Vec::new(),
        };
        if let Err((found, right)) = loader.file("", file, 0, true) {
            loader.fault(found, right);
        }
        loader.waiting_values();
        if loader.faults.is_empty() {
            Ok(Loaded {
                dictionary: loader.dictionary,
                notices: loader.notices,
            })
        } else {
            Err(loader.faults)
        }
    }
}

pub(super) struct Loader<'f, 'i> {
    pub(super) dictionary: Dictionary,
    include: &'f mut Include<'i>,
    pub(super) standard: bool,
    files: usize,
    pub(super) values: usize,
    /// VALUEs whose attribute is not there yet: file, line, attribute, name, number.
    pub(super) waiting: Vec<((String, usize), [String; 3])>,
    pub(super) at: (String, usize),
    faults: Vec<Fault>,
    notices: Vec<Fault>,
}

/// What a file is in the middle of.
struct Within {
    /// Where attributes belong: the top, a vendor, a TLV.
    places: Vec<(Opened, Place, Path)>,
    /// The last attribute whose number did not begin with a dot.
    last: Option<(Place, Path)>,
    internal: bool,
}

#[derive(PartialEq, Eq)]
enum Opened {
    File,
    Vendor(String),
    Tlv(String),
}

impl Loader<'_, '_> {
    pub(super) fn fault(&mut self, found: String, right: String) {
        if self.faults.len() < FAULTS_MAX {
            let (file, line) = self.at.clone();
            self.faults.push(Fault {
                file,
                line,
                found,
                right,
            });
        }
    }

    pub(super) fn notice(&mut self, found: String, right: &str) {
        let (file, line) = self.at.clone();
        let right = right.to_string();
        self.notices.push(Fault {
            file,
            line,
            found,
            right,
        });
    }

    fn file(&mut self, from: &str, name: &str, depth: usize, needed: bool) -> Result<(), Wrong> {
        if depth >= INCLUDE_DEPTH_MAX || self.files >= FILES_MAX {
            let right = format!(
                "at most {INCLUDE_DEPTH_MAX} files in each other and {FILES_MAX} in all: does one include itself?"
            );
            return wrong(format!("$INCLUDE {name}, one file too many"), right);
        }
        self.files += 1;
        let source = match (self.include)(from, name) {
            Ok(Some(source)) => source,
            Ok(None) if !needed => return Ok(()),
            Ok(None) => return wrong(format!("there is no file {name}"), "name one that is there"),
            Err(why) => return wrong(format!("{name} cannot be read: {why}"), "make it readable"),
        };
        let before = std::mem::replace(&mut self.at, (source.name.clone(), 0));
        let mut within = Within {
            places: vec![(Opened::File, TOP, Path::default())],
            last: None,
            internal: false,
        };
        for (number, line) in source.text.lines().enumerate() {
            self.at.1 = number + 1;
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if let Err((found, right)) = self.line(&words, &mut within, &source.name, depth) {
                self.fault(found, right);
            }
            if self.faults.len() >= FAULTS_MAX {
                break;
            }
        }
        if let Some((Opened::Vendor(name) | Opened::Tlv(name), ..)) = within.places.last()
            && self.faults.is_empty()
        {
            self.fault(
                format!("the file ends within {name}"),
                "close it with END-VENDOR or END-TLV".to_string(),
            );
        }
        self.at = before;
        Ok(())
    }

    fn line(&mut self, words: &[&str], within: &mut Within, file: &str, depth: usize) -> Result<(), Wrong> {
        let Some((keyword, words)) = words.split_first() else {
            return Ok(());
        };
        match (keyword.to_ascii_uppercase().as_str(), words) {
            ("ATTRIBUTE", &[name, number, data_type]) => self.attribute(within, name, number, data_type, ""),
            ("ATTRIBUTE", &[name, number, data_type, flags]) => self.attribute(within, name, number, data_type, flags),
            ("ATTRIBUTE", _) => wrong(
                format!("ATTRIBUTE with {} words", words.len()),
                "ATTRIBUTE NAME NUMBER TYPE [flag,flag]",
            ),
            ("VALUE", &[attribute, name, number]) => self.value(attribute, name, number),
            ("VALUE", _) => wrong(
                format!("VALUE with {} words", words.len()),
                "VALUE ATTRIBUTE NAME NUMBER",
            ),
            ("VENDOR", &[name, number]) => self.vendor(name, number, None),
            ("VENDOR", &[name, number, format]) => self.vendor(name, number, Some(format)),
            ("VENDOR", _) => wrong(
                format!("VENDOR with {} words", words.len()),
                "VENDOR NAME NUMBER [format=1,1]",
            ),
            ("$INCLUDE", &[name]) => self.file(file, name, depth + 1, true),
            ("$INCLUDE-", &[name]) => self.file(file, name, depth + 1, false),
            ("BEGIN-VENDOR", &[name]) => self.begin_vendor(within, name, None),
            ("BEGIN-VENDOR", &[name, parent]) => self.begin_vendor(within, name, Some(parent)),
            ("BEGIN-TLV", &[name]) => self.begin_tlv(within, name),
            ("END-VENDOR", &[name]) => end(within, &Opened::Vendor(name.to_ascii_lowercase())),
            ("END-TLV", &[name]) => end(within, &Opened::Tlv(name.to_ascii_lowercase())),
            ("FLAGS", &[flag]) if flag.trim_start_matches('!').eq_ignore_ascii_case("internal") => {
                within.internal = !flag.starts_with('!');
                Ok(())
            }
            ("FLAGS", _) => wrong(words.join(" "), "FLAGS internal or FLAGS !internal"),
            ("$INCLUDE" | "$INCLUDE-" | "BEGIN-VENDOR" | "BEGIN-TLV" | "END-VENDOR" | "END-TLV", _) => wrong(
                format!("{keyword} with {} words", words.len()),
                format!("{keyword} and one name"),
            ),
            (
                "BEGIN-PROTOCOL" | "END-PROTOCOL" | "PROTOCOL" | "ENUM" | "STRUCT" | "MEMBER" | "ALIAS" | "DEFINE"
                | "BEGIN" | "END",
                _,
            ) => wrong(
                format!("{keyword}, of the syntax of FreeRADIUS 4"),
                "the syntax of FreeRADIUS 3",
            ),
            _ => wrong(
                format!("unknown keyword {keyword}"),
                "one of ATTRIBUTE, VALUE, VENDOR, $INCLUDE, BEGIN-VENDOR, END-VENDOR, BEGIN-TLV, END-TLV, FLAGS",
            ),
        }
    }

    fn vendor(&mut self, name: &str, number: &str, format: Option<&str>) -> Result<(), Wrong> {
        check_name(name)?;
        let Some(number) = number_of(number) else {
            return wrong(
                format!("vendor number {number}"),
                "a private enterprise number of 1 to 4294967295",
            );
        };
        let format = match format {
            None => Format::default(),
            Some(text) => parse_format(text)?,
        };
        let vendor = Vendor {
            name: name.into(),
            number,
            format,
            standard: self.standard,
        };
        let same_name = self.dictionary.vendor_named(name).map(|known| known.number);
        if let Some(other) = same_name.filter(|other| *other != number) {
            if self.dictionary.vendor(other).is_none_or(|known| !known.standard) {
                return wrong(
                    format!("vendor {name} again, with number {number}"),
                    format!("it has number {other}"),
                );
            }
            self.dictionary.vendors.remove(&other);
        }
        if let Some(known) = self.dictionary.vendors.get(&number) {
            if known.format != format && !known.standard {
                return wrong(
                    format!("vendor {name} again, with another format"),
                    "one format for each vendor: leave the other file out",
                );
            }
            if !known.name.eq_ignore_ascii_case(name) {
                let found = format!("vendor {number} is called {name} and {}", known.name);
                self.notice(found, "both names are known");
            }
        }
        self.dictionary
            .vendor_names
            .insert(name.to_ascii_lowercase().into(), number);
        self.dictionary.vendors.insert(number, vendor);
        Ok(())
    }

    fn begin_vendor(&mut self, within: &mut Within, name: &str, parent: Option<&str>) -> Result<(), Wrong> {
        let Some(vendor) = self.dictionary.vendor_named(name).map(|vendor| vendor.number) else {
            return wrong(
                format!("BEGIN-VENDOR {name}, which is not known"),
                format!("VENDOR {name} NUMBER before it"),
            );
        };
        if within.places.len() > 1 {
            return wrong(format!("BEGIN-VENDOR {name} within another"), "END-VENDOR before it");
        }
        let (place, path) = match parent {
            None => {
                let number = u32::from(number::VENDOR_SPECIFIC);
                (self.place_below(TOP, number)?, Path::default().below(number))
            }
            Some(parent) => {
                let named = parent
                    .split_once('=')
                    .filter(|(key, _)| matches!(*key, "parent" | "format"));
                let definition = named.and_then(|(_, name)| self.dictionary.named(name));
                match definition {
                    Some(definition) if matches!(definition.data_type, DataType::Evs | DataType::Vsa) => {
                        (definition.id.0, Some(definition.path))
                    }
                    _ => {
                        let right =
                            "parent=NAME of an attribute of the type evs, like parent=Extended-Vendor-Specific-1";
                        return wrong(parent, right);
                    }
                }
            }
        };
        let place = self.place_below(place, vendor)?;
        let path = path.and_then(|path| path.below(vendor)).unwrap_or_default();
        within
            .places
            .push((Opened::Vendor(name.to_ascii_lowercase()), place, path));
        within.last = None;
        Ok(())
    }

    fn begin_tlv(&mut self, within: &mut Within, name: &str) -> Result<(), Wrong> {
        match self.dictionary.named(name) {
            Some(definition) if definition.data_type == DataType::Tlv => {
                let opened = Opened::Tlv(name.to_ascii_lowercase());
                within.places.push((opened, definition.id.0, definition.path));
                within.last = None;
                Ok(())
            }
            Some(definition) => wrong(
                format!("BEGIN-TLV {name}, of the type {}", definition.data_type),
                "a tlv",
            ),
            None => wrong(
                format!("BEGIN-TLV {name}, which is not known"),
                "its ATTRIBUTE before it",
            ),
        }
    }

    fn attribute(
        &mut self,
        within: &mut Within,
        name: &str,
        number: &str,
        data_type: &str,
        flags: &str,
    ) -> Result<(), Wrong> {
        check_name(name)?;
        let (place, path, opened) = match within.places.last() {
            Some((opened, place, path)) => (*place, *path, opened),
            None => (TOP, Path::default(), &Opened::File),
        };
        let ((mut place, mut path), digits, relative) = match (number.strip_prefix('.'), within.last) {
            (Some(rest), Some(last)) => (last, rest, true),
            (Some(_), None) => return wrong(format!("number {number}"), "an ATTRIBUTE without a dot before it"),
            (None, _) => ((place, path), number, *opened != Opened::File),
        };
        let Some(numbers) = Path::parse(digits) else {
            return wrong(
                format!("number {number}"),
                "numbers with dots between them, like 26.9.1, 8 at most",
            );
        };
        let Some((own, above)) = numbers.numbers().split_last() else {
            return wrong(format!("number {number}"), "a number");
        };
        for number in above {
            (place, path) = self.inner(place, &path, *number, name)?;
        }
        let at_top = path.numbers().is_empty();
        let Some(path) = path.below(*own) else {
            return wrong(format!("number {number}"), "8 numbers at most, those above it included");
        };
        self.check_number(&path, relative)?;
        let mut definition = Definition {
            id: AttributeId(0),
            name: name.into(),
            path,
            data_type: DataType::Octets,
            length: None,
            has_tag: false,
            hiding: None,
            concat: data_type.eq_ignore_ascii_case("concat"),
            array: false,
            internal: within.internal || (at_top && *own >= INTERNAL),
            secret: false,
            standard: self.standard,
            values: Values::default(),
        };
        read_type(&mut definition, data_type)?;
        read_flags(&mut definition, flags)?;
        let id = self.define(place, *own, definition)?;
        if !number.starts_with('.') {
            within.last = Some((id, path));
        }
        Ok(())
    }

    /// One step of a number with dots: the attribute there must be one that has others inside, or a vendor's enterprise number.
    fn inner(&mut self, place: Place, path: &Path, number: u32, name: &str) -> Result<(Place, Path), Wrong> {
        let here = self.dictionary.data_type(Some(place), path);
        let Some(path) = path.below(number) else {
            return wrong(format!("the number of {name}"), "8 numbers at most");
        };
        if matches!(here, Some(DataType::Vsa | DataType::Evs)) || path.numbers() == [u32::from(number::VENDOR_SPECIFIC)]
        {
            return Ok((self.place_below(place, number)?, path));
        }
        let child = self.dictionary.child(place, number);
        let definition = child.and_then(|child| Some((child, self.dictionary.definition(child)?)));
        match definition {
            Some((child, definition)) if definition.data_type.is_container() => Ok((child, path)),
            Some((_, definition)) => wrong(
                format!(
                    "{name} inside {}, of the type {}",
                    definition.name, definition.data_type
                ),
                "only tlv, extended, long-extended, evs and vsa have attributes inside",
            ),
            None => wrong(
                format!("{name} inside {path}, which is not known"),
                "the ATTRIBUTE of that number before it",
            ),
        }
    }

    /// Numbers have as many octets as the header of what holds them.
    fn check_number(&self, path: &Path, relative: bool) -> Result<(), Wrong> {
        let numbers = path.numbers();
        let most = match numbers {
            [_] if !relative => return Ok(()),
            &[first, vendor, _] if first == u32::from(number::VENDOR_SPECIFIC) => {
                match self.dictionary.format(vendor).number_octets {
                    1 => 0xff,
                    2 => 0xffff,
                    _ => u32::MAX,
                }
            }
            _ => 0xff,
        };
        match numbers.last() {
            Some(number) if *number > most => wrong(
                format!("number {number}"),
                format!("at most {most} there: say format= at the VENDOR if it has more octets"),
            ),
            _ => Ok(()),
        }
    }
}

fn end(within: &mut Within, what: &Opened) -> Result<(), Wrong> {
    if within.places.last().is_some_and(|(opened, ..)| opened == what) {
        within.places.pop();
        within.last = None;
        return Ok(());
    }
    let right = match within.places.last() {
        Some((Opened::Vendor(name), ..)) => format!("END-VENDOR {name}"),
        Some((Opened::Tlv(name), ..)) => format!("END-TLV {name}"),
        _ => "nothing: nothing is open".to_string(),
    };
    let found = match what {
        Opened::Vendor(name) => format!("END-VENDOR {name}"),
        Opened::Tlv(name) => format!("END-TLV {name}"),
        Opened::File => "an end".to_string(),
    };
    wrong(found, right)
}
