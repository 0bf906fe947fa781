//! The table `dbus` of a service whose helpers speak D-Bus: which method of theirs is called, where it is not ours.

use wire::dbus::{is_interface, is_member, is_path};

use super::diagnostic::{At, Place, Problems};
use super::plan::{DbusMethod, Transport};
use super::raw;
use super::reader::Section;

/// `[service.NAME.dbus]`.
#[derive(Debug)]
pub struct Dbus {
    /// The section.
    pub place: Place,
    /// The object.
    pub path: Option<At<String>>,
    /// Its interface.
    pub interface: Option<At<String>>,
    /// The method.
    pub method: Option<At<String>>,
    /// Whether payloads are text.
    pub payload: Option<At<bool>>,
}

/// The words of `payload`, and whether they mean text.
pub const PAYLOADS: [(&str, bool); 2] = [("bytes", false), ("text", true)];

pub(super) fn read(p: &mut Problems, mut section: Section<'_>) -> Dbus {
    let dbus = Dbus {
        place: section.place.clone(),
        path: section.string(p, "path"),
        interface: section.string(p, "interface"),
        method: section.string(p, "method"),
        payload: section.choice(p, "payload", &PAYLOADS, &[]),
    };
    section.finish(p);
    dbus
}

/// The method that is called; none: ours.
pub(super) fn method(p: &mut Problems, raw: &raw::Service) -> Option<DbusMethod> {
    let written = raw.dbus.as_ref()?;
    let transport = raw.stay.transport.as_ref().map(|at| at.value);
    if transport != Some(Transport::Dbus) {
        p.error(&written.place, "the table `dbus` is for transport = \"dbus\"")
            .help("leave it out, or write transport = \"dbus\"");
    }
    let mut named = |key: &str, at: &Option<At<String>>, is_one: fn(&str) -> bool, example: &str| {
        let Some(at) = at else {
            if p.absent(&written.place, key) {
                p.error(&written.place, format!("the table `dbus` has no `{key}`"))
                    .label("it names a method of the program's own")
                    .help(format!("add {key} = \"{example}\""))
                    .help("or leave the table out where the program has our interface, org.usherd.Helper1");
            }
            return None;
        };
        if !is_one(&at.value) {
            p.error(&at.place, format!("`{key}` is none that D-Bus allows"))
                .label(format!("found \"{}\"", at.value.escape_debug()))
                .help(format!("write one like {key} = \"{example}\""));
            return None;
        }
        Some(at.value.clone())
    };
    let path = named("path", &written.path, is_path, "/com/example/Upper");
    let interface = named("interface", &written.interface, is_interface, "com.example.Upper");
    let method = named("method", &written.method, is_member, "Convert");
    Some(DbusMethod {
        path: path?,
        interface: interface?,
        method: method?,
        text: written.payload.as_ref().is_some_and(|at| at.value),
    })
}
