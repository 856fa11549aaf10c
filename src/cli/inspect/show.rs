//! A file for people: what it is, what it refers to, what would be converted, and a table of its tensors.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use depickle::report::{InspectedFile, InspectedTensor, RefusedCall};

use super::super::printer::Printer;
use super::super::sanitize::{bounded, sanitize};
use super::super::text::{Align, Count, Size, columns, length};

/// Files, pickles, and groups of values that are shown; JSON has all.
const GROUPS: usize = 12;

/// Prints a file.
pub(super) fn show(file: &InspectedFile, printer: &mut Printer) {
    head(file, printer);
    globals(file, printer);
    for refusal in &file.refusals {
        printer.data(format_args!("refused{}", self::refusal(refusal)));
    }
    convert(file, printer);
    values(file, printer);
    tensors(file, printer);
}

fn head(file: &InspectedFile, printer: &mut Printer) {
    let size = Size(file.size.unwrap_or_default());
    let container = file.container.unwrap_or("unknown container");
    let order = file.byteorder.map(|order| format!(", {order}-endian")).unwrap_or_default();
    let model = file.model.as_deref().map(|model| format!("  {}", bounded(model, 200))).unwrap_or_default();
    let files = match file.sources.len() {
        0 | 1 => String::new(),
        many => format!("{}, ", Count(length(many), "file")),
    };
    printer.data(format_args!("{}{model}  {container}, {files}{size}{order}", sanitize(&file.path)));
    if file.sources.len() > 1 {
        for source in file.sources.iter().take(GROUPS) {
            let (path, size) = (bounded(&source.path, 200), Size(source.size));
            printer.data(format_args!("file     {path}  {}, {size}", source.container));
        }
        more(file.sources.len(), "files", printer);
    }
    for left_out in file.left_out_files.iter().take(GROUPS) {
        let (path, reason) = (bounded(&left_out.path, 200), bounded(&left_out.reason, 200));
        printer.data(format_args!("left out {path}: {reason}"));
    }
    more(file.left_out_files.len(), "files", printer);
    if let Some(bytes) = &file.accounting {
        let parts = [
            ("pickle", bytes.pickle),
            ("tensors", bytes.tensors),
            ("container", bytes.container),
            ("other", bytes.other),
            ("unreferenced", bytes.unreferenced),
            ("trailing", bytes.trailing),
        ];
        let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {bytes}")).collect();
        printer.data(format_args!("bytes    {}", parts.join(", ")));
    }
    for pickle in file.pickles.iter().take(GROUPS) {
        let entry =
            pickle.entry.as_deref().map(|entry| format!("{}, ", bounded(entry, 200))).unwrap_or_default();
        printer.data(format_args!("pickle   {entry}protocol {}, sha256 {}", pickle.protocol, pickle.sha256));
    }
    more(file.pickles.len(), "pickles", printer);
    for stray in &file.strays {
        printer.data(format_args!("stray    {}", bounded(stray, 400)));
    }
    for (key, value) in file.metadata.iter().flatten() {
        printer.data(format_args!("metadata {}: {}", bounded(key, 200), bounded(value, 200)));
    }
}

/// Every name once: the pickles of a folder all refer to the same few.
fn globals(file: &InspectedFile, printer: &mut Printer) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut order = Vec::new();
    for global in file.pickles.iter().flat_map(|pickle| &pickle.globals) {
        let key = (global.verdict, global.name.as_str());
        let count = counts.entry(key).or_insert_with(|| {
            order.push(key);
            0
        });
        *count = count.saturating_add(global.count);
    }
    let rows = order.into_iter().map(|(verdict, name)| {
        let count = counts.get(&(verdict, name)).copied().unwrap_or_default().to_string();
        vec!["global ".to_owned(), verdict.to_owned(), count, bounded(name, 200).into_owned()]
    });
    let rows: Vec<_> = rows.collect();
    for line in columns(&rows, &[Align::Left, Align::Left, Align::Right, Align::Left]) {
        printer.data(line);
    }
}

/// A refusal as a line of its own.
pub(super) fn refusal(refusal: &RefusedCall) -> String {
    let entry = refusal.entry.as_deref().map(|entry| format!("{} ", bounded(entry, 80))).unwrap_or_default();
    format!("  {entry}@{:#x}  {}  {}", refusal.offset, bounded(&refusal.call, 200), refusal.verdict)
}

