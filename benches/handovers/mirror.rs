//! The far end of a route, a process of its own: each packet that the kernel sends into the tun device comes back some time later,
//! with the second byte of its two addresses exchanged.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;

/// The longest packet.
const PACKET_BYTES: usize = 1500;
/// Packets on their way at most: a second's worth of what a busy machine forwards.
const ON_THE_WAY_MAX: usize = 50_000;
/// How often an idle mirror looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
/// Where an IPv4 header has the second byte of source and destination. Their sum does not change, and so no checksum.
const SECOND_BYTES: [usize; 2] = [13, 17];

/// What it has done; of packets that came late the measurement is not what it says to be.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Mirrored {
    /// Packets that were sent back.
    pub packets: u64,
    /// Packets for which there was no room, here or in the kernel.
    pub dropped: u64,
    /// How much too late a packet was sent back, at most, ms.
    pub late_ms_max: f64,
}

/// The mirror: `--role mirror DEVICE MILLISECONDS`; on SIGTERM it prints what it has done.
pub fn play(device: &str, delay_ms: &str) -> io::Result<()> {
    let is_over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&is_over))?;
    let delay = Duration::from_millis(delay_ms.parse().map_err(io::Error::other)?);
    let mut mirror = Mirror { tun: attach(device)?, delay, queue: VecDeque::new(), mirrored: Mirrored::default() };
    while !is_over.load(Relaxed) {
        mirror.wait()?;
        mirror.take()?;
        mirror.give()?;
    }
    println!("{}", serde_json::to_string(&mirror.mirrored)?);
    Ok(())
}

/// The device, and the packets on their way.
struct Mirror {
    /// Gives a packet a read, and takes one a write.
    tun: File,
    /// How long each is on its way.
    delay: Duration,
    /// With the time at which they are due; all have the same delay, so that they are in order.
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// What it has done so far.
    mirrored: Mirrored,
}

impl Mirror {
    /// Until a packet comes or is due, but no longer than [`LOOK`].
    fn wait(&self) -> io::Result<()> {
        let left = self.queue.front().map_or(LOOK, |(due, _)| due.saturating_duration_since(Instant::now()));
        let mut tun = [PollFd::new(self.tun.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut tun, Some(TimeSpec::from(left)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes all that have come.
    fn take(&mut self) -> io::Result<()> {
        let mut packet = [0; PACKET_BYTES];
        loop {
            let length = match self.tun.read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // The kernel looks for IPv6 routers, too.
            if packet[0] >> 4 != 4 {
                continue;
            }
            if self.queue.len() >= ON_THE_WAY_MAX {
                self.mirrored.dropped += 1;
                continue;
            }
            packet.swap(SECOND_BYTES[0], SECOND_BYTES[1]);
            self.queue.push_back((Instant::now() + self.delay, packet[..length].to_vec()));
        }
    }

    /// Sends back all that are due.
    fn give(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some((due, packet)) = self.queue.pop_front_if(|(due, _)| *due <= now) {
            let late_ms = due.elapsed().as_secs_f64() * 1e3;
            self.mirrored.late_ms_max = self.mirrored.late_ms_max.max(late_ms);
            match self.tun.write_all(&packet) {
                Ok(()) => self.mirrored.packets += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.mirrored.dropped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The end of a tun device that programs have. There must be such a device.
fn attach(device: &str) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short },
    };
    // The last byte stays 0.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    #[expect(
        unsafe_code,
        reason = "no crate here has this one request; the kernel reads the structure and keeps nothing of it"
    )]
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result)?;
    Ok(tun)
}
