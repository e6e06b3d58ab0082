//! `/metrics`, in both formats.

use super::*;
use evergate_proto::services::{Outcome, Place, Places};

/// What cores say of services, turns and ends.
fn tell(shared: &Shared) {
    let [one, other] = &shared.cores[..] else { panic!("two cores") };
    for core in [one, other] {
        let place = Places::default().of(core.services.names(), "open-ils.\\\"x\"");
        core.services.heard(place, Outcome { is_first: true, ..Outcome::default() }, 2_400);
        core.codes.errors.count(504);
    }
    let outcome = Outcome { is_first: false, completed: 1, failed: 1 };
    one.services.heard(Place::UNKNOWN, outcome, 70_000_000);
    other.histograms.turn.count(200);
    one.codes.refusals.count(418);
    one.codes.closed.count(1012);
    other.codes.left.count(1006);
}

#[test]
fn metrics_are_open_metrics_with_units_and_labels() {
    let shared = Arc::new(serving());
    set(&shared.cores[1].counts.requests, 12);
    set(&shared.cores[1].counts.core_bytes, 4096);
    shared.cores[1].limit_hit(Limit::clients_max);
    tell(&shared);
    let admin = listen(&shared);
    // As Prometheus asks.
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\n";
    let (code, header, text) = ask_with(&admin, "GET", "/metrics", accept);
    assert_eq!(code, 200);
    assert!(header.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for line in [
        "# HELP evergate_requests REQUESTs relayed.",
        "# TYPE evergate_requests counter",
        "evergate_requests_total{core=\"0\"} 0",
        "evergate_requests_total{core=\"2\"} 12",
        "# TYPE evergate_open gauge",
        "# TYPE evergate_core_bytes gauge",
        "# UNIT evergate_core_bytes bytes",
        "evergate_core_bytes{core=\"2\"} 4096",
        "# TYPE evergate_heartbeat_age_seconds gauge",
        "# TYPE evergate_uptime_seconds gauge",
        "# UNIT evergate_uptime_seconds seconds",
        "evergate_phase{phase=\"serving\"} 1",
        "evergate_phase{phase=\"draining\"} 0",
        "evergate_bus_up{core=\"2\",domain=\"private.localhost\"} 1",
        "evergate_limit_hits_total{core=\"2\",limit=\"clients_max\"} 1",
        "evergate_limit_hits_total{core=\"0\",limit=\"clients_max\"} 0",
        "evergate_log_lines_dropped_total 7",
        "evergate_log_dropped_bytes_total 700",
        "evergate_log_queue_bytes 3",
        "evergate_limit_hits_total{limit=\"log_queue_bytes_max\"} 2",
        "evergate_limit{limit=\"clients_max\"} 921",
        "evergate_limit{limit=\"log_queue_bytes_max\"} 65536",
        "# TYPE evergate_turn_seconds histogram",
        "evergate_turn_seconds_bucket{le=\"0.00025\",core=\"2\"} 1",
        "evergate_turn_seconds_bucket{le=\"0.0001\",core=\"2\"} 0",
        "evergate_turn_seconds_sum{core=\"2\"} 0.0002",
        "evergate_bus_push_messages_count{core=\"0\"} 0",
        "evergate_first_reply_seconds_bucket{le=\"0.0025\",service=\"open-ils.\\\\\\\"x\\\"\"} 2",
        "evergate_first_reply_seconds_count{service=\"open-ils.\\\\\\\"x\\\"\"} 2",
        "evergate_completion_seconds_sum{service=\"other\"} 70.0",
        "evergate_completion_seconds_bucket{le=\"60.0\",service=\"other\"} 0",
        "evergate_completion_seconds_bucket{le=\"+Inf\",service=\"other\"} 1",
        "evergate_service_errors_total{service=\"other\"} 1",
        "evergate_errors_total{status=\"504\"} 2",
        "evergate_refusals_total{status=\"other\"} 1",
        "evergate_closes_total{by=\"gateway\",code=\"1012\"} 1",
        "evergate_closes_total{by=\"client\",code=\"1006\"} 1",
        "# TYPE process_cpu_seconds counter",
        "# UNIT process_resident_memory_bytes bytes",
        "evergate_build_info{version=\"1.2.3\",commit=\"abc<def>\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("limit=\"cores\""), "it is no limit");
    assert!(text.ends_with("# EOF\n"));
    for (name, ..) in shared.cores[0].counts.table() {
        let name = match name {
            "heartbeat_ms" => "heartbeat_age_seconds",
            "looked_us" => "looked_seconds",
            name => name,
        };
        assert_eq!(text.matches(&format!("# TYPE evergate_{name} ")).count(), 1, "{name}");
    }
}

#[test]
fn metrics_are_prometheus_text_for_who_does_not_ask_for_more() {
    let shared = Arc::new(serving());
    tell(&shared);
    let admin = listen(&shared);
    let (_, header, text) = ask_with(&admin, "GET", "/metrics", "Accept: text/plain\r\n");
    assert!(header.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{header}");
    assert_eq!(get(&admin, "/metrics").1.lines().count(), text.lines().count());
    let comments = |mark: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let (kinds, helps) = (comments("# TYPE "), comments("# HELP "));
    assert_eq!(
        kinds.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        helps.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    // Each sample stands below the comments of its own name, and no other line is there.
    let mut below = "";
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP ")) {
            below = comment.split(' ').next().unwrap();
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(name == below || base == Some(below), "{line}");
        }
    }
    for (name, kind) in &kinds {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} {kind}");
    }
    assert!(kinds.contains(&("evergate_requests_total".to_owned(), "counter".to_owned())));
    assert!(kinds.contains(&("evergate_build_info".to_owned(), "gauge".to_owned())));
}
