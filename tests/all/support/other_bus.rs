//! What stands where the gateway expects a Redis of today: an old one, and servers that are none.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::serve;

/// One line and its line break.
fn line(from: &mut impl std::io::BufRead) -> Option<Vec<u8>> {
    let mut line = vec![];
    from.read_until(b'\n', &mut line).ok().filter(|&bytes| bytes > 0).map(|_| line)
}

/// The number in the header of an array or a string.
fn number(line: &[u8]) -> i64 {
    String::from_utf8_lossy(&line[1..]).trim().parse().expect("a number")
}

/// One whole reply or command, as its bytes.
fn whole(from: &mut impl std::io::BufRead) -> Option<Vec<u8>> {
    let mut bytes = line(from)?;
    match bytes[0] {
        b'*' => {
            for _ in 0..number(&bytes) {
                bytes.extend(whole(from)?);
            }
        }
        b'$' => {
            let mut text = vec![0; usize::try_from(number(&bytes)).map_or(0, |length| length + 2)];
            from.read_exact(&mut text).ok()?;
            bytes.extend(text);
        }
        _ => {}
    }
    Some(bytes)
}

/// A way to the Redis at `redis` that answers as version 6.0 does: its LPOP takes no count. Gives its own address.
pub fn redis_6_0(redis: &str) -> String {
    let redis = redis.to_owned();
    serve(move |client| {
        let server = TcpStream::connect(&redis).expect("the Redis");
        let (mut commands, mut replies) =
            (BufReader::new(client.try_clone().expect("a twin")), BufReader::new(server.try_clone().expect("a twin")));
        // One command after the other, as Redis itself serves a connection.
        while let Some(command) = whole(&mut commands) {
            let reply = if command.starts_with(b"*3\r\n$4\r\nLPOP\r\n") {
                Some(b"-ERR wrong number of arguments for 'lpop' command\r\n".to_vec())
            } else {
                (&server).write_all(&command).ok().and_then(|()| whole(&mut replies))
            };
            if reply.is_none_or(|reply| (&client).write_all(&reply).is_err()) {
                return;
            }
        }
    })
    .to_string()
}

/// A server that is no Redis: says `greeting` at once, and `answer` to whatever it is told, then hangs up. Gives its address.
pub fn stranger(greeting: &'static str, answer: &'static str) -> String {
    serve(move |mut client| {
        let mut some = [0; 1024];
        let _ = client.write_all(greeting.as_bytes());
        let _ = client.read(&mut some);
        let _ = client.write_all(answer.as_bytes());
        // To the end of what it is told, so that nothing is reset.
        let _ = client.shutdown(std::net::Shutdown::Write);
        while client.read(&mut some).is_ok_and(|bytes| bytes > 0) {}
    })
    .to_string()
}
