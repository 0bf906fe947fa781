//! Calls a service: `call ADDRESS SERVICE PAYLOAD`. What the service asks is answered from the standard input.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use usherd_sdk::client::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, service, payload] = arguments.as_slice() else {
        return Err("usage: call ADDRESS SERVICE PAYLOAD".into());
    };
    let client = Client::connect(address)?;
    let request = client.request(service).deadline(Duration::from_secs(5));
    let answer = request.send(payload.as_bytes())?.wait_answering(|question| {
        io::stderr().write_all(question).ok()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line).ok()?;
        Some(line.trim_end().as_bytes().to_vec())
    })?;
    io::stdout().write_all(&answer)?;
    Ok(())
}
