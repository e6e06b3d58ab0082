//! What services cost their callers, over all cores: so many names are enough for each core.

use evergate_proto::counters::Core;
use evergate_proto::histograms::LATENCY;
use evergate_proto::services::{OTHER, Services};

use super::family::Family;

pub(super) fn families(cores: &[Core]) -> [Family; 3] {
    let help = "Time from relaying an envelope to the first message about it, by service.";
    let mut first = Family::histogram("first_reply", help, &LATENCY).labels(&["service"]);
    let help = "Time from relaying an envelope to the end of each request in it, by service; those that were given up are not in it.";
    let mut completion = Family::histogram("completion", help, &LATENCY).labels(&["service"]);
    let help = "Requests that their service ended with an error (a STATUS of 400 or more), by service.";
    let mut failures = Family::counter("service_errors", help).labels(&["service"]);
    let cores: Vec<&Services> = cores.iter().map(|core| &core.services).collect();
    for (name, seen) in Services::seen(&cores) {
        let name = name.unwrap_or(OTHER);
        first.add([name.to_owned()], seen.first);
        completion.add([name.to_owned()], seen.completion);
        failures.add([name.to_owned()], seen.failures);
    }
    [first, completion, failures]
}
