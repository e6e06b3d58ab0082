//! OpenSRF's router: forwards calls to the services' queues, answers those for services that do not exist.

use std::collections::BTreeMap;

use super::link::{Domains, Listener};
use super::messages::{Dialect, Envelope, Kind, Repeated, Reply, quoted, wrap, write_message};

/// Most messages forwarded in one batch.
const BATCH_MAX: usize = 128;

/// The router of one domain.
#[derive(Debug)]
pub(super) struct Router {
    /// Its own address, from which it answers.
    pub(super) address: String,
    /// The domain that it serves.
    pub(super) domain: String,
    /// Registered services and the list that each is called on.
    pub(super) services: BTreeMap<String, String>,
    /// How it reaches Redis.
    pub(super) domains: Domains,
}

impl Router {
    /// Forwards for ever.
    pub(super) async fn run(self, mut listener: Listener) {
        loop {
            let messages = listener.messages(BATCH_MAX).await;
            let mut forwarded = Vec::with_capacity(messages.len());
            for message in &messages {
                match Envelope::parse(message) {
                    Ok(envelope) => match self.queue_for(&envelope.to) {
                        Some(queue) => forwarded.push((queue, message.as_slice())),
                        None => self.answer(&envelope).await,
                    },
                    Err(error) => tracing::warn!(%error, "router: message dropped, as the real one does"),
                }
            }
            if forwarded.is_empty() {
                continue;
            }
            let Some(pusher) = self.domains.get(&self.domain) else { continue };
            if let Err(error) = pusher.push(&forwarded).await {
                tracing::warn!(%error, messages = forwarded.len(), "router: calls lost");
            }
        }
    }

    /// The list of the service that `to` names: `opensrf:service:USER:DOMAIN:NAME`.
    fn queue_for(&self, to: &str) -> Option<&str> {
        service_name(to).and_then(|name| self.services.get(name)).map(String::as_str)
    }

    async fn answer(&self, envelope: &Envelope<'_>) {
        // A name left empty is dropped without an answer, as recorded from the real router.
        let Some(name) = service_name(&envelope.to).filter(|name| !name.is_empty()) else {
            tracing::warn!(to = ?envelope.to, "router: not a service's address");
            return;
        };
        let answers =
            if name == "router" { self.information(envelope) } else { vec![(Reply::ServiceNotFound, "1".to_owned())] };
        for (reply, trace) in answers {
            let mut message = String::new();
            let repeated = Repeated { trace: &trace, tz: None, ingress: None };
            write_message(&mut message, Dialect::C, 0, &repeated, &reply);
            let addresses = (envelope.from.as_ref(), self.address.as_str());
            let text = wrap(Dialect::C, 0, addresses, (envelope.thread.get(), None), &message);
            if let Err(error) = self.domains.send(&envelope.from, text.as_bytes()).await {
                tracing::warn!(%error, to = ?envelope.from, "router: answer lost");
            }
        }
    }

    /// Answers to calls of the router itself: the one method that lists the services.
    fn information(&self, envelope: &Envelope<'_>) -> Vec<(Reply<'static>, String)> {
        let mut answers = Vec::new();
        for message in envelope.messages() {
            match message.kind {
                Kind::Request(call) if call.method == "opensrf.router.info.class.list" => {
                    let names: Vec<_> = self.services.keys().map(|name| quoted(name)).collect();
                    answers.push((Reply::Content(format!("[{}]", names.join(",")).into()), message.trace.clone()));
                    answers.push((Reply::Complete, message.trace));
                }
                Kind::Request(call) => {
                    let text = format!("Method [{}] not found for service router", call.method);
                    answers.push((Reply::Failed(404, text.into()), message.trace));
                }
                _ => {}
            }
        }
        answers
    }
}

fn service_name(to: &str) -> Option<&str> {
    to.strip_prefix("opensrf:service:")?.splitn(3, ':').nth(2)
}
