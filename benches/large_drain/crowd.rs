//! A share of the clients, in one process: a task for each. What they do when, they are told by bytes on a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::client::{Client, Outcome, Part};

/// Clients that connect at a time.
const CONNECTING: usize = 64;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The number of the first client; each has its own, also among several processes.
    pub first: u32,
    /// For whatever is left to chance.
    pub seed: u64,
    /// Clients of each part, in the order of [`Part::ALL`].
    pub clients: [u32; 4],
}

impl Crowd {
    /// As it stands on a command line.
    pub fn words(&self) -> Vec<String> {
        let Self { first, seed, clients } = self;
        [u64::from(*first), *seed].into_iter().chain(clients.map(u64::from)).map(|number| number.to_string()).collect()
    }

    /// The same read.
    pub fn from_words(words: &[&str]) -> io::Result<Self> {
        let numbers: Vec<u64> =
            words.iter().map(|word| word.parse()).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let [first, seed, clients @ ..] = &numbers[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
        let clients: [u64; 4] = clients.try_into().map_err(io::Error::other)?;
        Ok(Self { first: *first as u32, seed: *seed, clients: clients.map(|count| count as u32) })
    }

    /// Divides the clients among so many processes.
    pub fn divide(self, processes: u32) -> Vec<Self> {
        let mut first = self.first;
        let share = |process: u32| {
            let clients = self.clients.map(|count| count / processes + u32::from(process < count % processes));
            let share = Self { first, clients, ..self };
            first += clients.iter().sum::<u32>();
            share
        };
        (0..processes).map(share).collect()
    }
}

/// Plays all of them, each to the end of its connection.
pub fn play(crowd: Crowd, gateway: SocketAddr, orders: &Path) -> io::Result<Vec<Outcome>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut orders = UnixStream::connect(orders).await?;
        let (stage, stages) = watch::channel(0);
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let mut playing = JoinSet::new();
        let parts = Part::ALL.into_iter().zip(crowd.clients);
        let parts = parts.flat_map(|(part, count)| (0..count).map(move |_| part));
        for (number, part) in (crowd.first..).zip(parts) {
            let client = Client { part, number, seed: crowd.seed };
            playing.spawn(client.play(gateway, connecting.clone(), stages.clone()));
        }
        // Ends with the bench, or with the runtime.
        tokio::spawn(async move {
            while orders.read_u8().await.is_ok() {
                stage.send_modify(|stage| *stage += 1);
            }
        });
        Ok(playing.join_all().await)
    })
}
