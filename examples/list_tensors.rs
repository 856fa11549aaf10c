//! Lists the tensors of a checkpoint without reading them: `cargo run --example list_tensors -- model.pt`

use std::io::Write as _;

use depickle::{Checkpoint, Root};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: list_tensors CHECKPOINT")?;
    let checkpoint = Checkpoint::open(path)?;
    let mut out = std::io::stdout().lock();
    for tensor in checkpoint.weights(Root::Auto)?.iter() {
        write!(out, "{} {} {:?}", tensor.name(), tensor.dtype(), tensor.shape())?;
        match tensor.alias_of() {
            Some(first) => writeln!(out, " = {first}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
