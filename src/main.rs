//! Command line -> configuration -> run -> exit code; nothing else.

use std::io::Write;
use std::process::ExitCode;

use evergate::config::cli::{self, Action, Failure, Show};
use evergate::process::signals::Signals;
use evergate::process::{Exit, demo, serve};
use evergate::{check, config};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A signal that comes while the options are read is kept; the other commands end by it as any program does.
    let serves = std::env::args().any(|word| word == "serve" || word == "demo");
    let signals = match serves.then(Signals::install).transpose() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Host, &format!("host: no signal handler can be installed: {error}")),
    };
    config::raise_nofile();
    let action = match cli::from_process() {
        Ok(action) => action,
        Err(Failure::Usage(error)) => error.exit(),
        Err(Failure::Config(errors)) => {
            errors.iter().for_each(|error| eprintln!("evergate: {error}"));
            return Exit::Usage.into();
        }
    };
    match (action, signals) {
        (Action::Serve(loaded), Some(signals)) => serve::run(&loaded, &signals, |_| ()).into(),
        (Action::Demo { loaded, keepalive_seconds }, Some(signals)) => {
            demo::run(*loaded, keepalive_seconds, &signals).into()
        }
        (Action::Serve(_) | Action::Demo { .. }, None) => fail(Exit::Host, "host: the arguments cannot be read"),
        (Action::DemoServices(options), _) => match demo::run_services(*options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(Exit::Host, &error),
        },
        (Action::Check(loaded), _) => {
            let fine = check::run(&loaded.config, &loaded.warnings, &mut std::io::stdout());
            if fine { Exit::Done } else { Exit::Host }.into()
        }
        (Action::Config(show, loaded), _) => print(&match (show, loaded) {
            (Show::Sample, _) | (Show::Effective, None) => config::sample(),
            (Show::Markdown, _) => config::markdown(),
            (Show::Effective, Some(loaded)) => config::effective(&loaded),
        }),
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(exit: Exit, error: &str) -> ExitCode {
    eprintln!("evergate: {error}");
    exit.into()
}
