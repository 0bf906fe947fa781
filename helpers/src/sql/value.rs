//! Values on their way: from a call's parameters, checked against their declared types, to the database, and from its
//! columns to the answer.
//!
//! | type | in a call | in an answer |
//! |---|---|---|
//! | `string` | text | text |
//! | `integer`, `unsigned` | number of 64 bits | number |
//! | `float` | number | number |
//! | `boolean` | true, false | 1, 0: the database knows no other |
//! | `bytes` | byte string; in JSON `{"base64": "…"}` | the same |
//! | `date` | `2026-11-23` | the same |
//! | `time` | `-838:59:59.999999` to `838:59:59.999999` | the same |
//! | `datetime` | `2026-11-23T18:00:00.5`, a blank for the T allowed | with T |
//! | `decimal` | text of digits, or a whole number | text |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use mysql::consts::{ColumnFlags, ColumnType};
use mysql::{Column, Value as Sql};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The member by which JSON says bytes.
pub const BASE64: &str = "base64";
/// The character set of what is no text (MySQL's `binary`).
const BINARY: u16 = 63;
/// Digits of a DECIMAL.
const DECIMAL_DIGITS_MAX: usize = 65;

/// The declared type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// -2^63 to 2^63-1.
    Integer,
    /// 0 to 2^64-1.
    Unsigned,
    /// A finite number.
    Float,
    /// True or false.
    Boolean,
    /// Any bytes.
    Bytes,
    /// A day.
    Date,
    /// A time of day, or a span.
    Time,
    /// A day and a time.
    Datetime,
    /// An exact number.
    Decimal,
}

/// The words of `parameters`.
pub const KINDS: [(&str, Kind); 10] = [
    ("string", Kind::String),
    ("integer", Kind::Integer),
    ("unsigned", Kind::Unsigned),
    ("float", Kind::Float),
    ("boolean", Kind::Boolean),
    ("bytes", Kind::Bytes),
    ("date", Kind::Date),
    ("time", Kind::Time),
    ("datetime", Kind::Datetime),
    ("decimal", Kind::Decimal),
];

/// One parameter of a statement: `"string"`, or `"string?"` where null may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What it is.
    pub kind: Kind,
    /// Whether null will do.
    pub nullable: bool,
}

impl Parameter {
    /// Reads the word of the configuration; none: no such type.
    pub fn parse(word: &str) -> Option<Parameter> {
        let (name, nullable) = match word.strip_suffix('?') {
            Some(name) => (name, true),
            None => (word, false),
        };
        let (_, kind) = KINDS.into_iter().find(|(known, _)| *known == name)?;
        Some(Parameter { kind, nullable })
    }

    /// The word of the configuration.
    pub fn word(self) -> String {
        let mark = if self.nullable { "?" } else { "" };
        format!("{}{mark}", self.name())
    }

    fn name(self) -> &'static str {
        KINDS
            .into_iter()
            .find(|(_, kind)| *kind == self.kind)
            .map_or("", |(name, _)| name)
    }

    /// The value for the database, if `given` fits.
    ///
    /// # Errors
    /// What was expected and what was found; never the value itself, which may be a secret.
    pub fn bind(self, given: &Value) -> Result<Sql, String> {
        if given.is_null() {
            return if self.nullable {
                Ok(Sql::NULL)
            } else {
                Err(format!("null is no {} (declare it \"{}?\")", self.name(), self.name()))
            };
        }
        let bound = match self.kind {
            Kind::String => given.as_text().map(|text| Sql::Bytes(text.as_bytes().to_vec())),
            Kind::Integer => integer(given).and_then(|n| i64::try_from(n).ok()).map(Sql::Int),
            Kind::Unsigned => integer(given).and_then(|n| u64::try_from(n).ok()).map(Sql::UInt),
            Kind::Float => float(given).map(Sql::Double),
            Kind::Boolean => given.as_bool().map(|yes| Sql::Int(i64::from(yes))),
            Kind::Bytes => bytes(given).map(Sql::Bytes),
            Kind::Date => given.as_text().and_then(date).map(|day| day.at([0; 4])),
            Kind::Time => given.as_text().and_then(time),
            Kind::Datetime => given.as_text().and_then(datetime),
            Kind::Decimal => decimal(given).map(|text| Sql::Bytes(text.into_bytes())),
        };
        bound.ok_or_else(|| format!("{} is no {}", describe(given), self.right()))
    }

    fn right(self) -> &'static str {
        match self.kind {
            Kind::String => "string",
            Kind::Integer => "integer of 64 bits",
            Kind::Unsigned => "unsigned integer of 64 bits",
            Kind::Float => "finite number",
            Kind::Boolean => "boolean",
            Kind::Bytes => "byte string (in JSON {\"base64\": \"…\"})",
            Kind::Date => "date (2026-11-23)",
            Kind::Time => "time (18:00:00, at most 838:59:59)",
            Kind::Datetime => "datetime (2026-11-23T18:00:00)",
            Kind::Decimal => "decimal (\"12.50\", 65 digits at most)",
        }
    }
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.word())
    }
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Parameter::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("no such type: {word}")))
    }
}