fn convert(file: &InspectedFile, printer: &mut Printer) {
    let Some(plan) = &file.plan else { return };
    if let Some(error) = &plan.error {
        printer.data(format_args!("convert  {}", bounded(error, 1_000)));
    }
    for note in &plan.notes {
        printer.data(format_args!("convert  {}", bounded(note, 1_000)));
    }
    for group in plan.left_out.iter().take(GROUPS) {
        let path = if group.path.is_empty() { "the whole source".to_owned() } else { group.path.join(".") };
        let (tensors, size) = (Count(group.tensors, "tensor"), Size(group.bytes));
        printer.data(format_args!("left out {} ({tensors}, {size}): {}", bounded(&path, 200), group.reason));
    }
    more(plan.left_out.len(), "places", printer);
}

fn values(file: &InspectedFile, printer: &mut Printer) {
    for group in file.values.iter().take(GROUPS) {
        let path = if group.path.is_empty() { "the whole source".to_owned() } else { group.path.join(".") };
        let values = Count(group.count, "value");
        printer.data(format_args!(
            "value    {} ({}, {values})",
            bounded(&path, 200),
            bounded(&group.type_name, 100)
        ));
    }
    more(file.values.len(), "places", printer);
}

fn more(all: usize, what: &str, printer: &mut Printer) {
    if let Some(more) = all.checked_sub(GROUPS).filter(|more| *more > 0) {
        printer.data(format_args!("         and {more} more {what}; --json lists them"));
    }
}

fn tensors(file: &InspectedFile, printer: &mut Printer) {
    /// On a terminal a long name must not push the rest off the line.
    const NARROW: usize = 60;
    let terminal = std::io::stdout().is_terminal();
    let widest = if terminal { NARROW } else { 4_000 };
    if file.tensors.is_empty() {
        printer.data("no tensors");
        return;
    }
    let header = ["  NAME", "DTYPE", "SHAPE", "BYTES", "STORAGE", ""].map(str::to_owned).to_vec();
    let rows = file.tensors.iter().map(|tensor| row(tensor, file.plan.is_some(), widest));
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let align = [Align::Left, Align::Left, Align::Left, Align::Right, Align::Right, Align::Left];
    for line in columns(&rows, &align) {
        printer.data(line);
    }
    let total = file.tensors.iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.nbytes));
    let tensors = Count(length(file.tensors.len()), "tensor");
    match &file.plan {
        Some(plan) if plan.error.is_none() => {
            let written = file.tensors.iter().filter(|tensor| tensor.name.is_some());
            let bytes = written.fold(0, |sum: u64, tensor| sum.saturating_add(tensor.nbytes));
            let count = Count(plan.tensors, "tensor");
            printer.data(format_args!(
                "{tensors}, {}; convert writes {count}, {} (marked *)",
                Size(total),
                Size(bytes)
            ));
        }
        _ => printer.data(format_args!("{tensors}, {}", Size(total))),
    }
}

fn row(tensor: &InspectedTensor, planned: bool, widest: usize) -> Vec<String> {
    let mark = if planned && tensor.name.is_some() { '*' } else { ' ' };
    let path = tensor.path.join(".");
    let path = if path.is_empty() { "(the whole source)" } else { &path };
    let mut notes = Vec::new();
    if let Some(same) = &tensor.same_as {
        notes.push(format!("same as {}", bounded(&same.join("."), widest)));
    }
    if let Some(from) = tensor.encoding.as_ref().and_then(|encoding| encoding.from.as_ref()) {
        notes.push(format!("cast from {from}"));
    }
    if !tensor.contiguous {
        notes.push(format!("strides {:?}", tensor.stride.as_deref().unwrap_or_default()));
    }
    if let Some(offset) = tensor.offset.filter(|offset| *offset > 0) {
        notes.push(format!("offset {offset}"));
    }
    vec![
        format!("{mark} {}", bounded(path, widest)),
        tensor.dtype.clone(),
        format!("{:?}", tensor.shape),
        tensor.nbytes.to_string(),
        tensor.storage.as_deref().map(|key| bounded(key, 24).into_owned()).unwrap_or_default(),
        notes.join(", "),
    ]
}
