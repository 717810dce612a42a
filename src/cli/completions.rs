//! `catseye completions`: what makes a shell complete the command.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Outcome;

/// Arguments of `completions`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  catseye completions bash > ~/.local/share/bash-completion/completions/catseye\n  catseye completions zsh > ~/.zfunc/_catseye"
)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> miette::Result<Outcome> {
    generate(arguments.shell, &mut super::Arguments::command(), "catseye", &mut std::io::stdout());
    Ok(Outcome::Good)
}
