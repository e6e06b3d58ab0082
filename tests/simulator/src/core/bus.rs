//! The two Redises behind the links, and the connections to them.

use std::collections::VecDeque;

use super::seal::Far;
use super::services::marks;
use crate::kernel::Kernel;
use crate::random::Random;
use crate::redis::{Redis, Wire};

/// A connection to a Redis.
pub struct Line {
    /// In the kernel.
    pub at: usize,
    pub domain: usize,
    wire: Wire,
    /// What its bytes go through, if they do.
    seal: Option<Far>,
    /// Bytes of answers that are in the kernel.
    moved: u64,
    /// Replies that are whole at a byte of the answers: whose, and its number.
    replies: VecDeque<(u64, usize, u64)>,
}

impl Line {
    /// Whether it has been asked for what it is to pop.
    pub fn is_popping(&self) -> bool {
        self.wire.waits() || !self.replies.is_empty()
    }
}

/// Both, and all connections to them.
#[derive(Default)]
pub struct Bus {
    pub redis: [Redis; 2],
    /// Which of them take sealed bytes only.
    pub is_sealed: [bool; 2],
    pub lines: Vec<Line>,
}

impl Bus {
    /// Connections that were opened.
    pub fn open(&mut self, kernel: &mut Kernel) {
        for at in std::mem::take(&mut kernel.opened) {
            if let crate::kernel::connection::Far::Redis(domain) = kernel.connections[at].far {
                let seal = self.is_sealed[domain].then(Far::default);
                self.lines.push(Line { at, domain, wire: Wire::default(), seal, moved: 0, replies: VecDeque::new() });
            }
        }
    }

    /// Bytes reach Redis, it carries out what it can, and its answers go back; shows what is pushed.
    pub fn serve(
        &mut self,
        kernel: &mut Kernel,
        mut some: impl FnMut(usize) -> usize,
        mut pushed: impl FnMut(&[u8], &[u8]),
    ) {
        let Self { redis, lines, .. } = self;
        lines.retain(|line| {
            let connection = &kernel.connections[line.at];
            !(connection.is_closed || connection.is_broken || connection.has_fin || connection.is_shut.0)
        });
        for line in lines {
            let connection = &mut kernel.connections[line.at];
            let n = some(connection.outbound.len());
            let sent = connection.outbound.range(..n).copied();
            match &mut line.seal {
                Some(seal) => seal.open(sent, &mut line.wire.to),
                None => line.wire.to.extend(sent),
            }
            connection.acknowledge(n);
            let before = line.wire.back.len();
            let redis = &mut redis[line.domain];
            if !redis.stalled && (n > 0 || !line.wire.to.is_empty() || line.wire.waits()) {
                let n = line.wire.to.len();
                line.wire.arrive(n);
                redis.serve(&mut line.wire, &mut pushed);
            }
            let owed = line.seal.as_ref().map_or(0, Far::owed);
            let end = line.moved + (owed + line.wire.back.len()) as u64;
            let new = marks(&line.wire.back[before..]).filter_map(|(id, number)| Some((end, id, number?)));
            line.replies.extend(new);
            let room = connection.inbound_max.saturating_sub(connection.inbound.len());
            let n = some((owed + line.wire.back.len()).min(room));
            line.moved += match &mut line.seal {
                Some(seal) => seal.seal(&mut line.wire.back, n, &mut connection.inbound),
                None => {
                    connection.inbound.extend(line.wire.back.drain(..n));
                    n
                }
            } as u64;
        }
    }

    /// Replies that the core has received whole since this was asked.
    pub fn delivered(&mut self, kernel: &Kernel, mut each: impl FnMut(usize, u64)) {
        for line in &mut self.lines {
            let received = kernel.connections[line.at].received;
            while line.replies.front().is_some_and(|(end, ..)| *end <= received) {
                if let Some((_, id, number)) = line.replies.pop_front() {
                    each(id, number);
                }
            }
        }
    }

    /// A connection to a domain, any of them.
    pub fn some_line(&self, domain: usize, random: &mut Random) -> Option<usize> {
        let here: Vec<usize> = self.lines.iter().filter(|line| line.domain == domain).map(|line| line.at).collect();
        (!here.is_empty()).then(|| here[random.below(here.len())])
    }
}
