//! Where a conversion writes: beside its input by default, under the name that loaders look for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Suffixes of checkpoints, and of what they are wrapped in. A stem loses all of them: `model.pth.tar`, `x.pt.gz`.
const SUFFIXES: &[&str] = &[
    "pt",
    "pth",
    "pth.tar",
    "ckpt",
    "bin",
    "pkl",
    "pickle",
    "p",
    "joblib",
    "model",
    "th",
    "t7",
    "ptl",
    "pdparams",
    "pdiparams",
    "npz",
    "npy",
    "tar",
    "zip",
    "gz",
    "bz2",
    "xz",
    "lzma",
    "zst",
    "lz4",
    "z",
    "tgz",
];

/// Where the output of an input goes without `-o`, and with `-o` a folder: its file name.
///
/// ```
/// # use std::path::Path;
/// # use depickle::convert::output_name;
/// assert_eq!(output_name(Path::new("runs/model.pth.tar")), Path::new("model.safetensors"));
/// assert_eq!(output_name(Path::new("pytorch_model.bin")), Path::new("model.safetensors"));
/// assert_eq!(output_name(Path::new("adapter_model.bin")), Path::new("adapter_model.safetensors"));
/// ```
pub fn output_name(input: &Path) -> PathBuf {
    let name = input.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let stem = stem(&name);
    // Hugging Face's loaders look for these names. Those of diffusers and PEFT keep theirs.
    let stem = match stem.strip_prefix("pytorch_model") {
        Some(rest) if name.ends_with(".bin") => format!("model{rest}"),
        _ => stem.to_owned(),
    };
    PathBuf::from(format!("{stem}.safetensors"))
}

/// Where the values that are no tensors go: `<stem>.metadata.json` beside the output.
pub fn metadata_name(output: &Path) -> PathBuf {
    let name = output.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let stem = name.strip_suffix(".safetensors").unwrap_or(&name);
    output.with_file_name(format!("{stem}.metadata.json"))
}

fn stem(name: &str) -> &str {
    let mut stem = name;
    while let Some((rest, suffix)) = stem.rsplit_once('.') {
        if rest.is_empty() || !SUFFIXES.contains(&suffix.to_ascii_lowercase().as_str()) {
            break;
        }
        stem = rest;
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_lose_every_suffix_of_a_checkpoint_and_no_other() {
        for (input, output) in [
            ("model.pt", "model.safetensors"),
            ("x.pt.gz", "x.safetensors"),
            ("a/b/last.CKPT", "last.safetensors"),
            ("tetris", "tetris.safetensors"),
            ("v1.2", "v1.2.safetensors"),
            (".pt", ".pt.safetensors"),
            ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
            ("pytorch_model.fp16.bin", "model.fp16.safetensors"),
            ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
            ("pytorch_model.pt", "pytorch_model.safetensors"),
        ] {
            assert_eq!(output_name(Path::new(input)), Path::new(output));
        }
    }
}
