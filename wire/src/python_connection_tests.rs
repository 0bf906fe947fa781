use proptest::prelude::*;

use super::{Digest, Handshake, Next, Pickle, Refusal, payload, put_frame, split};
use crate::frame::{Malformed, Step};

const KEY: &[u8] = b"secret \0 key\n";
const NONCE: [u8; 40] = *b"0123456789abcdefghijklmnopqrstuvwxyzABCD";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_hmacs_are_those_of_python() {
    // python3 -c 'import hmac; print(hmac.new(b"secret \0 key\n", b"message", NAME).hexdigest())'
    for (digest, expected) in [
        (Digest::Md5, MD5),
        (Digest::Sha256, SHA256),
        (Digest::Sha384, SHA384),
        (Digest::Sha3_256, SHA3_256),
        (Digest::Sha3_384, SHA3_384),
    ] {
        assert_eq!(hex(&digest.mac(KEY, b"message")), expected, "{digest:?}");
    }
}

const MD5: &str = "b8a37c202905e026e8b6aa39fdce2d0c";
const SHA256: &str = "deeeffd35b5de6b3941960864876ddc998c21ee8da9211c8797b0ea7dfe98226";
const SHA384: &str = "f2d4a1f06fdc3ce84c42f4b98b92b21b7e221f9b4307efd1\
    6851e14c0c6fd10b8b71a45ad31e72ad0433e160d0f199b9";
const SHA3_256: &str = "0f9de2fdec6852933ed4fcd1a128ff0601736d86da9bba80d3a7ea9fcf7725b5";
const SHA3_384: &str = "fe61f0a08e245f9c408b485ab7e7479311972e24dccf750e\
    60e57a4dbe54d15b677667deef341bb183c6405927de97a4";

/// Plays a listener of one of the dialects; `asks` and `answers` are the digests it uses.
fn play(challenge: &[u8], answer: impl Fn(&[u8]) -> Vec<u8>) -> Result<(Vec<u8>, Next), Refusal> {
    let mut ours = Handshake::new(KEY, &NONCE);
    let first = ours.receive(&[b"#CHALLENGE#", challenge].concat())?;
    let question = ours.receive(b"#WELCOME#")?;
    let message = question.send[0].strip_prefix(b"#CHALLENGE#").unwrap();
    Ok((first.send[0].clone(), ours.receive(&answer(message))?))
}

#[test]
fn the_old_dialect_is_md5_over_whatever_is_asked() {
    let (answer, last) = play(&[7; 20], |message| Digest::Md5.mac(KEY, message)).unwrap();
    assert_eq!(answer, Digest::Md5.mac(KEY, &[7; 20]));
    assert_eq!(
        last,
        Next {
            send: vec![b"#WELCOME#".to_vec()],
            done: true
        }
    );
}

#[test]
fn the_new_dialect_names_its_digest_in_what_is_covered() {
    for name in ["md5", "sha256", "sha384", "sha3_256", "sha3_384"] {
        let message = format!("{{{name}}}{}", "r".repeat(40));
        let answering = |message: &[u8]| [b"{sha256}", Digest::Sha256.mac(KEY, message).as_slice()].concat();
        let (answer, last) = play(message.as_bytes(), answering).unwrap();
        assert!(answer.starts_with(format!("{{{name}}}").as_bytes()));
        assert!(last.done);
    }
}

#[test]
fn a_wrong_key_a_weaker_digest_and_nonsense_are_told_apart() {
    let modern = [b"{sha256}".as_slice(), &[1; 40]].concat();
    let wrong = |message: &[u8]| [b"{sha256}", Digest::Sha256.mac(b"other", message).as_slice()].concat();
    assert_eq!(play(&modern, wrong).unwrap_err(), Refusal::WrongAnswer);
    let weaker = |message: &[u8]| Digest::Md5.mac(KEY, message);
    assert_eq!(play(&modern, weaker).unwrap_err(), Refusal::Digest);
    let named = |message: &[u8]| [b"{md5}", Digest::Md5.mac(KEY, message).as_slice()].concat();
    assert_eq!(play(&modern, named).unwrap_err(), Refusal::Digest);
    assert_eq!(play(b"{sha1}rrrr", named).unwrap_err(), Refusal::Digest);
    let mut ours = Handshake::new(KEY, &NONCE);
    assert_eq!(ours.receive(b"SSH-2.0-OpenSSH"), Err(Refusal::Protocol));
    let mut ours = Handshake::new(KEY, &NONCE);
    ours.receive(&[b"#CHALLENGE#".as_slice(), &[7; 20]].concat()).unwrap();
    assert_eq!(ours.receive(b"#FAILURE#"), Err(Refusal::WrongKey));
    assert_eq!(ours.receive(b"#WELCOME#"), Err(Refusal::Protocol), "it is over");
}

#[test]
fn frames_are_found_whole_or_refused_by_their_header() {
    let mut out = Vec::new();
    put_frame(&mut out, |out| out.extend_from_slice(b"abc"));
    assert_eq!(out, b"\0\0\0\x03abc");
    assert_eq!(split(&out, 3), Step::Frame { len: 7 });
    assert_eq!(payload(&out), b"abc");
    assert_eq!(split(&out[..6], 3), Step::NeedMore { total: Some(7) });
    assert_eq!(split(&out, 2), Step::Malformed(Malformed::TooLarge));
    let long = b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02ab";
    assert_eq!(split(long, 2), Step::Frame { len: 14 });
    assert_eq!(payload(long), b"ab");
    assert!(matches!(
        split(b"\xff\xff\xff\xfe", 9),
        Step::Malformed(Malformed::BadValue(_))
    ));
    assert_eq!(
        split(&[0xFF; 12], usize::MAX),
        Step::NeedMore {
            total: Some(usize::MAX)
        }
    );
}

#[test]
fn a_pickle_is_what_python_says_it_is() {
    let mut out = Vec::new();
    let mut pickle = Pickle::begin(&mut out);
    pickle.dict();
    pickle.text("a");
    pickle.list();
    pickle.integer(255);
    pickle.integer(65_535);
    pickle.integer(65_536);
    pickle.integer(u64::MAX);
    pickle.boolean(true);
    pickle.none();
    pickle.bytes(b"\0\xff");
    pickle.list_end();
    pickle.dict_end();
    pickle.end();
    // pickletools.dis reads the same; the process tests have a real Listener read it.
    let expected = b"\x80\x03}(X\x01\0\0\0a](K\xffM\xff\xffJ\0\0\x01\0\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0\x88NC\x02\0\xffeu.";
    assert_eq!(out, expected);
}

proptest! {
    #[test]
    fn what_is_framed_is_found(payload_in in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let mut out = Vec::new();
        put_frame(&mut out, |out| out.extend_from_slice(&payload_in));
        let whole = out.len();
        prop_assert_eq!(split(&out, 300), Step::Frame { len: whole });
        prop_assert_eq!(payload(&out), payload_in.as_slice());
        let part = &out[..cut.min(whole - 1)];
        let more = matches!(split(part, 300), Step::NeedMore { .. });
        prop_assert!(more);
    }
}
