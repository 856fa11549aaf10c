//! Converts a checkpoint: `cargo run --example convert -- model.pt`

use std::path::PathBuf;

use depickle::convert::{Options, convert, output_name};
use depickle::progress::Silent;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let input = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: convert CHECKPOINT")?);
    let output = input.with_file_name(output_name(&input));
    let converted = convert(&input, &output, &Options::default(), &Silent)?;
    let mut out = std::io::stdout();
    Ok(std::io::Write::write_fmt(
        &mut out,
        format_args!("{} tensors, {}\n", converted.tensors, converted.claim),
    )?)
}
