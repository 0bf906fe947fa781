mod rules;
mod times;
mod values;

use std::sync::LazyLock;

use wire::radius::dictionary::Source;
use wire::radius::{Code, Writer, text};

use super::*;

/// The standard one, and attributes inside a tlv.
static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| {
    let text = "VENDOR Example 32473\nBEGIN-VENDOR Example\nATTRIBUTE Example-Plan 1 tlv\nATTRIBUTE Example-Rate 1.1 integer\n\
                ATTRIBUTE Example-Colour 1.2 string\nEND-VENDOR Example\n";
    let mut include = |_: &str, _: &str| {
        Ok(Some(Source {
            name: "example".into(),
            text: text.into(),
        }))
    };
    Dictionary::standard().load("example", &mut include).unwrap().dictionary
});

/// A request with these attributes.
fn request(attributes: &str) -> Vec<u8> {
    let dictionary = &*DICTIONARY;
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_REQUEST, 1, &[0; 16]);
    for item in text::parse_list(dictionary, attributes).unwrap() {
        writer.item(dictionary, &item, None, &mut || 0).unwrap();
    }
    writer.finish_unsealed(&[0; 16]).unwrap();
    out
}

/// A condition as a table of a rule has it.
fn condition(name: &str, values: &[Written<'_>]) -> Result<Condition, String> {
    let dictionary = &*DICTIONARY;
    let (definition, tag) = attribute(dictionary, name).map_err(|(found, right)| format!("{found}: {right}"))?;
    Condition::any_of(definition, tag, values).map_err(|wrong| {
        let told: Vec<String> = wrong.iter().map(|(at, right)| format!("{at}: {right}")).collect();
        told.join("; ")
    })
}

fn is(name: &str, value: &str) -> Condition {
    condition(name, &[Written::Text(value)]).unwrap()
}

fn there(name: &str, is_there: bool) -> Condition {
    let dictionary = &*DICTIONARY;
    Condition::presence(attribute(dictionary, name).unwrap().0, None, is_there).unwrap()
}

fn patterns(all: &[&str]) -> Vec<Pattern> {
    all.iter().map(|text| Pattern::read(text).unwrap()).collect()
}

fn times(all: &[&str]) -> Times {
    let mut times = Times::default();
    all.iter().for_each(|text| times.add(text).unwrap());
    times
}
