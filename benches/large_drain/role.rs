//! The benchmark's own program as another process: who answers (`--role service REDIS`), or a share of the clients
//! (`--role clients GATEWAY ORDERS FIRST SEED IDLE ASKING SESSIONS SLOW`).

use std::io;
use std::path::Path;

use super::crowd::{self, Crowd};
use super::service;

/// Plays a part if the command line says so; false where it does not.
pub fn play() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--role", "service", redis] => service::serve(redis)?,
        ["--role", "clients", gateway, orders, ref numbers @ ..] => {
            let crowd = Crowd::from_words(numbers)?;
            let outcomes = crowd::play(crowd, gateway.parse().map_err(io::Error::other)?, Path::new(orders))?;
            println!("{}", serde_json::to_string(&outcomes)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}
