//! Says what a file would do if Python loaded it, without loading it: `cargo run --example scan -- model.pt`

use std::io::Write as _;
use std::path::Path;

use depickle::scan::{Options, scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: scan FILE")?;
    let file = scan(Path::new(&path), &Options::default())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:?}, coverage {:?}", file.verdict, file.coverage)?;
    for finding in &file.findings {
        writeln!(out, "  {:?} {}: {}", finding.severity, finding.rule, finding.message)?;
    }
    Ok(())
}
