//! `disasm`: what the machine did, opcode by opcode. `tests/disasm.py` holds it to Python's `pickletools`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{OpenOptions, Pickles, pickles};
use depickle::disasm::{Listing, repr};
use depickle::report::{DisasmItem, DisasmOp};
use serde_json::Value;

use crate::asm::Op::*;
use crate::asm::{global, reduce, text};
use crate::schema;

fn found(bytes: Vec<u8>) -> Pickles {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    pickles(&source, &OpenOptions::default())
}

/// The opcodes of the first pickle, and how it ends.
fn listed(bytes: Vec<u8>) -> (Vec<DisasmOp>, Option<String>) {
    let found = found(bytes).found;
    let options = OpenOptions::default();
    let mut ops = Vec::new();
    for item in Listing::new(&found[0], &options.limits, 100) {
        match item {
            Ok(DisasmItem::Op(op)) => ops.push(*op),
            Ok(DisasmItem::Raw(raw)) => panic!("{raw:?}"),
            Err(error) => return (ops, Some(error.to_string())),
        }
    }
    (ops, None)
}

fn op(bytes: Vec<u8>, name: &str) -> DisasmOp {
    let (ops, _) = listed(bytes);
    ops.into_iter().find(|op| op.opcode == name).unwrap()
}

/// Runs the program on a file of these bytes: exit code, standard output and error.
fn run(bytes: &[u8], flags: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.pt");
    std::fs::write(&file, bytes).unwrap();
    run_in(folder.path(), &[&["file.pt"], flags].concat())
}

