//! The TOML file: what is no TOML, and what has a key that is no option, is refused; what is taken is printed as it was meant.

use evergate::config::{effective, find};

use crate::file;

pub fn run(text: &[u8]) {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<toml::Table>().ok());
    // A file that names another is the other target's.
    if parsed.as_ref().is_some_and(|table| table.contains_key("opensrf_core")) {
        return;
    }
    let loaded = file::toml(text);
    let Some(table) = parsed else {
        assert!(loaded.is_err(), "no TOML, and taken");
        return;
    };
    if table.keys().any(|key| find(key).is_none()) {
        assert!(loaded.is_err(), "an unknown option, and taken");
    }
    let Ok(loaded) = loaded else { return };
    // What it prints means the same.
    let printed = effective(&loaded);
    let kept: String =
        printed.lines().filter(|line| !line.starts_with("passwd ")).map(|line| format!("{line}\n")).collect();
    let again = file::toml(kept.as_bytes()).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("what it prints is refused: {errors:?}\n{kept}")
    });
    for (one, other) in loaded.values.iter().zip(again.values.iter()) {
        assert_eq!(one.name, other.name);
        if one.name != "passwd" {
            assert_eq!(one.value, other.value, "{}", one.name);
        }
    }
}
