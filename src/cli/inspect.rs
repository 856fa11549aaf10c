//! `depickle inspect`: what is in a file, from its structure alone. No weights are read.

mod collect;
mod show;

use depickle::report::{INSPECT_SCHEMA, Inspected, InspectedFile};

use super::args::InspectArgs;
use super::exit::Exit;
use super::inputs::{self, Input, Source};
use super::printer::Printer;
use super::sanitize::bounded;
use super::text::length;

/// Shows every input.
pub(crate) fn run(args: &InspectArgs, printer: &mut Printer) -> Exit {
    let inputs = match inputs::find_checkpoints(&args.inputs) {
        Ok(inputs) => inputs,
        Err(message) => {
            printer.error(format_args!("error: {message}"));
            return Exit::Usage;
        }
    };
    let mut document = Inspected { schema: INSPECT_SCHEMA, files: Vec::new() };
    let mut exits = Vec::new();
    let mut passed_over = inputs.skipped;
    let mut is_shown = false;
    for input in &inputs.all {
        let Some((files, exit)) = inspect(input, printer) else {
            passed_over = passed_over.saturating_add(1);
            continue;
        };
        for file in files {
            if !printer.is_json() && file.error.is_none() {
                if std::mem::replace(&mut is_shown, true) {
                    printer.data("");
                }
                show::show(&file, printer);
            }
            document.files.push(file);
        }
        exits.push(exit);
    }
    if printer.is_json() {
        printer.document(&document);
    }
    if exits.is_empty() {
        printer.error(format_args!("no model file among {}", super::text::Count(passed_over, "file")));
        return Exit::Malformed;
    }
    if length(exits.len()) > 1 && passed_over > 0 {
        printer.note(format_args!("{} passed over: no model files", super::text::Count(passed_over, "file")));
    }
    Exit::of_several(exits)
}

/// One input, which is a file, or a folder with the models in it; `None` where it was found in a folder and is no model
/// file.
fn inspect(input: &Input, printer: &mut Printer) -> Option<(Vec<InspectedFile>, Exit)> {
    let mut file = InspectedFile { path: input.name(), ..InspectedFile::default() };
    let collected = match &input.source {
        Source::Checkpoint(folder) => collect::folder(folder, &mut file),
        _ => collect::file(input, &mut file).map(|exit| (vec![std::mem::take(&mut file)], exit)),
    };
    let (mut files, exit) = match collected {
        Ok(collected) => collected,
        Err(collect::Failure::NotApplicable) if input.is_found() => return None,
        Err(failure) => {
            let (exit, message) = failure.told();
            printer.error(format_args!("{}: {}", input.shown(), bounded(&message, 2_000)));
            for refusal in &file.refusals {
                printer.error(show::refusal(refusal));
            }
            file.error = Some(message);
            let exit = if file.refusals.is_empty() { exit } else { Exit::No };
            (vec![file], exit)
        }
    };
    for file in &mut files {
        file.exit = exit.code();
    }
    Some((files, exit))
}
