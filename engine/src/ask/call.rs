//! The JSON object that a service is called with (`docs/identity-calls.md`).

use serde_json::Value;
use zeroize::Zeroizing;

/// A call's JSON object. Passwords are written straight into the buffer that is wiped.
#[derive(Debug)]
pub struct Object {
    out: Zeroizing<Vec<u8>>,
}

impl Object {
    /// An object with the member `do`.
    pub fn new(what: &str) -> Object {
        Object::with_room(what, 8192)
    }

    /// The same, with room for so many bytes: what grows leaves copies behind.
    pub fn with_room(what: &str, bytes: usize) -> Object {
        let mut object = Object {
            out: Zeroizing::new(Vec::with_capacity(bytes)),
        };
        object.out.push(b'{');
        object.text("do", what);
        object
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.json(key, |out| {
            // Writing a text into memory cannot fail.
            let _ = serde_json::to_writer(out, value);
        });
    }

    /// Adds a text of bytes; false: they are none.
    pub fn bytes(&mut self, key: &str, value: &[u8]) -> bool {
        std::str::from_utf8(value).map(|text| self.text(key, text)).is_ok()
    }

    /// Adds any value.
    pub fn value(&mut self, key: &str, value: &Value) {
        self.json(key, |out| {
            let _ = serde_json::to_writer(out, value);
        });
    }

    /// The whole object.
    pub fn end(mut self) -> Zeroizing<Vec<u8>> {
        self.out.push(b'}');
        self.out
    }

    /// Adds what `write` appends, which is JSON.
    pub fn json(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        let _ = serde_json::to_writer(&mut *self.out, key);
        self.out.push(b':');
        write(&mut self.out);
    }
}
