//! The `catseye` command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // a reader that has seen enough, as `head`, ends the command in silence
    sigpipe::reset();
    cli::main()
}
