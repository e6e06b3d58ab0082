//! Command line -> configuration -> run -> exit code; nothing else.

use std::io::Write as _;
use std::process::ExitCode;

use evergate::config::cli::{self, Action, Failure, Show};
use evergate::config::manual;
use evergate::process::signals::Signals;
use evergate::process::{Exit, demo, memory, serve};
use evergate::{admin, call, check, config, operator, stdio};

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
    // Where it cannot be raised, `clients_max` follows what holds.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    memory::give_back_large_buffers();
    let action = match cli::from_process() {
        Ok(action) => action,
        Err(Failure::Usage(error)) => return explain(error),
        Err(Failure::Config(errors)) => return fail(Exit::Usage, &errors.to_string()),
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
            let said = [config::by_cgroup(&loaded), loaded.warnings].concat();
            match check::run(&loaded.config, &said, &mut std::io::stdout()) {
                Ok(fine) => if fine { Exit::Done } else { Exit::Host }.into(),
                Err(error) => fail(Exit::Host, &error),
            }
        }
        (Action::Drain { target, options }, _) => operator::drain(&target, options),
        (Action::Status { target, json }, _) => operator::status(&target, json),
        (Action::Clients { target, options }, _) => operator::clients(&target, &options),
        (Action::Call(call), _) => call::run(&call),
        (Action::Man(directory), _) => match manual::write_man_pages(&directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                fail(Exit::Host, &format!("{}: the man pages cannot be written: {error}", directory.display()))
            }
        },
        (Action::Completions(shell, program), _) => print(&manual::completion(shell, &program)),
        (Action::Config(show, loaded), _) => print(&match (show, loaded) {
            (Show::Sample, _) | (Show::Effective, None) => config::sample(),
            (Show::Markdown, _) => config::markdown(),
            (Show::Metrics, _) => admin::metrics::markdown(),
            (Show::Effective, Some(loaded)) => config::effective(&loaded),
        }),
    }
}

fn print(text: &str) -> ExitCode {
    stdio::print(text).map_or_else(|error| fail(Exit::Host, &error), |()| ExitCode::SUCCESS)
}

/// What clap has to say: an error on stderr, help or version on stdout.
fn explain(error: clap::Error) -> ExitCode {
    if error.use_stderr() {
        stdio::on_stderr(move || drop(error.print()));
        return Exit::Usage.into();
    }
    let printed = stdio::judge(error.print().and_then(|()| std::io::stdout().flush()));
    printed.map_or_else(|error| fail(Exit::Host, &error), |()| ExitCode::SUCCESS)
}

fn fail(exit: Exit, error: &str) -> ExitCode {
    stdio::say(error);
    exit.into()
}
