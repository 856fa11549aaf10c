//! `depickle disasm`: the opcodes of every pickle in a file. What was shown stands, also where a pickle breaks off.

use std::path::Path;
use std::sync::Arc;

use depickle::bytes::{Offset, ReadAt};
use depickle::checkpoint::{self, FoundPickle, OpenOptions, Pickles, pickles};
use depickle::disasm::{Listing, repr};
use depickle::report::{DISASM_SCHEMA, DisasmItem, DisasmOp};
use depickle::{Error, ErrorKind};
use serde::Serialize;

use super::args::DisasmArgs;
use super::exit::Exit;
use super::inputs;
use super::printer::Printer;
use super::sanitize::{bounded, sanitize};
use super::text::{Count, length};

/// Bytes of an argument that are shown: a name whole, and the beginning of a blob.
const SHOWN: u64 = 100;

/// Lists every pickle of the file.
pub(crate) fn run(args: &DisasmArgs, printer: &mut Printer) -> Exit {
    let usage = |printer: &mut Printer, message: &str| {
        printer.error(format_args!("error: {message}"));
        Exit::Usage
    };
    let mut found = match inputs::find(std::slice::from_ref(&args.file)) {
        Ok(inputs) => inputs.all,
        Err(message) => return usage(printer, &message),
    };
    let input = match (found.pop(), found.is_empty()) {
        (Some(input), true) if !input.is_found() => input,
        _ => {
            let message = format!("{}: a folder; one file is listed at a time", shown(&args.file));
            return usage(printer, &message);
        }
    };
    let source = match input.open(&std::env::temp_dir()) {
        Ok(source) => source,
        Err(error) => return failed(&input.shown(), checkpoint::Error::Io(error), printer).1,
    };
    let options = OpenOptions { siblings: input.folder(), ..OpenOptions::default() };
    let most = if args.full { options.limits.inflated_pickle } else { SHOWN };
    Disasm { name: input.name(), shown: input.shown(), options, most, printer }.file(&source)
}

fn shown(path: &Path) -> String {
    sanitize(&path.display().to_string()).into_owned()
}

/// Says why something could not be shown. The message, and the exit code.
fn failed(shown: &str, error: checkpoint::Error, printer: &mut Printer) -> (String, Exit) {
    let message = error.to_string();
    printer.error(format_args!("{shown}: {}", bounded(&message, 2_000)));
    let error = Error { path: String::new(), kind: Box::new(ErrorKind::Open(error)) };
    (message, error.class().into())
}

/// A run over one file.
struct Disasm<'a> {
    name: String,
    shown: String,
    options: OpenOptions,
    most: u64,
    printer: &'a mut Printer,
}

