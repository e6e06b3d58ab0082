//! `evergate-load`: the load generator. See the crate of that name.

fn main() -> std::process::ExitCode {
    evergate_load::main()
}
