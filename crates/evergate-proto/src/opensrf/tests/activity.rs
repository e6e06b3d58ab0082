use super::super::activity::line;

fn logged(method: &str, params: Option<&str>, protect: &[&str], bytes_max: usize) -> String {
    let protect: Vec<String> = protect.iter().map(|prefix| (*prefix).to_owned()).collect();
    let mut out = "before ".to_owned();
    line(&mut out, "10.0.0.1".parse().unwrap(), "opensrf.math", method, params.map(str::as_bytes), &protect, bytes_max);
    out.strip_prefix("before ").unwrap().to_owned()
}

#[test]
fn params_are_compact_json_joined_by_comma_and_space() {
    let params = "[ 1 , {\"a\" : [1, 2]},\n\"x , \\\" y\" , 1e10]";
    assert_eq!(
        logged("add", Some(params), &[], 1536),
        "[10.0.0.1] [] opensrf.math add 1, {\"a\":[1,2]}, \"x , \\\" y\", 1e10"
    );
}

#[test]
fn a_request_without_params_has_none_in_its_line() {
    for params in [None, Some("[]"), Some("[ ]")] {
        assert_eq!(logged("add", params, &[], 1536), "[10.0.0.1] [] opensrf.math add");
    }
}

#[test]
fn params_that_are_no_array_are_logged_as_they_are() {
    assert_eq!(logged("m", Some("{\"a\": 1, \"b\":[]}"), &[], 1536), "[10.0.0.1] [] opensrf.math m {\"a\":1,\"b\":[]}");
    assert_eq!(logged("m", Some("\"x\""), &[], 1536), "[10.0.0.1] [] opensrf.math m \"x\"");
}

#[test]
fn a_protected_method_is_logged_without_its_params_and_an_empty_prefix_protects_nothing() {
    let line = logged("open-ils.auth.login", Some("[\"secret\"]"), &["", "open-ils.auth"], 1536);
    assert_eq!(line, "[10.0.0.1] [] opensrf.math open-ils.auth.login **PARAMS REDACTED**");
    assert!(logged("other", Some("[\"x\"]"), &["", "open-ils.auth"], 1536).ends_with("other \"x\""));
}

#[test]
fn what_a_client_wrote_never_begins_a_line() {
    let line = logged("a\nb\u{7f}\u{85}", Some("[\"\u{2028}\u{9b}\u{7f}é\"]"), &[], 1536);
    assert_eq!(line, "[10.0.0.1] [] opensrf.math \"a\\nb\\u007f\\u0085\" \"\\u2028\\u009b\\u007fé\"");
}

#[test]
fn a_long_line_is_cut_at_a_character_and_says_so() {
    let params = format!("[\"{}\"]", "é".repeat(1 << 20));
    for bytes_max in 30..60 {
        let line = logged("add", Some(&params), &[], bytes_max);
        assert!(line.len() <= bytes_max && line.len() >= bytes_max - 1, "{line}");
        assert!(line.ends_with('…'));
    }
    let exact = "[10.0.0.1] [] opensrf.math add";
    assert_eq!(logged("add", None, &[], exact.len()), exact);
    assert_eq!(logged("add", None, &[], 2), "[1");
}