fn run_in(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    let output = command.arg("disasm").args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn evil() -> Vec<u8> {
    asm![Proto(2), reduce("os", "system", &[text("id")]), Stop]
}

#[test]
fn each_opcode_has_its_place_argument_stack_and_mark() {
    let (ops, error) = listed(asm![Proto(2), Mark, BinInt1(7), PyNone, Tuple, Stop]);
    assert_eq!(error, None);
    let shown: Vec<_> = ops.iter().map(|op| (op.offset, op.opcode, op.stack, op.marks, op.mark)).collect();
    let expected = [
        (0, "PROTO", [0, 0], 0, None),
        (2, "MARK", [0, 0], 0, None),
        (3, "BININT1", [0, 1], 1, None),
        (5, "NONE", [1, 2], 1, None),
        (6, "TUPLE", [2, 1], 1, Some(2)),
        (7, "STOP", [1, 0], 0, None),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn arguments_are_those_of_pickletools() {
    let of = |code: Vec<u8>, name: &str| {
        let op = op(asm![Proto(4), Raw(&code), Stop], name);
        op.arg.as_ref().map(repr).unwrap_or_default()
    };
    assert_eq!(of(asm![Int("01")], "INT"), "True");
    assert_eq!(of(asm![Int("-12")], "INT"), "-12");
    assert_eq!(
        of(asm![Long("340282366920938463463374607431768211456L")], "LONG"),
        "340282366920938463463374607431768211456"
    );
    assert_eq!(of(asm![Long1(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0])], "LONG1"), "9223372036854775808");
    assert_eq!(of(asm![Float("1e3")], "FLOAT"), "1000.0");
    assert_eq!(of(asm![BinFloat(-0.5)], "BINFLOAT"), "-0.5");
    assert_eq!(of(asm![Quoted(b"'a\\x41\\n'")], "STRING"), r"'aA\n'");
    assert_eq!(of(asm![ShortBinString(b"\xe9")], "SHORT_BINSTRING"), "'é'");
    assert_eq!(of(asm![Unicode(b"\\u00e9'")], "UNICODE"), "\"é'\"");
    assert_eq!(of(asm![ShortBinBytes(b"\0a")], "SHORT_BINBYTES"), r"b'\x00a'");
    assert_eq!(of(asm![ByteArray8(b"a")], "BYTEARRAY8"), "bytearray(b'a')");
    assert_eq!(of(asm![Global("a.b", "c")], "GLOBAL"), "'a.b c'");
    assert_eq!(of(asm![PersId("12")], "PERSID"), "'12'");
    assert_eq!(of(asm![PyNone, Put("3"), Pop, Get("3")], "GET"), "3");
    assert_eq!(of(asm![Frame(2), PyNone], "FRAME"), "2");
    assert_eq!(
        of(asm![BinUnicode(&"x".repeat(300))], "BINUNICODE"),
        format!("'{}'... (300 bytes)", "x".repeat(100))
    );
    assert_eq!(of(asm![BinBytes(&[1; 5000])], "BINBYTES").matches("\\x01").count(), 100);
}

#[test]
fn the_memo_says_what_it_stored_and_what_it_gives() {
    let bytes = asm![Proto(2), global("a", "b"), BinPut(5), text("t"), BinPut(6), BinGet(5), BinGet(6), Stop];
    let memo = |bytes, name| op(bytes, name).memo.map(|memo| (memo.key, memo.stored, memo.object));
    assert_eq!(memo(bytes.clone(), "BINPUT"), Some((5, true, "a.b".to_owned())));
    assert_eq!(memo(bytes, "BINGET"), Some((5, false, "a.b".to_owned())));
    let memoized = asm![Proto(4), EmptyList, Memoize, text("t"), Memoize, Stop];
    let (ops, _) = listed(memoized);
    let keys: Vec<u64> = ops.iter().filter_map(|op| op.memo.as_ref().map(|memo| memo.key)).collect();
    assert_eq!(keys, [0, 1]);
}

#[test]
fn names_and_calls_carry_their_verdicts() {
    let name = |bytes, opcode| {
        let op = op(bytes, opcode);
        op.call.or(op.global).map(|name| (name.name, name.verdict.unwrap_or("none")))
    };
    let named = |name: &str, verdict| Some((name.to_owned(), verdict));
    assert_eq!(name(evil(), "GLOBAL"), named("os.system", "dangerous"));
    assert_eq!(name(evil(), "REDUCE"), named("os.system(\"id\")", "dangerous"));
    let stacked =
        asm![Proto(4), text("collections"), text("OrderedDict"), StackGlobal, EmptyTuple, Reduce, Stop];
    assert_eq!(name(stacked, "STACK_GLOBAL"), named("collections.OrderedDict", "allowed"));
    // Python 2's name, and a call of a call's result.
    let old =
        asm![Proto(2), reduce("__builtin__", "getattr", &[text("a"), text("b")]), EmptyTuple, Reduce, Stop];
    assert_eq!(name(old.clone(), "GLOBAL"), named("builtins.getattr", "dangerous"));
    let (ops, _) = listed(old);
    let last = ops.iter().rev().find_map(|op| op.call.clone()).unwrap();
    assert_eq!(last.verdict, Some("dangerous"));
    assert_eq!(name(asm![Mark, text("x"), Inst("m", "C"), Stop], "INST"), named("m.C(\"x\")", "unknown"));
}

#[test]
fn a_broken_pickle_is_shown_up_to_the_error() {
    let broken = asm![Proto(2), reduce("os", "system", &[text("id")]), Reduce, Stop];
    let (ops, error) = listed(broken.clone());
    assert_eq!(ops.last().map(|op| op.opcode), Some("REDUCE"));
    assert!(error.unwrap().contains("stack underflow"));
    let (code, out, err) = run(&broken, &[]);
    assert_eq!(code, 3);
    assert!(out.contains("os.system(\"id\")  dangerous") && err.contains("stack underflow"), "{out}{err}");
    // What cannot be decoded is only told.
    let (ops, error) = listed(asm![Proto(2), reduce("os", "system", &[text("id")]), Raw(b"\xff")]);
    assert_eq!(ops.last().map(|op| op.opcode), Some("REDUCE"));
    assert!(error.unwrap().contains("0xff is no pickle opcode"));
    let (code, out, _) = run(&asm![Proto(2), global("os", "system")], &["--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 3);
    assert_eq!(document["pickles"][0]["complete"], false);
    assert_eq!(document["pickles"][0]["ops"][1]["global"]["verdict"], "dangerous");
    schema::check(&schema::document("disasm"), &document);
}

#[test]
fn nothing_refuses_and_further_pickles_are_listed() {
    let stacked = [evil(), vec![0; 5], b"junk".to_vec(), evil()].concat();
    let found = found(stacked);
    let starts: Vec<_> = found.found.iter().map(|pickle| pickle.span.start()).collect();
    let first = u64::try_from(evil().len()).unwrap();
    assert_eq!(starts, [0, first + 9]);
    assert!(found.error.is_none());
    // Any text holds a few bytes that are a complete pickle: a tuple and its end.
    let text = [evil(), b"f(x, ). g(N.".to_vec()].concat();
    assert_eq!(self::found(text).found.len(), 1);
}

#[test]
fn anomalies_stand_where_they_occur() {
    let op = op(asm![Proto(2), Int("0x10"), Stop], "INT");
    assert!(op.anomaly.unwrap().contains("readers disagree"));
}

#[test]
fn text_is_escaped_and_deep_marks_do_not_widen_the_page() {
    let name = "a\u{1b}[2J\u{202e}";
    let (code, out, _) = run(&asm![Proto(2), global(name, "b"), Stop], &[]);
    assert_eq!(code, 0);
    assert!(!out.contains(['\u{1b}', '\u{202e}']), "{out}");
    let marks = asm![Proto(2), Raw(&b"(".repeat(20_000)), PyNone, Raw(&b"t".repeat(20_000)), Stop];
    let (code, out, _) = run(&marks, &[]);
    assert_eq!(code, 0);
    assert!(out.lines().all(|line| line.len() < 500) && out.lines().count() > 40_000);
}

#[test]
fn joblib_arrays_are_passed_over() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/arrays/");
    let (code, out, _) = run_in(Path::new(file), &["raw.joblib", "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0, "{out}");
    let ops = document["pickles"][0]["ops"].as_array().unwrap();
    // A pickle of its own stands between the opcodes.
    assert_eq!(ops.iter().filter(|op| op["opcode"] == "STOP").count(), 2, "{out}");
    let (_, out, _) = run_in(Path::new(file), &["raw.joblib"]);
    assert!(out.contains(" bytes of an array"), "{out}");
}

#[test]
fn every_fixture_is_listed_and_fits_the_schema() {
    let schema = schema::document("disasm");
    let mut files = Vec::new();
    for folder in ["torch", "arrays", "torch-1.4-py2"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
        files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.is_file());
    let mut listed = 0;
    for file in files {
        let (code, out, err) = run_in(Path::new("."), &[file.to_str().unwrap(), "--json"]);
        let document: Value =
            serde_json::from_str(&out).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        schema::check(&schema, &document);
        assert_eq!(document["exit"], code, "{}", file.display());
        let empty = document["pickles"].as_array().unwrap().is_empty();
        assert!(code == 0 || code == 3 && !err.is_empty(), "{}: {err}", file.display());
        listed += usize::from(!empty);
    }
    assert!(listed > 100, "{listed}");
}

#[test]
fn usage_and_environment() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_in(folder.path(), &["."]).0, 2);
    assert_eq!(run_in(folder.path(), &["nowhere.pt"]).0, 4);
    std::fs::write(folder.path().join("words.txt"), "just words\n").unwrap();
    let (code, out, err) = run_in(folder.path(), &["words.txt"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("not recognised"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_listing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.pkl");
    std::fs::write(&file, asm![Proto(2), Raw(&b"N0".repeat(3_000_000)), PyNone, Stop]).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_depickle"))
        .args(["disasm", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("1 pickle"), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
