//! What the actors do in one run, and how often.

use crate::random::Random;

/// An action's name and its weight.
pub type Action = (&'static str, u64);

/// The actions of one run.
pub struct Mixture {
    actions: &'static [Action],
    weights: Vec<u64>,
    total: u64,
}

impl Mixture {
    /// Each seed has habits of its own: some things it never does, some often. `without` names actions, a bit each, that it is not
    /// to do.
    pub fn new(actions: &'static [Action], random: &mut Random, without: u32) -> Self {
        let mut weights: Vec<u64> = actions.iter().map(|(_, weight)| *weight).collect();
        for weight in &mut weights {
            match random.below(6) {
                0 if *weight < 30 => *weight = 0,
                1 => *weight *= 3,
                _ => {}
            }
        }
        for (at, weight) in weights.iter_mut().enumerate() {
            if without & (1 << at) != 0 {
                *weight = 0;
            }
        }
        Self { actions, total: weights.iter().sum(), weights }
    }

    /// Whether nothing is ever done.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The next action.
    pub fn choose(&self, random: &mut Random) -> &'static str {
        let mut at = random.next() % self.total;
        let mut action = 0;
        while at >= self.weights[action] {
            at -= self.weights[action];
            action += 1;
        }
        self.actions[action].0
    }
}
