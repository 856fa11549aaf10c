//! The world around a conversion: interruptions, inputs that are no files, terminals.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::asm::Op::*;
use crate::cli::{depickle, fixture};
use crate::folders::files;

/// One array of so many bytes, as numpy.save writes it.
pub(crate) fn large(bytes: usize) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({bytes},), }}");
    let mut file = [&b"\x93NUMPY\x01\0\x76\0"[..], format!("{header:<117}\n").as_bytes()].concat();
    file.resize(file.len() + bytes, 7);
    file
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_leaves_nothing_that_looks_finished() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("large.npy"), large(64 << 20)).unwrap();
    let mut killed = 0;
    for delay in [0, 5, 10, 20, 40, 60, 80, 120] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_depickle"))
            .args(["convert", "large.npy", "-o", "out", "--quiet"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(delay) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let was_running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        let out = folder.path().join("out");
        let left = if out.is_dir() { files(&out) } else { Vec::new() };
        let finished: Vec<&String> = left.iter().filter(|name| !name.ends_with(".partial")).collect();
        // The manifest comes last: with it everything is there.
        let whole = finished.iter().any(|name| name.ends_with(".manifest.json"));
        assert!(!whole || finished.len() == 2, "{left:?}");
        if was_running && !whole {
            killed += 1;
        }
        if !whole && !finished.is_empty() {
            // Between the two names: the output is whole already.
            let ran = depickle(folder.path(), &["diff", "large.npy", "out/large.safetensors"]);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        if out.is_dir() {
            fs::remove_dir_all(&out).unwrap();
        }
    }
    assert!(killed > 0);
    // What a killed run left does not keep the next from its work.
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/.large.safetensors.x.partial"), "").unwrap();
    assert_eq!(depickle(folder.path(), &["convert", "large.npy", "-o", "out"]).code, 0);
    assert_eq!(depickle(folder.path(), &["verify", "out/large.safetensors"]).code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_worth_a_retry_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("large.npy"), large(4 << 20)).unwrap();
    // A limit on the size of files fails as a full disk does, by an error of the write, once its signal is ignored.
    let ran = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 1024; exec \"$0\" convert large.npy -o out",
            env!("CARGO_BIN_EXE_depickle"),
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(4), "{ran:?}");
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("write failed") && told.contains("left behind; try again"), "{told}");
    assert_eq!(files(folder.path()), ["large.npy"]);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_input() {
    let folder = TempDir::new().unwrap();
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    for command in [
        &["convert", "pipe"][..],
        &["inspect", "pipe"],
        &["convert", "/dev/zero"],
        &["convert", "/dev/stdin"],
    ] {
        let ran = depickle(folder.path(), command);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("not a regular file"), "{ran:?}");
    }
    let ran = depickle(folder.path(), &["diff", "pipe", "pipe"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    // In a folder it is passed over.
    fs::copy(fixture("torch/state_dict.pth"), folder.path().join("a.pth")).unwrap();
    assert_eq!(depickle(folder.path(), &["convert", ".", "-o", "out"]).code, 0);
}

#[test]
fn names_cannot_move_the_cursor_of_a_terminal() {
    let folder = TempDir::new().unwrap();
    let nasty = "w\u{1b}[2J\u{202e}x";
    for (file, value) in [("a", [1_u8]), ("b", [2])] {
        let view = TensorView::new(Dtype::U8, vec![1], &value).unwrap();
        let bytes = safetensors::serialize([(nasty, view)], None::<HashMap<String, String>>).unwrap();
        fs::write(folder.path().join(file), bytes).unwrap();
    }
    let pickle = asm![Proto(2), Global("m\u{1b}[2J", nasty), EmptyTuple, Reduce, Stop];
    fs::write(folder.path().join("c.pkl"), pickle).unwrap();
    let commands: [&[&str]; 5] = [
        &["inspect", "a"],
        &["diff", "a", "b"],
        &["diff", "a", "c.pkl"],
        &["convert", "c.pkl"],
        &["inspect", "c.pkl"],
    ];
    for command in commands {
        let ran = depickle(folder.path(), command);
        let told = ran.out.clone() + &ran.err;
        assert!(told.contains("\\u{1b}[2J") && !told.contains(['\u{1b}', '\u{202e}']), "{ran:?}");
    }
    // Documents keep names as they are, as JSON escapes them.
    let document = depickle(folder.path(), &["diff", "a", "b", "--json"]).json();
    assert_eq!(document["tensors"][0]["name"], nasty);
}
