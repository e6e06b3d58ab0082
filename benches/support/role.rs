//! The benchmark's own program as the other parties of a measurement, each a process of its own, so that its CPU can be told
//! from the others': `--role NAME ARGUMENT…`.

#[path = "answer.rs"]
mod answer;
#[path = "bare.rs"]
mod bare;
#[path = "direct.rs"]
mod direct;
#[path = "echo.rs"]
mod echo;
#[expect(dead_code, reason = "the bench runtimes measures its other way, too")]
#[path = "raw.rs"]
mod raw;
#[path = "responder.rs"]
mod responder;
#[path = "respstub.rs"]
mod respstub;

use std::io;
use std::net::TcpListener;

/// Plays the part that the command line names; false where it names none.
pub fn play() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--role", "responder", redis, key] => responder::serve(redis, key)?,
        ["--role", "stub", address] => respstub::serve(&TcpListener::bind(address)?)?,
        ["--role", "floor", address] => raw::serve_multishot(TcpListener::bind(address)?)?,
        ["--role", "old-floor", address] => echo::serve(TcpListener::bind(address)?)?,
        ["--role", "bare", address, bytes] => {
            bare::serve(TcpListener::bind(address)?, bytes.parse().map_err(io::Error::other)?)?;
        }
        ["--role", "direct", redis, key, seconds] => {
            println!("{}", direct::measure(redis, key, seconds.parse().map_err(io::Error::other)?)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}
