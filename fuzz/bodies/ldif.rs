//! Any bytes as an LDIF file: reading ends, every line number is in the file, and nothing follows an error.

use wire::ldif::{Content, Reader};

pub(crate) fn run(data: &[u8]) {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut reader = Reader::new(data);
    let mut before = 0;
    while let Some(record) = reader.next() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                assert!((1..=lines).contains(&error.line), "{error}");
                assert!(reader.next().is_none());
                return;
            }
        };
        assert!(record.line > before && record.line <= lines);
        before = record.line;
        match record.content {
            Content::Entry(fields) | Content::Add(fields) => {
                for field in fields {
                    assert!(field.line > before && field.line <= lines);
                    assert!(!field.attribute.is_empty());
                    before = field.line;
                }
            }
            Content::Modify(changes) => {
                for change in changes {
                    assert!(change.line > before && change.line <= lines);
                    before = change.line;
                }
            }
            Content::Delete | Content::ModifyDn { .. } => {}
        }
    }
}
