//! What the tests of this folder and of others make texts of.

mod scanning;

use proptest::prelude::*;

/// JSON text, nested, with what breaks rebuilders: big numbers, escapes of every kind, repeated keys, white space.
pub(crate) fn any_json() -> impl Strategy<Value = String> {
    let string = "([ -!#-\\[\\]-~éß€中😀\u{7f}\u{85}\u{2028}]|\\\\[\"\\\\/bfnrt]|\\\\u00[2-9a-f][0-9A-F]|\\\\ud83d\\\\ude0[0-9]){0,12}";
    let string = string.prop_map(|inside| format!("\"{inside}\""));
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?";
    let leaf = prop_oneof![
        3 => string.clone(),
        3 => number,
        1 => prop_oneof![Just("true"), Just("false"), Just("null"), Just("[ ]"), Just("{\n}")].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        let space = || "[ \t\r\n]{0,2}";
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), space())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            (prop::collection::vec((string.clone(), inner), 0..5), space()).prop_map(|(members, s)| {
                let members: Vec<String> =
                    members.into_iter().map(|(key, value)| format!("{key}{s}:{s}{value}")).collect();
                format!("{{{s}{}{s}}}", members.join(&format!("{s},{s}")))
            }),
        ]
    })
}

/// Text made of what JSON is made of.
pub(crate) fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        10 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "0", "1", "-", ".", "e5", "true", "null", "\"a\"", "\\u0000",
            "\\ud800", "\\udc00", "\"service\"", "\"thread\"", "\"osrf_msg\"", "\"__c\"", "\"__p\"", "\"osrfMessage\"", "é", "{\"",
        ]).prop_map(|token| token.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}
