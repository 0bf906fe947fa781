//! Everything that a call can do: parts, a question to the caller, a blocking wait that an interrupt ends, a descriptor to
//! answer to, and failures with a code of one's own. The request's first word says which.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use usherd_sdk::helper::{self, Call, Error, Failure};

fn main() -> Result<(), Error> {
    helper::serve("follow/1", answer)
}

fn answer(call: &mut Call<'_>) -> Result<Vec<u8>, Failure> {
    let request = String::from_utf8(call.payload().to_vec())?;
    match request.split_once(' ').unwrap_or((&request, "")) {
        // The caller has each word as soon as it is there.
        ("words", text) => {
            for word in text.split(' ') {
                call.part(format!("{word}\n").as_bytes())?;
            }
            Ok(Vec::new())
        }
        ("ask", question) => {
            let answer = call.ask(question.as_bytes())?;
            Ok([b"you said ", answer.as_slice()].concat())
        }
        // Blocks for ever. SIGINT makes the system call return; whether it was about this call, `check` knows.
        ("wait", _) => {
            let (mut near, _far) = UnixStream::pair()?;
            loop {
                match near.read(&mut [0; 8]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => call.check()?,
                    other => return Err(Failure::new(70, format!("a wait that ended: {other:?}"))),
                }
            }
        }
        ("bytes", count) => Ok(vec![b'x'; count.parse()?]),
        ("direct", text) => match call.reply_to() {
            Some(mut file) => file
                .write_all(text.as_bytes())
                .map(|()| Vec::new())
                .map_err(Failure::from),
            None => Ok(b"no descriptor came".to_vec()),
        },
        ("remaining", _) => Ok(format!("{:?}", call.remaining()).into_bytes()),
        ("exit", status) => std::process::exit(status.parse()?),
        (other, _) => Err(Failure::new(2, format!("no such word: {other:?}"))),
    }
}
