//! Questions that the cores are asked. Whoever asks waits for the answer, on one of a few threads that may; the number of questions at a
//! time is bounded.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::sync::Semaphore;
use tokio::task;

/// Threads that ask: whoever asks besides waits for one of them.
pub(super) const THREADS_MAX: usize = 2;

/// Questions that wait for an answer at a time, those that are being asked among them.
const QUESTIONS_MAX: usize = 16;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// So many are waited for already.
    TooMany,
    /// The thread that asked panicked.
    Panicked(String),
}

impl Unanswered {
    /// For whoever asked.
    pub(super) fn told(self) -> (StatusCode, String) {
        match self {
            Self::TooMany => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the cores are being asked by too many at once, or do not answer: ask again".to_owned(),
            ),
            Self::Panicked(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}

/// Places for them. A question keeps its own until it is answered, whoever still wants to know.
#[derive(Debug)]
pub(super) struct Questions(Arc<Semaphore>);

impl Default for Questions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUESTIONS_MAX)))
    }
}

impl Questions {
    /// Calls `ask` on a thread that may wait.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else { return Err(Unanswered::TooMany) };
        let asked = move || {
            let answer = ask();
            drop(place);
            answer
        };
        task::spawn_blocking(asked).await.map_err(|error| Unanswered::Panicked(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_question_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let questions = Questions::default();
        let (answer, answered) = channel::<()>();
        let (done, is_done) = channel();
        runtime.block_on(async {
            let slow = questions.ask(move || {
                let _ = answered.recv();
                let _ = done.send(());
            });
            // It is polled once, and then given up.
            tokio::select! { biased; _ = slow => unreachable!("nobody answers"), () = std::future::ready(()) => {} }
            assert_eq!(questions.0.available_permits(), QUESTIONS_MAX - 1);
            drop(answer);
            is_done.recv().expect("an answer");
            let places = questions.0.acquire_many(QUESTIONS_MAX as u32).await.expect("places");
            let asked = questions.ask(|| 1).await;
            assert!(matches!(asked, Err(Unanswered::TooMany)), "{asked:?}");
            drop(places);
            assert!(matches!(questions.ask(|| 2).await, Ok(2)));
            let panicked: Result<(), Unanswered> = questions.ask(|| panic!("as asked")).await;
            assert!(matches!(panicked, Err(Unanswered::Panicked(_))), "{panicked:?}");
        });
    }
}
