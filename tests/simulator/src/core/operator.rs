//! An operator, who asks a core who is there, and has it end some of them.

use std::collections::VecDeque;

use evergate_proto::clients::census::{Connected, Filter};
use evergate_proto::clients::dismissing::Dismissal;
use evergate_proto::event_loop::{Answer, Inquiry};

use crate::random::Random;
use crate::tally::{Tally, What};
use crate::world::violated;

/// What he has asked, and has been told.
pub struct Operator {
    random: Option<Random>,
    asked: VecDeque<Inquiry>,
    /// What the core answers next.
    answers: Option<Inquiry>,
    /// Who was there when he looked last: some are gone by the time that he ends them.
    here: Vec<Connected>,
    pub tally: Tally,
}

impl Operator {
    pub fn new(seed: u64) -> Self {
        let (asked, here) = (VecDeque::new(), Vec::new());
        Self { random: Random::operator(seed), asked, answers: None, here, tally: Tally::default() }
    }

    /// Asks something, if there is such an operator and he wants to.
    pub fn act(&mut self) -> bool {
        let Some(random) = self.random.as_mut().filter(|_| self.asked.len() < 4) else { return false };
        if !random.percent(3) {
            return false;
        }
        let chosen = random.below(self.here.len());
        self.asked.push_back(match self.here.get(chosen) {
            Some(&Connected { slot, generation, .. }) if random.percent(60) => {
                Inquiry::Dismiss { slot, generation, now: random.percent(25) }
            }
            _ => Inquiry::Find { filter: Filter::ALL, from: random.below(8) as u32, most: 1 + random.below(5) },
        });
        true
    }

    pub fn inquiry(&mut self) -> Option<Inquiry> {
        if self.answers.is_some() {
            violated!("the next inquiry is taken before the last was answered");
        }
        self.answers = self.asked.pop_front();
        self.answers.clone()
    }

    pub fn answered(&mut self, answer: Answer) {
        match (self.answers.take(), answer) {
            (Some(Inquiry::Find { most, .. }), Answer::Found(found)) if found.connections.len() <= most => {
                self.tally.add(What::listed, found.connections.len());
                self.here = found.connections;
            }
            // Whom he was shown has been there.
            (Some(Inquiry::Dismiss { .. }), Answer::Dismissed(dismissal)) if dismissal != Dismissal::Unknown => {
                self.tally.one(What::dismissed);
                self.tally.add(What::dismissed_stale, usize::from(dismissal == Dismissal::Ended));
            }
            (asked, answer) => violated!("{asked:?} is answered with {answer:?}"),
        }
    }
}