impl Disasm<'_> {
    fn file(&mut self, source: &Arc<dyn ReadAt>) -> Exit {
        let Pickles { found, container, layers, error } = pickles(source, &self.options);
        let json = self.printer.is_json();
        let kind = layers.iter().copied().chain(container).collect::<Vec<_>>();
        if json {
            let head = [
                ("schema", serde_json::Value::from(DISASM_SCHEMA)),
                ("path", self.name.as_str().into()),
                ("size", source.size().into()),
                ("container", container.into()),
                ("layers", layers.as_slice().into()),
            ];
            self.raw("{\n");
            for (key, value) in head {
                self.member(1, key, &value, ",\n");
            }
            self.raw("  \"pickles\": [");
        } else if !kind.is_empty() {
            let count = Count(length(found.len()), "pickle");
            self.printer.data(format_args!("{}  {}, {count}", self.shown, kind.join(", ")));
        }
        let mut exits = Vec::new();
        for (i, pickle) in found.iter().enumerate() {
            if self.printer.is_closed() {
                return Exit::Done;
            }
            if json {
                self.raw(if i == 0 { "\n" } else { ",\n" });
                exits.push(self.pickle_as_json(pickle));
            } else {
                exits.push(self.pickle(pickle));
            }
        }
        let error = error.or_else(|| found.is_empty().then_some(checkpoint::Error::Unsupported(NO_PICKLE)));
        let said = error.map(|error| failed(&self.shown, error, self.printer));
        let message = said.as_ref().map(|(message, _)| message.clone());
        exits.extend(said.map(|(_, exit)| exit));
        let exit = Exit::of_several(exits);
        if json {
            self.raw(if found.is_empty() { "],\n" } else { "\n  ],\n" });
            self.member(1, "error", &message, ",\n");
            self.member(1, "exit", &exit.code(), "\n}\n");
        }
        exit
    }

    /// One pickle in lines: what `pickletools.dis` prints, and behind it what the opcode does.
    fn pickle(&mut self, pickle: &FoundPickle) -> Exit {
        let Self { options, most, printer, shown, .. } = self;
        let entry =
            pickle.entry.as_deref().map(|entry| format!("{} ", bounded(entry, 200))).unwrap_or_default();
        let place = if pickle.in_file {
            format!("at {}", Offset(pickle.span.start()))
        } else {
            "decoded from the file".to_owned()
        };
        printer.data(format_args!("pickle   {entry}{place}"));
        let mut highest = 0;
        for item in Listing::new(pickle, &options.limits, *most) {
            if printer.is_closed() {
                break;
            }
            match item {
                Ok(DisasmItem::Op(op)) => {
                    highest = highest.max(op.protocol);
                    printer.data(line(&op));
                }
                Ok(DisasmItem::Raw(raw)) => {
                    printer.data(format_args!("{:5}: {} of an array", raw.offset, Count(raw.raw, "byte")));
                }
                Err(error) => return failed(shown, error, printer).1,
            }
        }
        printer.data(format_args!("highest protocol among opcodes = {highest}"));
        Exit::Done
    }

    fn pickle_as_json(&mut self, pickle: &FoundPickle) -> Exit {
        self.raw("    {\n");
        self.member(3, "entry", &pickle.entry.as_deref(), ",\n");
        self.member(3, "start", &pickle.in_file.then(|| pickle.span.start()), ",\n");
        self.member(3, "complete", &pickle.complete, ",\n");
        self.raw("      \"ops\": [");
        let limits = self.options.limits.clone();
        let mut between = "\n";
        let mut said = None;
        for item in Listing::new(pickle, &limits, self.most) {
            if self.printer.is_closed() {
                break;
            }
            match item {
                Ok(item) => {
                    self.raw(between);
                    self.raw("        ");
                    self.value(&item);
                    between = ",\n";
                }
                Err(error) => said = Some(failed(&self.shown, error, self.printer)),
            }
        }
        self.raw(if between == "\n" { "],\n" } else { "\n      ],\n" });
        self.member(3, "error", &said.as_ref().map(|(message, _)| message), "\n    }");
        said.map_or(Exit::Done, |(_, exit)| exit)
    }

    /// A member of an object, on a line of its own.
    fn member(&mut self, level: usize, key: &str, value: &impl Serialize, end: &str) {
        self.raw(&"  ".repeat(level));
        self.raw(&format!("\"{key}\": "));
        self.value(value);
        self.raw(end);
    }

    fn value(&mut self, value: &impl Serialize) {
        // Numbers, text and plain structures: there is nothing in them that JSON could not hold.
        self.printer.bytes(&serde_json::to_vec(value).unwrap_or_default());
    }

    fn raw(&mut self, text: &str) {
        self.printer.bytes(text.as_bytes());
    }
}

const NO_PICKLE: &str = "a file without a pickle";

/// An opcode as a line.
fn line(op: &DisasmOp) -> String {
    /// Deeper ones are not indented further: a pickle may open millions of marks.
    const DEEPEST: usize = 64;
    /// Where the notes begin.
    const NOTES: usize = 56;
    let indent = "    ".repeat(op.marks.min(DEEPEST));
    let mut line = format!("{:5}: {:<4} {indent}{}", op.offset, code(op.code), op.opcode);
    let message = match (op.mark, &op.memo) {
        (Some(mark), _) => Some(format!("(MARK at {mark})")),
        (None, Some(memo)) if op.opcode == "MEMOIZE" => Some(format!("(as {})", memo.key)),
        _ => None,
    };
    let argument = op.arg.as_ref().map(repr);
    if argument.is_some() || message.is_some() {
        let padding = 10_usize.saturating_sub(op.opcode.len());
        line.push_str(&" ".repeat(padding));
        for part in argument.iter().chain(&message) {
            line.push(' ');
            line.push_str(part);
        }
    }
    let [before, after] = op.stack;
    let notes: String = notes(op).iter().flat_map(|note| ["  ", note]).collect();
    let padding = " ".repeat(NOTES.saturating_sub(line.chars().count()));
    format!("{line}{padding}  # {before}->{after}{notes}")
}

/// The byte of an opcode as `repr` prints it, without its quotes.
fn code(code: u8) -> String {
    if code.is_ascii_graphic() { char::from(code).to_string() } else { format!("\\x{code:02x}") }
}

fn notes(op: &DisasmOp) -> Vec<String> {
    /// Characters of a name or an expression.
    const LONGEST: usize = 200;
    let mut notes = Vec::new();
    if let Some(memo) = &op.memo {
        let object = bounded(&memo.object, LONGEST);
        notes.push(if memo.stored { format!("memo {} = {object}", memo.key) } else { object.into_owned() });
    }
    for name in op.global.iter().chain(&op.call) {
        let shown = bounded(&name.name, LONGEST);
        notes.push(match name.verdict {
            Some(verdict) => format!("{shown}  {verdict}"),
            None => shown.into_owned(),
        });
    }
    notes.extend(op.object.iter().map(|object| bounded(object, LONGEST).into_owned()));
    notes.extend(op.anomaly.iter().map(|anomaly| format!("anomaly: {anomaly}")));
    notes
}
