//! The token by which the admin page's actions are allowed.

use super::error::Errors;
use super::file;
use super::load::Purpose;
use super::permissions;
use super::table::Config;
use super::typed::Secret;
use super::values::{Source, Values};

/// Characters that it has: fewer can be guessed, more are a file of something else.
const CHARS_MIN: usize = 16;
const CHARS_MAX: usize = 256;

/// Reads the token, where actions are allowed. None where they are not, and for the demo, which makes one where it is given none.
pub(super) fn of(
    values: &Values,
    config: &Config,
    purpose: Purpose,
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    if !config.admin_actions {
        if config.admin_token_file.is_some() && !errors.hide("admin_actions") {
            warnings.push("admin_token_file is not used: admin_actions is off".to_owned());
        }
        return None;
    }
    if purpose == Purpose::Config {
        return None;
    }
    if config.admin.is_none() {
        // The demo's default allows actions on a page that may be switched off.
        if values.get("admin_actions").source != Source::Default && !errors.hide("admin") {
            errors.push(values.problem("admin_actions", "there is no admin page; set admin = \"127.0.0.1:7683\""));
        }
        return None;
    }
    let Some(path) = &config.admin_token_file else {
        if purpose != Purpose::Demo {
            let why = "it needs a token; write one to a file that only this account may read (`openssl rand -hex 32`), and set \
                       admin_token_file to its path";
            errors.push(values.problem("admin_actions", why));
        }
        return None;
    };
    let read = file::read(path, CHARS_MAX as u64 + 2).map_err(|why| file::unreadable(path, &why));
    let token = read.and_then(|bytes| {
        parse(&bytes).ok_or_else(|| {
            format!(
                "{} does not hold {CHARS_MIN} to {CHARS_MAX} printable ASCII characters without spaces",
                path.display()
            )
        })
    });
    warnings.extend(permissions::warning(path, Some("a token")));
    errors.keep(token.map_err(|why| values.problem("admin_token_file", why)))
}

/// What a file holds, without the end of its line.
fn parse(bytes: &[u8]) -> Option<Secret> {
    let text = str::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']);
    let is_token = (CHARS_MIN..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_of_one_line() {
        let fits = |text: &str| parse(text.as_bytes()).is_some();
        assert!(fits("0123456789abcdef") && fits("0123456789abcdef\n") && fits(&format!("{}\r\n", "x".repeat(256))));
        for wrong in
            ["", "\n", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\nand more", "0123456789abcdefü"]
        {
            assert!(!fits(wrong), "{wrong:?}");
        }
        assert!(!fits(&"x".repeat(257)));
    }
}
