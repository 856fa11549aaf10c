//! Everything that is printed goes through here: data to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Errors and refusals only.
    Quiet,
    /// Results, and what should be known of them.
    Normal,
    /// Details.
    Verbose,
}

/// Writes lines. That a reader went away is no error: nothing more is written then.
#[derive(Debug)]
pub(crate) struct Printer {
    level: Level,
    json: bool,
    out: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Printer {
    /// With `json`, results are one document instead of lines.
    pub(crate) fn new(level: Level, json: bool) -> Self {
        Self { level, json, out: BufWriter::new(io::stdout()), failed: None }
    }

    /// Whether results are one document.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.level == Level::Verbose
    }

    /// Whether standard output takes no more, so that nothing more need be made for it.
    pub(crate) fn is_closed(&self) -> bool {
        self.failed.is_some()
    }

    /// A line of data that was asked for.
    pub(crate) fn data(&mut self, line: impl Display) {
        self.put(|out| writeln!(out, "{line}"));
    }

    /// A line that tells of success.
    pub(crate) fn result(&mut self, line: impl Display) {
        if self.level > Level::Quiet && !self.json {
            self.data(line);
        }
    }

    /// Bytes of data that was asked for.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.put(|out| out.write_all(bytes));
    }

    /// The one document.
    pub(crate) fn document(&mut self, document: &impl Serialize) {
        self.put(|out| {
            serde_json::to_writer_pretty(&mut *out, document)?;
            out.write_all(b"\n")
        });
    }

    /// A line that should be known.
    pub(crate) fn note(&mut self, line: impl Display) {
        if self.level > Level::Quiet {
            self.error(line);
        }
    }

    /// A line for those who want to know more.
    pub(crate) fn detail(&mut self, line: impl Display) {
        if self.is_verbose() {
            self.error(line);
        }
    }

    /// A line that has to be known.
    pub(crate) fn error(&mut self, line: impl Display) {
        // What was printed before stands before it on a terminal, too. Nobody can be told of errors of this stream.
        self.put(Write::flush);
        let _ = writeln!(io::stderr(), "{line}");
    }

    fn put(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) {
        if self.failed.is_none()
            && let Err(error) = write(&mut self.out)
        {
            self.failed = Some(error);
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The first error of standard output, unless its reader only went away.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.put(Write::flush);
        // The buffer would be written once more when it is dropped.
        let (_, _) = self.out.into_parts();
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}
