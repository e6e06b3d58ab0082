//! Man page and completions, made of the command itself, so that they say what `--help` does.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use super::options::command;

/// What writes both.
pub fn commands() -> [Command; 2] {
    let directory = Arg::new("directory").value_name("DIRECTORY").required(true).value_parser(value_parser!(PathBuf));
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    [
        Command::new("man")
            .about("Write the man page into a directory")
            .arg(directory.help("Where evergate-load.1 is written; made where it is absent")),
        Command::new("completions")
            .about("Print what completes evergate-load's words in a shell")
            .arg(shell.help("The shell")),
    ]
}

/// Does what one of [`commands`] asks for. What is to be printed; `None`: none of them was given.
pub fn run(given: &ArgMatches) -> Result<Option<String>, String> {
    match given.subcommand() {
        Some(("man", given)) => {
            let directory = given.get_one::<PathBuf>("directory").cloned().unwrap_or_default();
            let written = write_man_page(&directory);
            written.map(|()| Some(String::new())).map_err(|error| format!("{}: {error}", directory.display()))
        }
        Some((_, given)) => Ok(given.get_one::<Shell>("shell").map(|&shell| completion(shell))),
        None => Ok(None),
    }
}

fn write_man_page(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    fs::write(directory.join("evergate-load.1"), page()?)
}

/// The page. Its synopsis shows that there are options, and not all of them.
fn page() -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command()).render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    let heading = ".SH SYNOPSIS\n";
    let Some((before, rest)) = page.split_once(heading) else { return Ok(page.into_owned()) };
    let behind = rest.find(".SH ").map_or("", |end| &rest[end..]);
    Ok(format!("{before}{heading}\\fBevergate\\-load\\fR \\fIURL\\fR [\\fIOPTIONS\\fR]\n{behind}"))
}

fn completion(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "evergate-load", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_and_the_exit_codes_and_a_short_synopsis() {
        let page = page().expect("a page");
        for argument in command().get_opts() {
            let name = argument.get_id().as_str().replace('-', "\\-");
            assert!(page.contains(&format!("\\-\\-{name}")), "{name}");
        }
        assert!(page.contains("Exit codes:"));
        let synopsis = page.split(".SH ").find(|section| section.starts_with("SYNOPSIS")).expect("a synopsis");
        assert_eq!(synopsis.lines().count(), 2, "{synopsis}");
    }

    #[test]
    fn every_shell_completes_every_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completion(shell);
            for argument in command().get_opts() {
                assert!(text.contains(argument.get_id().as_str()), "{shell}: {}", argument.get_id());
            }
        }
    }
}
