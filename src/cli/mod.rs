//! The command line: arguments become options once, each command has a `run`, and one printer says everything.

mod again;
mod args;
mod color;
mod completions;
mod convert;
mod custody;
mod diff;
mod disasm;
mod exit;
mod explain;
mod inputs;
mod inspect;
mod man;
mod outputs;
mod policy;
mod printer;
mod progress;
mod sanitize;
mod scan;
mod sign;
mod summary;
mod text;
mod verify;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use self::args::{Cli, FormArgs, SayArgs, Task};
use self::exit::Exit;
use self::printer::{Level, Printer};

/// Runs the command that the arguments ask for.
pub(crate) fn run(mut arguments: Vec<OsString>) -> Exit {
    if is_file_alone(&arguments) {
        arguments.insert(1, "convert".into());
    }
    let parsed = Cli::command().try_get_matches_from(&arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and end well, also where nobody reads them.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let mut printer = printer(&cli.command);
    let exit = match cli.command {
        Task::Convert(args) => convert::run(&args, &arguments, &mut printer),
        Task::Inspect(args) => inspect::run(&args, &mut printer),
        Task::Scan(args) => scan::run(&args, &mut printer),
        Task::Verify(args) => verify::run(&args, &mut printer),
        Task::Diff(args) => diff::run(&args, &mut printer),
        Task::Sign(args) => sign::run(&args, &mut printer),
        Task::SignModel(args) => sign::sign_model(&args, &mut printer),
        Task::VerifyModel(args) => sign::verify_model(&args, &mut printer),
        Task::Disasm(args) => disasm::run(&args, &mut printer),
        Task::Completions { shell } => completions::run(shell, &mut printer),
        Task::Man => man::run(&mut printer),
    };
    match printer.finish() {
        Ok(()) => exit,
        Err(error) => {
            Printer::new(Level::Normal, false).error(format_args!("standard output: write failed: {error}"));
            Exit::of_several([exit, Exit::Environment])
        }
    }
}

fn printer(task: &Task) -> Printer {
    let normal = |form: &FormArgs| Printer::new(Level::Normal, form.is_json());
    let levelled = |say: &SayArgs| {
        let level = match (say.quiet, say.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        };
        Printer::new(level, say.form.is_json())
    };
    match task {
        Task::Convert(args) => levelled(&args.say),
        Task::Diff(args) => levelled(&args.say),
        Task::Inspect(args) => normal(&args.form),
        Task::Scan(args) => Printer::new(Level::Normal, args.format() != args::ScanFormat::Text),
        Task::Verify(args) => normal(&args.form),
        Task::Sign(args) => normal(&args.form),
        Task::Disasm(args) => normal(&args.form),
        Task::SignModel(_) | Task::VerifyModel(_) | Task::Completions { .. } | Task::Man => {
            Printer::new(Level::Normal, false)
        }
    }
}

/// Whether the first argument is a path that exists and no command: a file that was dragged onto the program.
fn is_file_alone(arguments: &[OsString]) -> bool {
    let Some(first) = arguments.get(1) else { return false };
    let is_command = Cli::command().get_subcommands().any(|command| first == command.get_name());
    let is_flag = first.as_encoded_bytes().starts_with(b"-");
    !is_command && !is_flag && Path::new(first).exists()
}
