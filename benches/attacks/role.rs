//! The benchmark's own program as another process: the attackers (`--role attack NAME ATTACKERS GATEWAY ADMIN SECONDS`), or who answers with
//! much (`--role big REDIS`).

use std::io;
use std::time::Duration;

use super::attack::Party;
use super::big;
use super::list::ATTACKS;

/// Plays a part if the command line says so; false where it does not.
pub fn play() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--role", "big", redis] = words[..] {
        return big::serve(redis).map(|()| true);
    }
    let ["--role", "attack", name, attackers, gateway, admin, seconds] = words[..] else { return Ok(false) };
    let attack = ATTACKS.iter().find(|attack| attack.name == name).ok_or(io::ErrorKind::NotFound)?;
    let party = Party::new(
        attackers.parse().map_err(io::Error::other)?,
        [gateway.parse().map_err(io::Error::other)?, admin.parse().map_err(io::Error::other)?],
        Duration::from_secs_f64(seconds.parse().map_err(io::Error::other)?),
    );
    (attack.run)(&party);
    Ok(true)
}
