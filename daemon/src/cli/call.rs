//! `usherd call`: one request to a service over our RPC protocol, the answer to standard output.

mod asked;
mod connection;

use std::io::{self, ErrorKind, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use wire::frame::Step;
use wire::rpc::{self, ErrorCode, Kind};
use zeroize::Zeroizing;

pub(super) use asked::answer as ask_person;
use connection::{Connection, connect};

/// Where the RPC listener of the examples is.
const CONNECT_DEFAULT: &str = "unix:/run/usherd/rpc.sock";
/// What the connection may take beyond the deadline: the daemon says itself that a deadline has passed.
const MARGIN: Duration = Duration::from_secs(2);
/// The one call on this connection.
const CALL: u32 = 1;

const EXAMPLES: &str = "\
Examples:
  usherd call upper hello                          prints HELLO
  echo hello | usherd call upper -
  usherd call --connect 127.0.0.1:4000 --timeout 500ms upper hello
  usherd call --connect tls://usherd.example.com:4000 --token-file secret upper hello

Exit codes: 0 answered, 1 not answered (the reason is on standard error), 2 wrong usage.";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Call {
    /// The daemon's rpc listener: unix:/path, HOST:PORT (or tcp://HOST:PORT), tls://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = CONNECT_DEFAULT)]
    pub connect: String,
    /// The file of the token that the listener asks for
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities of the listener's certificate, PEM, for tls:// [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How long to wait for the answer; 0: as long as the service allows
    #[arg(
        long,
        visible_alias = "deadline",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = super::duration
    )]
    pub timeout: Duration,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The request; `-`: standard input
    #[arg(value_name = "PAYLOAD", default_value = "-")]
    pub payload: String,
}

/// What a frame of the daemon's leads to.
enum Taken {
    /// More follows.
    More,
    /// The call wants to know this of us.
    Asked(Zeroizing<Vec<u8>>),
    /// It was the last.
    Last,
}

/// Calls, and prints the answer as it comes.
pub(super) fn run(args: &Call) -> Result<ExitCode, String> {
    let payload = payload(&args.payload)?;
    let deadline_ms = u32::try_from(args.timeout.as_millis()).unwrap_or(u32::MAX);
    let mut request = Zeroizing::new(Vec::with_capacity(payload.len() + 64));
    if let Some(file) = &args.token_file {
        say_token(file, &mut request)?;
    }
    rpc::write_call(&mut request, CALL, deadline_ms, &args.service, &payload).map_err(|error| error.to_string())?;
    let until = if args.timeout.is_zero() {
        None
    } else {
        Some(Instant::now() + args.timeout + MARGIN)
    };
    let mut connection = connect(&args.connect, args.ca_file.as_ref(), until)?;
    let went = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer within {:?}", args.timeout),
        _ => format!("the connection to {} broke: {error}", args.connect),
    };
    // A daemon that closes early has said why, so that is read first.
    let written = connection.write_all(&request, until);
    let mut unwritten = written.err();
    let mut buffer = Vec::new();
    loop {
        connection
            .read_more(&mut buffer, until)
            .map_err(|error| went(unwritten.take().unwrap_or(error)))?;
        while let Step::Frame { len } = split(&buffer)? {
            match take(buffer.get(..len).unwrap_or_default())? {
                Taken::Last => return Ok(ExitCode::SUCCESS),
                Taken::More => {}
                Taken::Asked(what) => input(&mut connection, &what, until).map_err(went)?,
            }
            buffer.drain(..len);
        }
    }
}

/// A hello with the token from its file.
fn say_token(file: &std::path::Path, request: &mut Vec<u8>) -> Result<(), String> {
    let cannot = |why: String| format!("the token file {}: {why}", file.display());
    let mut token = Zeroizing::new(std::fs::read(file).map_err(|error| cannot(error.to_string()))?);
    if token.last() == Some(&b'\n') {
        token.pop();
        if token.last() == Some(&b'\r') {
            token.pop();
        }
    }
    let software = concat!("usherd/", env!("CARGO_PKG_VERSION"));
    let most = u32::try_from(rpc::FRAME_BYTES_MAX).unwrap_or(u32::MAX);
    rpc::write_hello_token(request, most, software, &token)
        .map_err(|_| cannot(format!("a token has {} bytes at most", rpc::TOKEN_BYTES_MAX)))
}

/// Answers what the call has asked. The daemon's deadline goes on meanwhile, and it is the daemon that tells of its end.
fn input(connection: &mut Connection, what: &[u8], until: Option<Instant>) -> io::Result<()> {
    let answer = asked::answer(what);
    let mut frame = Zeroizing::new(Vec::with_capacity(answer.len() + rpc::HEADER_BYTES));
    rpc::write_input(&mut frame, CALL, &answer).map_err(io::Error::other)?;
    connection.write_all(&frame, until)
}

