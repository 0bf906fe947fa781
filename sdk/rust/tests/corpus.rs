//! Replays the corpus of the helper end's fuzz target, every beginning of each file, and some single-bit changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/bodies/helper_end.rs"]
mod helper_end_body;

/// Each byte that says which message, the length, the bytes: see the body.
const SEEDS: &[(&str, &[u8])] = &[
    (
        "seed-calls",
        b"\x00\x08\x01\x00\x08\x01\x01\x08\x01\x02\x08\x01\x03\x08\x01\x04\x08\x01\x05\x08\x01\x06\x07\x00",
    ),
    ("seed-shared", b"\x01\x0d\x02\x04\x04\x08\x01\x04\x0d\x64x\x15\x00"),
    (
        "seed-ask",
        b"\x00\x08\x01\x01\x13\x03\x01no\x0b\x06secret\x08\x01\x01\x0a\x00",
    ),
    (
        "seed-pieces",
        b"\x00\x09\x04\x06abc\x0c\x05defgh\x09\x02\x06a\x0a\x00\x08\x01\x06",
    ),
    ("seed-descriptor", b"\x01\x0e\x01\x05\x0e\x01\x06"),
    (
        "seed-interrupts",
        b"\x00\x08\x01\x02\x0a\x00\x0a\x00\x12\x00\x08\x01\x00\x0a\x00",
    ),
    ("seed-nonsense", b"\x00\x07\x03abc"),
];

#[test]
fn helper_end() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/helper_end");
    for (name, seed) in SEEDS {
        if std::env::var_os("USHERD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), seed).unwrap();
        }
        let kept = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&kept, seed, "{name} is not what is written today: USHERD_WRITE_SEEDS=1");
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for cut in 0..=bytes.len().min(512) {
            helper_end_body::run(&bytes[..cut]);
        }
        let mut changed = bytes.clone();
        for at in 0..bytes.len().min(256) {
            for bit in [0, 3, 7] {
                changed[at] ^= 1 << bit;
                helper_end_body::run(&changed);
                changed[at] ^= 1 << bit;
            }
        }
    }
}
