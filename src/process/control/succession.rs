//! Who takes over from this process: one at a time, and only while it serves.

use evergate_proto::lifecycle::Phase;

use super::request::Successor;

/// What the main thread knows of it.
#[derive(Debug, Default)]
pub struct Succession {
    /// It has the listening sockets, and does not serve yet.
    at_work: Option<Successor>,
    /// It serves: this process drains for it.
    served_by: Option<Successor>,
}

impl Succession {
    /// Somebody wants to take over from a process in that phase. The error is for him.
    pub fn asks(&mut self, phase: Phase, successor: &Successor) -> Result<(), String> {
        if let Some(other) = &self.at_work {
            return Err(format!(
                "process {} is taking over already: wait until it serves, or end it, and try again",
                other.pid
            ));
        }
        match phase {
            // One that drains for nobody has no port by now, but the admin page.
            Phase::Draining if self.served_by.is_none() => {
                self.at_work = Some(successor.clone());
                Ok(())
            }
            Phase::Serving => {
                self.at_work = Some(successor.clone());
                Ok(())
            }
            Phase::Starting => Err("it is starting itself: try again when it serves".to_owned()),
            Phase::Draining => {
                let other = self.served_by.as_ref().map_or(0, |other| other.pid);
                Err(format!("process {other} has taken over, and this one drains: ask that one"))
            }
            Phase::Stopping => Err("it is stopping: start without --replace".to_owned()),
        }
    }

    /// The successor serves. An error where it was not at work, or the process stops, and is for it.
    pub fn is_ready(&mut self, phase: Phase, successor: &Successor) -> Result<(), String> {
        if self.at_work.as_ref() != Some(successor) {
            return Err("it does not wait for this successor".to_owned());
        }
        self.at_work = None;
        if phase == Phase::Stopping {
            return Err("it is stopping".to_owned());
        }
        self.served_by = Some(successor.clone());
        Ok(())
    }

    /// The successor comes to nothing; another may ask. Whether it was at work.
    pub fn is_gone(&mut self, successor: &Successor) -> bool {
        let was_at_work = self.at_work.as_ref() == Some(successor);
        if was_at_work {
            self.at_work = None;
        }
        was_at_work
    }

    /// Who served in the place of this process does so no more. Whether somebody did.
    pub fn forget_served(&mut self) -> bool {
        self.served_by.take().is_some()
    }

    /// Who has the sockets and does not serve yet.
    pub fn at_work(&self) -> Option<&Successor> {
        self.at_work.as_ref()
    }

    /// Who serves in the place of this process.
    pub fn served_by(&self) -> Option<&Successor> {
        self.served_by.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn successor(connection: u64, pid: u32) -> Successor {
        let listen = vec!["127.0.0.1:7682".parse().expect("an address")];
        Successor { connection, pid, version: "0.1.0".to_owned(), listen, takes_unix: true }
    }

    #[test]
    fn a_second_successor_hears_who_is_the_first_and_may_come_when_that_is_gone() {
        let (mut succession, first, second) = (Succession::default(), successor(1, 11), successor(2, 22));
        assert_eq!(succession.asks(Phase::Serving, &first), Ok(()));
        let refused = succession.asks(Phase::Serving, &second).expect_err("one at a time");
        assert!(refused.contains("process 11"), "{refused}");
        assert!(!succession.is_gone(&second) && succession.at_work() == Some(&first), "it was not at work");
        assert!(succession.is_gone(&first) && !succession.is_gone(&first));
        assert_eq!(succession.asks(Phase::Serving, &second), Ok(()));
        assert!(succession.is_ready(Phase::Serving, &first).is_err(), "its time was over");
        assert_eq!(succession.is_ready(Phase::Serving, &second), Ok(()));
        assert_eq!((succession.at_work(), succession.served_by()), (None, Some(&second)));
        let late = succession.asks(Phase::Draining, &successor(3, 33)).expect_err("it is over");
        assert!(late.contains("process 22"), "{late}");
    }

    #[test]
    fn only_a_process_that_serves_is_taken_over_from() {
        for (phase, remedy) in [(Phase::Starting, "try again"), (Phase::Stopping, "without --replace")] {
            let mut succession = Succession::default();
            let refused = succession.asks(phase, &successor(1, 11)).expect_err("it does not serve");
            assert!(refused.contains(remedy) && succession.at_work().is_none(), "{phase:?}: {refused}");
        }
    }

    #[test]
    fn a_successor_may_get_ready_while_a_drain_has_begun_and_not_when_the_process_stops() {
        let (mut succession, one) = (Succession::default(), successor(1, 11));
        succession.asks(Phase::Serving, &one).expect("it serves");
        assert_eq!(succession.is_ready(Phase::Draining, &one), Ok(()), "SIGUSR1 came meanwhile");
        let mut succession = Succession::default();
        succession.asks(Phase::Serving, &one).expect("it serves");
        assert!(succession.is_ready(Phase::Stopping, &one).is_err());
        assert_eq!((succession.at_work(), succession.served_by()), (None, None));
    }
}