/// Prints what a frame brings.
fn take(frame: &[u8]) -> Result<Taken, String> {
    let frame = rpc::peek(frame).map_err(|error| format!("the answer is not our RPC: {error}"))?;
    match frame.kind {
        Kind::ReplyPart if frame.call == CALL => super::print(frame.payload).map(|()| Taken::More),
        Kind::ReplyDone if frame.call == CALL => super::print(frame.payload).map(|()| Taken::Last),
        Kind::Ask if frame.call == CALL => Ok(Taken::Asked(Zeroizing::new(frame.payload.to_vec()))),
        Kind::Error => {
            let (code, text) = rpc::read_error(frame.payload).map_err(|error| error.to_string())?;
            let text = if text.is_empty() {
                String::new()
            } else {
                format!(": {text}")
            };
            match code {
                ErrorCode::Crashed { status } if status >= 0 => {
                    Err(format!("crashed{text} (the program ended with status {status})"))
                }
                ErrorCode::Crashed { status } => Err(format!("crashed{text} (signal {} ended the program)", -status)),
                ErrorCode::Failed { code } => Err(format!("failed{text} (the helper's error {code})")),
                other => Err(format!("{}{text}", other.name())),
            }
        }
        Kind::Hello => Ok(Taken::More),
        _ => Err("the daemon answered something that was not asked".into()),
    }
}

fn split(buffer: &[u8]) -> Result<Step, String> {
    match rpc::split(buffer, rpc::FRAME_BYTES_MAX) {
        Step::Malformed(error) => Err(format!("the answer is not our RPC: {error}")),
        step => Ok(step),
    }
}

/// A request as it was typed, or all of standard input.
pub(super) fn payload(typed: &str) -> Result<Vec<u8>, String> {
    if typed != "-" {
        return Ok(typed.as_bytes().to_vec());
    }
    if io::stdin().is_terminal() {
        super::say("usherd: reading the request from standard input; end it with Ctrl-D");
    }
    let mut payload = Vec::new();
    let bound = rpc::PAYLOAD_BYTES_MAX as u64 + 1;
    io::stdin()
        .take(bound)
        .read_to_end(&mut payload)
        .map_err(|error| format!("standard input: {error}"))?;
    if payload.len() > rpc::PAYLOAD_BYTES_MAX {
        return Err("the request has more than 16 MiB".into());
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    /// A daemon that answers one call with these frames, then closes.
    fn daemon(name: &str, reply: impl FnOnce(&rpc::Frame<'_>, &mut Vec<u8>) + Send + 'static) -> PathBuf {
        let path = std::env::temp_dir().join(format!("usherd-call-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = Vec::new();
            let mut piece = [0; 4096];
            let len = loop {
                let read = stream.read(&mut piece).unwrap();
                buffer.extend_from_slice(&piece[..read]);
                if let Step::Frame { len } = rpc::split(&buffer, rpc::FRAME_BYTES_MAX) {
                    break len;
                }
            };
            let mut out = Vec::new();
            reply(&rpc::peek(&buffer[..len]).unwrap(), &mut out);
            stream.write_all(&out).unwrap();
            let _ = stream.read(&mut piece);
        });
        path
    }

    fn call(path: &std::path::Path, timeout: Duration) -> Result<ExitCode, String> {
        let args = Call {
            connect: format!("unix:{}", path.display()),
            token_file: None,
            ca_file: None,
            timeout,
            service: "upper".into(),
            payload: String::new(),
        };
        let result = run(&args);
        let _ = std::fs::remove_file(path);
        result
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_in_parts() {
        let path = daemon("parts", |frame, out| {
            assert_eq!(
                (frame.kind, frame.service, frame.deadline_ms),
                (Kind::Call, "upper", 1000)
            );
            rpc::write_hello(out, 1 << 20, "usherd");
            rpc::write_reply_part(out, frame.call, b"").unwrap();
            rpc::write_reply_done(out, frame.call, b"").unwrap();
        });
        assert_eq!(call(&path, SECOND), Ok(ExitCode::SUCCESS));
    }

    #[test]
    fn errors_are_told() {
        let path = daemon("error", |frame, out| {
            rpc::write_error(out, frame.call, ErrorCode::Crashed { status: -9 }, "upper");
        });
        assert_eq!(
            call(&path, SECOND).unwrap_err(),
            "crashed: upper (signal 9 ended the program)"
        );
        let path = daemon("failed", |frame, out| {
            rpc::write_error(out, frame.call, ErrorCode::Failed { code: 7 }, "no such table");
        });
        assert_eq!(
            call(&path, SECOND).unwrap_err(),
            "failed: no such table (the helper's error 7)"
        );
        let path = daemon("garbage", |_, out| {
            out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        });
        assert!(call(&path, SECOND).unwrap_err().contains("not our RPC"));
        let absent = std::env::temp_dir().join("usherd-call-test-nobody");
        assert!(call(&absent, SECOND).unwrap_err().contains("no daemon listens"));
    }

    #[test]
    fn a_daemon_that_closes_early_is_believed_first() {
        let path = std::env::temp_dir().join(format!("usherd-call-test-{}-early", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut out = Vec::new();
            rpc::write_error(&mut out, 0, ErrorCode::TooLarge, "no more than 1 KiB here");
            stream.write_all(&out).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let args = Call {
            connect: format!("unix:{}", path.display()),
            token_file: None,
            ca_file: None,
            timeout: SECOND * 20,
            service: "upper".into(),
            payload: "x".repeat(8 << 20),
        };
        let error = run(&args).unwrap_err();
        let _ = std::fs::remove_file(path);
        assert_eq!(error, "too-large: no more than 1 KiB here");
    }

    #[test]
    fn silence_ends_with_the_deadline() {
        let path = daemon("silent", |_, _| {});
        let begun = Instant::now();
        let error = call(&path, Duration::from_millis(1)).unwrap_err();
        assert!(error.contains("no answer within 1ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
