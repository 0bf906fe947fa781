//! Any bytes as a datagram between usherd and a helper, to either side: every reader answers, a payload is where its
//! sender may write, and what was read is written back as it came. The first byte says how much memory is shared.

use wire::helper::{self, FromHelper, FromUsherd, Payload};

pub(crate) fn run(data: &[u8]) {
    let Some((memory, datagram)) = data.split_first() else {
        return;
    };
    let shared_bytes = u32::from(*memory) << 9;
    let mut out = Vec::new();
    match helper::from_usherd(datagram, shared_bytes) {
        Ok(FromUsherd::Unknown { kind }) => assert!(!matches!(kind, 1..=5 | 16..=22)),
        Ok(said) => {
            usherd_again(&mut out, said, shared_bytes);
            assert_eq!(out, datagram);
        }
        Err(_) => {}
    }
    match helper::from_helper(datagram, shared_bytes) {
        Ok(FromHelper::Error {
            payload: Payload::Shared { offset, bytes },
            ..
        }) => {
            within(Payload::Shared { offset, bytes }, shared_bytes / 2, shared_bytes);
            assert!((2..=2 + 1024).contains(&bytes));
        }
        Ok(said) => {
            out.clear();
            helper_again(&mut out, said, shared_bytes);
            assert_eq!(out, datagram);
        }
        Err(_) => {}
    }
}

fn usherd_again(out: &mut Vec<u8>, said: FromUsherd<'_>, shared_bytes: u32) {
    match said {
        FromUsherd::Welcome(welcome) => helper::write_welcome(out, &welcome).expect("it was one"),
        FromUsherd::Call(call) => {
            within(call.payload, 0, shared_bytes / 2);
            helper::write_call(out, &call).expect("it was one");
        }
        FromUsherd::Interrupt { call } => helper::write_interrupt(out, call).expect("it was one"),
        FromUsherd::Input { call, payload } => helper::write_input(out, call, payload).expect("it was one"),
        FromUsherd::Goodbye => helper::write_goodbye(out),
        FromUsherd::Unknown { .. } => {}
    }
}

fn helper_again(out: &mut Vec<u8>, said: FromHelper<'_>, shared_bytes: u32) {
    let half = shared_bytes / 2;
    match said {
        FromHelper::Ready { concurrency, software } => {
            helper::write_ready(out, concurrency, software).expect("it was one");
        }
        FromHelper::Part { call, payload } => {
            within(payload, half, shared_bytes);
            helper::write_part(out, call, payload).expect("it was one");
        }
        FromHelper::Done { call, payload } => {
            within(payload, half, shared_bytes);
            helper::write_done(out, call, payload).expect("it was one");
        }
        FromHelper::Ask { call, payload } => {
            within(payload, half, shared_bytes);
            helper::write_ask(out, call, payload).expect("it was one");
        }
        FromHelper::Unable { text } => helper::write_unable(out, text),
        FromHelper::Interrupted { call } => helper::write_interrupted(out, call).expect("it was one"),
        FromHelper::Error { call, payload } => {
            if let Payload::Inline(inline) = payload {
                let (code, text) = helper::read_error(inline).expect("it was checked");
                helper::write_error(out, call, code, text).expect("it was one");
            }
        }
    }
}

fn within(payload: Payload<'_>, from: u32, to: u32) {
    if let Payload::Shared { offset, bytes } = payload {
        assert!(offset >= from && u64::from(offset) + u64::from(bytes) <= u64::from(to));
    }
}