/// What the database gave for a column, as the answer says it.
pub fn answer(value: Sql, column: &Column) -> Value {
    let kind = column.column_type();
    match value {
        Sql::NULL => Value::Null,
        Sql::Int(number) => number.into(),
        Sql::UInt(number) => number.into(),
        Sql::Double(number) => number.into(),
        // By its shortest digits, so that 0.1 does not become 0.10000000149.
        Sql::Float(number) => number.to_string().parse().unwrap_or(f64::from(number)).into(),
        Sql::Date(year, month, day, hour, minute, second, micro) => {
            let mut text = format!("{year:04}-{month:02}-{day:02}");
            if kind != ColumnType::MYSQL_TYPE_DATE {
                text.push_str(&format!("T{hour:02}:{minute:02}:{second:02}{}", fraction(micro)));
            }
            text.into()
        }
        Sql::Time(negative, days, hours, minutes, seconds, micro) => {
            let sign = if negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micro)).into()
        }
        Sql::Bytes(bytes) => raw(bytes, column, kind),
    }
}

fn raw(bytes: Vec<u8>, column: &Column, kind: ColumnType) -> Value {
    if kind == ColumnType::MYSQL_TYPE_BIT && bytes.len() <= 8 {
        let number = bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        return number.into();
    }
    let numeric = matches!(
        kind,
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_JSON
    );
    let binary = column.character_set() == BINARY && column.flags().contains(ColumnFlags::BINARY_FLAG) && !numeric;
    if binary {
        return Value::Bytes(bytes);
    }
    // A column of text whose bytes are no UTF-8 (a broken conversion) is still told as it is.
    String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text)
}

fn fraction(micro: u32) -> String {
    if micro == 0 {
        String::new()
    } else {
        format!(".{micro:06}").trim_end_matches('0').to_owned()
    }
}

/// JSON of a value, members in their order: bytes become `{"base64": …}`, what JSON cannot say becomes null.
pub fn to_json(value: &Value) -> String {
    serde_json::to_string(&AsJson(value)).unwrap_or_default()
}

struct AsJson<'a>(&'a Value);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(yes) => serializer.serialize_bool(*yes),
            Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => serializer.serialize_u64(number),
                (_, Ok(number)) => serializer.serialize_i64(number),
                _ => serializer.serialize_unit(),
            },
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.collect_map([(BASE64, STANDARD.encode(bytes))]),
            Value::Array(items) => serializer.collect_seq(items.iter().map(AsJson)),
            Value::Map(pairs) => {
                let named = pairs
                    .iter()
                    .filter_map(|(key, value)| Some((key.as_text()?, AsJson(value))));
                serializer.collect_map(named)
            }
            _ => serializer.serialize_unit(),
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Bool(yes) => yes.to_string(),
        Value::Integer(_) => "this whole number".into(),
        Value::Float(_) => "this number".into(),
        Value::Text(text) => format!("a text of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("a byte string of {} bytes", bytes.len()),
        Value::Array(_) => "a list".into(),
        Value::Map(_) => "an object".into(),
        _ => "this".into(),
    }
}

fn integer(given: &Value) -> Option<i128> {
    given.as_integer().map(i128::from)
}

fn float(given: &Value) -> Option<f64> {
    let number = match given {
        Value::Float(number) => *number,
        // Whole numbers are rounded to what a double can hold, as JSON's readers do.
        #[allow(clippy::cast_precision_loss)]
        Value::Integer(number) => i128::from(*number) as f64,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn bytes(given: &Value) -> Option<Vec<u8>> {
    match given {
        Value::Bytes(bytes) => Some(bytes.clone()),
        Value::Map(pairs) => match pairs.as_slice() {
            [(Value::Text(key), Value::Text(text))] if key == BASE64 => STANDARD.decode(text).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn decimal(given: &Value) -> Option<String> {
    let text = match given {
        Value::Integer(number) => i128::from(*number).to_string(),
        Value::Text(text) => text.clone(),
        _ => return None,
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(whole) && all_digits(part) && whole.len() + part.len() <= DECIMAL_DIGITS_MAX + 1).then_some(text)
}

struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    fn at(self, [hour, minute, second, micro]: [u32; 4]) -> Sql {
        let small = |number: u32| u8::try_from(number).unwrap_or_default();
        Sql::Date(
            self.year,
            self.month,
            self.day,
            small(hour),
            small(minute),
            small(second),
            micro,
        )
    }
}

fn date(text: &str) -> Option<Day> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=last).contains(&day).then_some(Day {
        year: u16::try_from(year).ok()?,
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
    })
}

fn datetime(text: &str) -> Option<Sql> {
    let (day, clock) = text.split_once(['T', ' '])?;
    let [hour, minute, second, micro] = clock_of(clock)?;
    (hour < 24).then_some(())?;
    Some(date(day)?.at([hour, minute, second, micro]))
}

fn time(text: &str) -> Option<Sql> {
    let (negative, clock) = match text.strip_prefix('-') {
        Some(clock) => (true, clock),
        None => (false, text),
    };
    let [hour, minute, second, micro] = clock_of(clock)?;
    (hour <= 838).then_some(())?;
    let small = |number: u32| u8::try_from(number).ok();
    Some(Sql::Time(
        negative,
        hour / 24,
        small(hour % 24)?,
        small(minute)?,
        small(second)?,
        micro,
    ))
}

/// `HH:MM:SS[.ffffff]`, hours unbounded.
fn clock_of(text: &str) -> Option<[u32; 4]> {
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (second, micro) = match second.split_once('.') {
        Some((second, part)) if (1..=6).contains(&part.len()) => {
            (second, number(part)? * 10_u32.pow(6 - u32::try_from(part.len()).ok()?))
        }
        Some(_) => return None,
        None => (second, 0),
    };
    if parts.next().is_some() || !(2..=3).contains(&hour.len()) || minute.len() != 2 || second.len() != 2 {
        return None;
    }
    let clock = [number(hour)?, number(minute)?, number(second)?, micro];
    (clock[1] < 60 && clock[2] < 60).then_some(clock)
}

/// Digits alone, no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}
