//! Loads a checkpoint into candle, tensor by tensor and without a file between:
//! `cargo run --manifest-path examples/load_into_candle/Cargo.toml -- model.pt`

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use depickle::{Checkpoint, Root};
use safetensors::View;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: load_into_candle CHECKPOINT")?;
    let checkpoint = Checkpoint::open(path)?;
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for tensor in checkpoint.weights(Root::Auto)?.iter() {
        let loaded = tensor.load()?; // a safetensors::View
        match DType::try_from(loaded.dtype()) {
            Ok(dtype) => {
                let value = Tensor::from_raw_buffer(&loaded.data(), dtype, loaded.shape(), &Device::Cpu)?;
                tensors.insert(tensor.name().to_owned(), value);
            }
            Err(_) => eprintln!("{}: candle has no type for {}", tensor.name(), loaded.dtype()),
        }
    }
    println!("{} tensors on {:?}", tensors.len(), Device::Cpu);
    Ok(())
}
