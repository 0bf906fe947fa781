//! What objects, interfaces and methods may be called (D-Bus Specification, "Valid Names").

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Whether this is the path of an object: `/`, or elements of letters, digits and underscores, each behind a slash; 255 bytes
/// at most, which is ours: the specification has no bound.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let element = |part: &str| !part.is_empty() && part.bytes().all(usual);
    text == "/"
        || text.len() <= NAME_BYTES_MAX && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(element))
}

/// Whether this is the name of an interface: two elements or more with dots between them; 255 bytes at most.
#[must_use]
pub fn is_interface(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.contains('.') && text.split('.').all(is_element)
}

/// Whether this is the name of a method or signal: letters, digits and underscores, no digit first; 1 to 255 bytes.
#[must_use]
pub fn is_member(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && is_element(text)
}

fn is_element(text: &str) -> bool {
    text.bytes().all(usual) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
