//! What is pending in a conversation is found however many there are: held against a list that is searched.

use std::rc::Rc;

use proptest::prelude::*;

use crate::clients::pendings::{Pending, Pendings};
use crate::opensrf::envelope::{Kind, Trace};

/// What happens to it. Numbers are threadTraces: few, so that they recur.
#[derive(Clone, Debug)]
enum Step {
    Push(i64, bool),
    Take(i64, bool),
    TakeWhere(i64),
    Doubt,
    DoubtUntil(u64),
    HeardOf(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let trace = || 0_i64..12;
    prop_oneof![
        8 => (trace(), any::<bool>()).prop_map(|(trace, connect)| Step::Push(trace, connect)),
        4 => (trace(), any::<bool>()).prop_map(|(trace, connect)| Step::Take(trace, connect)),
        1 => trace().prop_map(Step::TakeWhere),
        1 => Just(Step::Doubt),
        1 => (1_u64..99).prop_map(Step::DoubtUntil),
        2 => trace().prop_map(Step::HeardOf),
    ]
}

/// Number, threadTrace, CONNECT or not, in doubt until.
type Entry = (u32, i64, bool, u64);

fn entry(pending: &Pending) -> Entry {
    (pending.push, pending.trace.value, pending.kind == Kind::Connect, pending.lost_at_ms)
}

fn entered(number: u32, value: i64, connect: bool) -> Pending {
    let mut trace = Trace::ZERO;
    trace.value = value;
    Pending {
        trace,
        kind: if connect { Kind::Connect } else { Kind::Request },
        since_ms: 0,
        push: number,
        method: Rc::from(""),
        lost_at_ms: 0,
    }
}

proptest! {
    #[test]
    fn the_oldest_of_a_trace_ends_first_however_many_are_pending(steps in prop::collection::vec(step(), 1..300)) {
        let (mut pendings, mut list) = (Pendings::default(), Vec::<Entry>::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(trace, connect) => {
                    pendings.push(entered(number as u32, trace, connect));
                    list.push((number as u32, trace, connect, 0));
                }
                Step::Take(trace, connect) => {
                    let at = list.iter().position(|of| of.1 == trace && (of.2 || !connect));
                    let expected = at.map(|at| list.remove(at));
                    prop_assert_eq!(pendings.take(trace, connect).as_ref().map(entry), expected);
                }
                Step::TakeWhere(trace) => {
                    let expected: Vec<Entry> = list.extract_if(.., |of| of.1 == trace).collect();
                    let taken = pendings.take_where(|pending| pending.trace.value == trace);
                    prop_assert_eq!(taken.iter().map(entry).collect::<Vec<Entry>>(), expected);
                }
                Step::Doubt => {
                    pendings.doubt();
                    for of in &mut list {
                        of.3 = u64::MAX;
                    }
                }
                Step::DoubtUntil(ms) => {
                    let some = pendings.doubt_until(ms);
                    prop_assert_eq!(some, list.iter().any(|of| of.3 == u64::MAX));
                    list.iter_mut().filter(|of| of.3 == u64::MAX).for_each(|of| of.3 = ms);
                }
                Step::HeardOf(trace) => {
                    pendings.heard_of(trace);
                    list.iter_mut().filter(|of| of.1 == trace).for_each(|of| of.3 = 0);
                }
            }
            prop_assert_eq!(pendings.iter().map(entry).collect::<Vec<Entry>>(), list.clone());
            prop_assert_eq!(pendings.connects(), list.iter().filter(|of| of.2).count());
            prop_assert_eq!((pendings.len(), pendings.is_empty()), (list.len(), list.is_empty()));
        }
    }
}
