//! What the core needs of the process besides its ring.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use evergate_proto::clients::limits::Limits;
use evergate_proto::clients::output::{BusNews, Severity};
use evergate_proto::event_loop::{Answer, Host, Inquiry, ListeningSocket};
use evergate_proto::lifecycle::Orders;
use evergate_proto::redis::dial::{Cipher, Dial, Place};
use evergate_proto::ring::Errno;

use super::operator::Operator;
use super::seal::Near;
use crate::kernel::ring::REDIS_PORT;
use crate::kernel::{Scene, tell};
use crate::random::Random;

/// The process, as a core sees it.
pub struct SimulatedHost {
    pub scene: Rc<Scene>,
    pub orders: Rc<Cell<Orders>>,
    /// What the process listens on for the core, and the core has not asked for.
    pub listeners: Rc<RefCell<Vec<ListeningSocket>>>,
    /// What a look at the clock takes at most, ns: the core works meanwhile.
    pub work_ns: u64,
    pub random: RefCell<Random>,
    /// Who asks about the core's clients.
    pub operator: Rc<RefCell<Operator>>,
    /// Which Redises take sealed bytes only.
    pub is_sealed: [bool; 2],
}

impl Host for SimulatedHost {
    fn now(&mut self) -> Duration {
        let worked = self.random.get_mut().below(self.work_ns as usize + 1) as u64;
        let now_ns = self.scene.now_ns.get() + worked;
        self.scene.now_ns.set(now_ns);
        Duration::from_nanos(now_ns)
    }

    fn orders(&mut self) -> Orders {
        self.orders.get()
    }

    fn listeners(&mut self) -> Vec<ListeningSocket> {
        self.listeners.take()
    }

    fn limits(&mut self) -> Option<Rc<Limits>> {
        None
    }

    fn inquiry(&mut self) -> Option<Inquiry> {
        self.operator.borrow_mut().inquiry()
    }

    fn answer(&mut self, answer: Answer) {
        tell!(self.scene, "the operator is told {answer:?}");
        self.operator.borrow_mut().answered(answer);
    }

    fn dial(&mut self, domain: usize, attempt: u32) -> Option<Dial> {
        // The name is resolved a little late.
        let is_known = attempt > 0 || self.random.get_mut().percent(90);
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), REDIS_PORT + domain as u16);
        let cipher = || Box::new(Near::default()) as Box<dyn Cipher>;
        is_known.then(|| Dial { place: Place::Tcp(address), cipher: self.is_sealed[domain].then(cipher) })
    }

    fn bus(&mut self, news: BusNews) {
        tell!(self.scene, "the bus: {news:?}");
    }

    fn readiness(&mut self, _now_ms: u64) -> Result<String, String> {
        Ok("ready".to_owned())
    }

    fn log(&mut self, level: Severity, line: String) {
        tell!(self.scene, "{level:?}: {line}");
    }

    fn exhausted(&mut self, _now_ms: u64, _errno: Errno) {}

    fn activity(&mut self, _now_ms: u64, lines: &str) {
        for line in lines.lines().filter(|line| line.contains("without a Close frame [#")) {
            let address = line.trim_start_matches('[').split(']').next().and_then(|address| address.parse().ok());
            self.scene.ended_bare.borrow_mut().extend(address.map(|address: IpAddr| address.to_canonical()));
        }
    }

    fn flush_activity(&mut self) {}
}
