//! The bench's own program as another process: the visitors (`--role visits TARGET SOURCE RATE`), the far end of a route (`--role mirror DEVICE
//! MILLISECONDS`), or a part that other benches have, too.

#[path = "../support/role.rs"]
mod shared;

use std::io;

use super::{mirror, visits};

/// Plays the part that the command line names; false where it names none.
pub fn play() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--role", "visits", target, source, rate] => visits::play(target, source, rate)?,
        ["--role", "mirror", device, delay_ms] => mirror::play(device, delay_ms)?,
        _ => return shared::play(),
    }
    Ok(true)
}
