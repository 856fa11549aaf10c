//! `depickle completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::exit::Exit;
use super::printer::Printer;

/// Prints the completion script of a shell.
pub(crate) fn run(shell: Shell, printer: &mut Printer) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "depickle", &mut script);
    printer.bytes(&script);
    Exit::Done
}
