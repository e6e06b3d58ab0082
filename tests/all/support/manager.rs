//! The ear of a service manager: what `sd_notify(3)` is told.

use std::os::unix::net::UnixDatagram;

/// The next datagram.
pub fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4_096];
    let length = manager.recv(&mut buffer).expect("the service manager hears something");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// The next datagram that begins so.
pub fn until_heard(manager: &UnixDatagram, begins: &str) -> String {
    loop {
        let datagram = heard(manager);
        if datagram.starts_with(begins) {
            return datagram;
        }
    }
}
