//! Man pages and completions, made of the command itself, so that they say what `--help` does.

use std::fs::{self, DirBuilder};
use std::io;
use std::iter;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use super::cli::command;

/// `evergate man`.
pub(super) fn man() -> Command {
    Command::new("man")
        .about("Write the man pages, one for each subcommand, into a directory")
        .arg(
            Arg::new("directory")
                .value_name("DIRECTORY")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where they are written: evergate.1, evergate-serve.1, …; made where it is absent"),
        )
        .after_help("Example:\n  evergate man /usr/local/share/man/man1 && man evergate-serve")
}

/// `evergate completions`.
pub(super) fn completions() -> Command {
    Command::new("completions")
        .about("Print what completes evergate's words in a shell")
        .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)).help("The shell"))
        .arg(
            Arg::new("program")
                .value_name("PROGRAM")
                .value_parser(PossibleValuesParser::new(PROGRAMS))
                .default_value("evergate")
                .help("Whose words"),
        )
        .after_help(
            "Examples:\n  evergate completions bash > /usr/share/bash-completion/completions/evergate\n  \
             evergate completions zsh > /usr/local/share/zsh/site-functions/_evergate\n  \
             evergate completions fish > ~/.config/fish/completions/evergate.fish",
        )
}

/// Where the pages are to be written.
pub(super) fn directory(given: &ArgMatches) -> PathBuf {
    given.get_one("directory").cloned().unwrap_or_default()
}

/// What is completed: a shell, and a program.
pub(super) fn completed(given: &ArgMatches) -> (Shell, String) {
    let program = given.get_one("program").cloned().unwrap_or_else(|| "evergate".to_owned());
    (given.get_one("shell").copied().unwrap_or(Shell::Bash), program)
}

/// The programs of this build.
const PROGRAMS: &[&str] = if cfg!(feature = "load") { &["evergate", "evergate-load"] } else { &["evergate"] };

/// One of them.
fn program(name: &str) -> Command {
    #[cfg(feature = "load")]
    if name == "evergate-load" {
        return evergate_load::command();
    }
    debug_assert_eq!(name, "evergate");
    command()
}

/// Options of which a synopsis shows no more than that there are some.
const MANY_OPTIONS: usize = 12;

/// Writes a page for each program and one for each of its subcommands.
pub fn write_man_pages(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    for program in PROGRAMS.iter().map(|name| program(name)) {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        for command in iter::once(&program).chain(program.get_subcommands()) {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name());
            fs::write(directory.join(format!("{name}.1")), page(command)?)?;
        }
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    let page = with_headings(&String::from_utf8_lossy(&page));
    let heading = ".SH SYNOPSIS\n";
    let synopsis = page.find(heading).map(|at| at + heading.len());
    let (Some(start), true) = (synopsis, command.get_opts().count() > MANY_OPTIONS) else { return Ok(page) };
    let end = page[start..].find(".SH ").map_or(page.len(), |length| start + length);
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    Ok(format!("{}\\fB{name}\\fR [\\fIOPTIONS\\fR]\n{}", &page[..start], &page[end..]))
}

/// The same page: what stands behind the options has the headings by which it is looked for, in place of `EXTRA`.
fn with_headings(page: &str) -> String {
    let Some((before, extra)) = page.split_once(".SH EXTRA\n") else { return page.to_owned() };
    let (extra, behind) = extra.find("\n.SH ").map_or((extra, ""), |end| extra.split_at(end));
    let (mut status, mut notes, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    for paragraph in extra.trim_end().split("\n\n") {
        if let Some(text) = paragraph.strip_prefix("Exit codes:") {
            status.push(text.strip_prefix(['\n', ' ']).unwrap_or(text));
        } else if let Some((_, text)) = paragraph.split_once(":\n").filter(|(word, _)| word.starts_with("Example")) {
            examples.push(text);
        } else {
            notes.push(paragraph);
        }
    }
    let mut written = before.to_owned();
    for (heading, paragraphs) in [("\"EXIT STATUS\"", status), ("NOTES", notes), ("EXAMPLES", examples)] {
        if !paragraphs.is_empty() {
            written.extend([".SH ", heading, "\n", &paragraphs.join("\n.PP\n"), "\n"]);
        }
    }
    written + behind.trim_start()
}

/// What a shell reads to complete a program's words.
pub fn completion(shell: Shell, name: &str) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut program(name), name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
