//! `depickle diff`

use depickle::checkpoint;
use depickle::diff::{self, DiffError, Options};
use depickle::report::{Diff, DiffCopy, DiffDistance, DiffStatus, DiffTensor};
use depickle::{Error, ErrorKind};

use super::args::DiffArgs;
use super::convert::open_options;
use super::exit::Exit;
use super::explain::{explain, refused, unknown_names};
use super::printer::Printer;
use super::progress::progress;
use super::sanitize::{bounded, sanitize};
use super::text::{Align, Count, columns};

/// Compares two files or folders, and says which tensors differ.
pub(crate) fn run(args: &DiffArgs, printer: &mut Printer) -> Exit {
    let options = match options(args) {
        Ok(options) => options,
        Err(message) => {
            printer.error(format_args!("error: {message}"));
            return Exit::Usage;
        }
    };
    let bars = progress(!args.work.no_progress && !args.say.quiet);
    let compared = match diff::diff(&args.left, &args.right, &options, &*bars) {
        Ok(compared) => compared,
        Err(error) => {
            failed(&error, printer);
            return error.class().into();
        }
    };
    let document = &compared.diff;
    if printer.is_json() {
        printer.document(document);
    } else {
        for note in &compared.notes {
            printer.note(bounded(note, 2_000));
        }
        print(document, printer);
    }
    if document.same { Exit::Done } else { Exit::No }
}

fn options(args: &DiffArgs) -> Result<Options, String> {
    let roots = match args.root.as_slice() {
        [] => (None, None),
        [both] => (Some(both.clone()), Some(both.clone())),
        [left, right] => (Some(left.clone()), Some(right.clone())),
        more => return Err(format!("--root is given {} times; once for both, or once for each", more.len())),
    };
    let mut open = open_options(&args.trust);
    open.paddle_bf16 = args.paddle_bf16;
    Ok(Options {
        open,
        roots,
        all: args.all,
        names: args.names.0.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        jobs: args.work.jobs(),
    })
}

/// Uses that are shown of one file; a hostile one may have millions.
const SHOWN: usize = 20;

fn failed(error: &DiffError, printer: &mut Printer) {
    let DiffError::Open(error) = error else {
        printer.error(bounded(&error.to_string(), 2_000));
        return;
    };
    let Error { path, kind } = error;
    let ErrorKind::Open(checkpoint::Error::Refused { uses }) = &**kind else {
        for line in explain(error, None) {
            printer.error(line);
        }
        return;
    };
    printer.error(format_args!("{}: not compared (nothing was run)", sanitize(path)));
    for used in uses.iter().take(SHOWN) {
        printer.error(format_args!("  {}", refused(used)));
    }
    for name in unknown_names(uses).iter().take(SHOWN) {
        printer.error(format_args!("  --inert {} keeps it as inert data", sanitize(name)));
    }
}

fn print(diff: &Diff, printer: &mut Printer) {
    let mut rows = Vec::new();
    for tensor in &diff.tensors {
        if tensor.status != DiffStatus::Same || printer.is_verbose() {
            rows.push(row(tensor));
        }
    }
    for line in columns(&rows, &[Align::Left; 4]) {
        printer.result(line);
    }
    let counts = &diff.counts;
    let (left, right) = (bounded(&diff.left.path, 400), bounded(&diff.right.path, 400));
    let mut parts = vec![format!("{} the same", Count(counts.same, "tensor"))];
    for (count, what) in [
        (counts.changed, "changed".to_owned()),
        (counts.only_left, format!("only in {left}")),
        (counts.only_right, format!("only in {right}")),
    ] {
        parts.extend((count > 0).then(|| format!("{count} {what}")));
    }
    printer.result(parts.join(", "));
}

fn row(tensor: &DiffTensor) -> Vec<String> {
    let status = match tensor.status {
        DiffStatus::Same => "same",
        DiffStatus::Changed => "changed",
        DiffStatus::OnlyLeft => "only left",
        DiffStatus::OnlyRight => "only right",
    };
    let mut form = [&tensor.left, &tensor.right].into_iter().flatten().map(form).collect::<Vec<_>>();
    form.dedup();
    let renamed = tensor.same_as.as_ref().map(|name| format!("the same data as {}", bounded(name, 400)));
    let what = tensor.distance.as_ref().map(distance).or(renamed).unwrap_or_default();
    vec![status.to_owned(), bounded(&tensor.name, 400).into_owned(), form.join(" -> "), what]
}

fn form(copy: &DiffCopy) -> String {
    format!("{} {:?}", copy.dtype, copy.shape)
}

fn distance(distance: &DiffDistance) -> String {
    let mut parts = vec![match distance.values {
        0 => "every value is the same".to_owned(),
        1 => "1 value differs".to_owned(),
        n => format!("{n} values differ"),
    }];
    if let (Some(absolute), Some(relative), Some(at)) = (distance.absolute, distance.relative, &distance.at) {
        parts.push(format!("at most by {absolute:.3e} at {at:?}, relative {relative:.3e}"));
    }
    if distance.incomparable > 0 {
        parts.push(format!("{} infinite or no number on one side", distance.incomparable));
    }
    parts.join(", ")
}
