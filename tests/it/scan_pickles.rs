//! What scans say of pickles: each rule with an attack that it is for, under its advisory's number where there is one.

use crate::asm::*;
use crate::support::{found, scan, scanned_as, verdict};
use Op::*;
use depickle::report::{Coverage, FileVerdict};

const ID: &[u8] = b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR.";

fn call(module: &str, name: &str) -> Vec<u8> {
    pickle(&reduce(module, name, &[text("id")]))
}

#[test]
fn calls_of_what_can_hurt() {
    // CVE-2025-1716, CVE-2025-10157, CVE-2026-22608, GHSA-vvpj-8cmc-gx39, GHSA-g38g-8gr9-h9xp, and py2 names.
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("pip", "main"),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
        ("ctypes", "CDLL"),
        ("pydoc", "pipepager"),
        ("pkgutil", "resolve_name"),
        ("imaplib", "IMAP4_stream"),
        ("commands", "getoutput"),
        ("__builtin__", "execfile"),
        ("urllib2", "urlopen"),
        ("torch.jit.unsupported_tensor_ops", "execWrapper"),
        ("numpy.testing._private.utils", "runstring"),
        // One function by its names in several versions and copies of a library.
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "fromfile"),
        ("srsly.cloudpickle", "loads"),
        ("torch._numpy.testing.utils", "runstring"),
    ] {
        let file = scan(&call(module, name));
        assert_eq!(file.verdict, FileVerdict::Dangerous, "{module}.{name}");
        assert!(found(&file, "dangerous-call"), "{module}.{name}: {:?}", file.findings);
        assert_eq!(file.coverage, Coverage::Complete);
    }
}

#[test]
fn a_finding_says_what_would_run_and_where() {
    let file = scan(ID);
    let finding = &file.findings[0];
    assert_eq!((finding.rule, finding.offset), ("dangerous-call", Some(22)));
    assert!(finding.message.starts_with("os.system(\"id\")"), "{}", finding.message);
    assert_eq!(finding.global.as_deref(), Some("os.system"));
}

#[test]
fn what_is_called_by_other_opcodes_or_thrown_away() {
    // GHSA-mxhj-88fx-4pcv: OBJ followed by POP.
    let popped = asm![Mark, Global("os", "system"), text("id"), Obj, Pop, EmptyDict, Stop];
    let inst = asm![Mark, text("id"), Inst("os", "system"), Stop];
    let new = asm![Proto(2), Global("subprocess", "Popen"), tuple(&[text("id")]), NewObj, Stop];
    for bytes in [popped, inst, new] {
        assert_eq!(verdict(&bytes), FileVerdict::Dangerous, "{bytes:?}");
    }
}

#[test]
fn calls_of_results() {
    let getattr = reduce("builtins", "getattr", &[global("mylib", "Box"), text("__globals__")]);
    let file = scan(&pickle(&asm![getattr, EmptyTuple, Reduce]));
    assert!(found(&file, "computed-call"), "{:?}", file.findings);
}

#[test]
fn dotted_names() {
    // GHSA-5j3x-jp52-966f
    for (module, name) in
        [("torch._utils", "_rebuild_tensor_v2.__globals__.get"), ("collections", "_sys.exit")]
    {
        let bytes = asm![
            Proto(4),
            ShortBinUnicode(module),
            ShortBinUnicode(name),
            StackGlobal,
            EmptyTuple,
            Reduce,
            Stop
        ];
        assert_eq!(verdict(&bytes), FileVerdict::Dangerous, "{module}.{name}");
    }
}

#[test]
fn names_that_are_computed() {
    let joined = reduce("builtins", "str", &[text("system")]);
    let bytes = asm![Proto(4), text("os"), joined, StackGlobal, tuple(&[text("id")]), Reduce, Stop];
    assert!(found(&scan(&bytes), "computed-name"));
}

#[test]
fn references_without_a_call() {
    let file = scan(&pickle(&dict(&[("f", global("os", "system"))])));
    assert!(found(&file, "dangerous-name") && file.verdict == FileVerdict::Dangerous);
}

#[test]
fn unknown_calls_are_never_clean() {
    let file = scan(&call("mylib", "make"));
    assert!(found(&file, "unknown-call") && file.verdict == FileVerdict::Suspicious);
    // A constructor of `NEWOBJ`, called by name with what is no class.
    assert!(found(&scan(&call("copyreg", "__newobj__")), "unknown-call"));
}

#[test]
fn imports_that_are_used_for_nothing() {
    assert!(found(&scan(&pickle(&global("__main__", "payload"))), "import-only"));
    let popped = asm![Proto(2), Global("mylib", "Box"), Pop, EmptyDict, Stop];
    assert!(found(&scan(&popped), "import-only"));
    let class = pickle(&dict(&[("policy", global("mylib", "Policy"))]));
    assert_eq!(verdict(&class), FileVerdict::Clean);
}

#[test]
fn code_by_value() {
    let function = reduce("cloudpickle.cloudpickle", "_make_function", &[asm![PyNone], asm![EmptyDict]]);
    let file = scan(&pickle(&function));
    assert!(found(&file, "code-by-value") && file.verdict == FileVerdict::Suspicious, "{:?}", file.findings);
    let called = scan(&pickle(&asm![function, EmptyTuple, Reduce]));
    assert!(found(&called, "computed-call") && called.verdict == FileVerdict::Dangerous);
}

#[test]
fn allowed_callables_with_arguments_that_hurt() {
    let huge = asm![Long1(&(1_u64 << 40).to_le_bytes())];
    let range = reduce("builtins", "range", std::slice::from_ref(&huge));
    for object in [
        reduce("builtins", "bytearray", std::slice::from_ref(&huge)),
        reduce("builtins", "list", &[range]),
        reduce(
            "numpy.core.multiarray",
            "_reconstruct",
            &[global("numpy", "ndarray"), tuple(std::slice::from_ref(&huge)), text("b")],
        ),
    ] {
        assert!(found(&scan(&pickle(&object)), "harmful-arguments"), "{object:?}");
    }
}

#[test]
fn eval_in_the_form_of_paddle_alone() {
    let array =
        reduce("numpy.core.multiarray", "_reconstruct", &[global("numpy", "ndarray"), ints(&[0]), text("b")]);
    let paddle = reduce("builtins", "eval", &[text("data"), dict(&[("data", array)])]);
    let file = scan(&pickle(&paddle));
    assert!(found(&file, "honest-form"), "{:?}", file.findings);
    let other = reduce("builtins", "eval", &[text("data"), dict(&[("data", text("x"))])]);
    assert_eq!(verdict(&pickle(&other)), FileVerdict::Dangerous);
}

#[test]
fn changes_of_classes_and_functions() {
    // pytorch#170085, CVE-2026-24747
    let build = asm![Proto(2), Global("collections", "OrderedDict"), dict(&[("x", int(1))]), Build, Stop];
    let item = asm![Proto(2), Global("torch._utils", "_rebuild_tensor_v2"), text("x"), int(1), SetItem, Stop];
    for bytes in [build, item] {
        assert!(found(&scan(&bytes), "changed-name"), "{bytes:?}");
    }
    let items = asm![Proto(4), EmptyDict, Mark, BinInt1(1), AddItems, Stop];
    assert!(found(&scan(&items), "ambiguous-pickle"));
}

#[test]
fn names_and_data_from_outside_of_the_file() {
    assert!(found(&scan(&asm![Proto(2), Ext1(1), EmptyTuple, Reduce, Stop]), "extension-registry"));
    assert!(found(&scan(&asm![PersId("os.system"), Stop]), "persistent-id"));
    assert!(found(&scan(&asm![Proto(5), NextBuffer, Stop]), "ambiguous-pickle"));
    assert!(found(&scan(&asm![Proto(5), EmptyDict, ReadonlyBuffer, Stop]), "ambiguous-pickle"));
}

#[test]
fn a_pickle_that_is_loaded_with_the_one_that_holds_it() {
    let inner = || asm![ShortBinBytes(ID)];
    let loaded = scan(&pickle(&reduce("torch.storage", "_load_from_bytes", &[inner()])));
    assert!(found(&loaded, "dangerous-call"), "{:?}", loaded.findings);
    let held = scan(&pickle(&inner()));
    assert!(found(&held, "nested-pickle") && !found(&held, "dangerous-call"), "{:?}", held.findings);
}

#[test]
fn pickles_in_strings() {
    let hex = ID.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    for object in [
        asm![BinBytes(ID)],
        text("gAJjb3MKc3lzdGVtCihYAgAAAGlkdFIu"),
        text(&hex),
        text("Z0FKamIzTUtjM2x6ZEdWdENpaFlBZ0FBQUdsa2RGSXU="),
    ] {
        let file = scan(&pickle(&dict(&[("blob", object.clone())])));
        assert!(found(&file, "nested-pickle"), "{object:?}: {:?}", file.findings);
    }
    let plain = scan(&pickle(&asm![BinBytes(&pickle(&text("only data")))]));
    assert_eq!(plain.verdict, FileVerdict::Clean);
}

#[test]
fn what_stands_before_a_break() {
    let file = scan(&[&ID[..ID.len() - 1], b"\xff"].concat());
    assert!(found(&file, "dangerous-call") && found(&file, "broken-pickle"));
    assert_eq!((file.verdict, file.coverage), (FileVerdict::Dangerous, Coverage::Partial));
    let harmless = scan(&asm![Proto(2), EmptyDict, text("cut off")]);
    assert_eq!(harmless.verdict, FileVerdict::Malformed);
}

#[test]
fn what_follows_stop() {
    let honest = pickle(&asm![EmptyDict]);
    for between in [&b""[..], b"\0\0\0\0", b"\xff\xfe\xfd", &vec![0; 70_000]] {
        let file = scan(&[&honest, between, ID].concat());
        assert!(found(&file, "dangerous-call"), "{} bytes between: {:?}", between.len(), file.findings);
    }
    assert!(found(&scan(&[&honest[..], b"\xff\xfe junk"].concat()), "data-after-stop"));
    let padded = scan(&[&honest[..], b"\n \0"].concat());
    assert!(found(&padded, "padding-after-stop") && padded.verdict == FileVerdict::Clean);
    let stacked = scan(&[&honest[..], &honest].concat());
    assert!(found(&stacked, "stacked-pickle") && stacked.verdict == FileVerdict::Clean);
    // Memo entries of the first are none of the second: B07.
    assert_eq!(
        verdict(&[&pickle(&text("x"))[..], &asm![Proto(2), BinGet(0), Stop]].concat()),
        FileVerdict::Suspicious
    );
}

#[test]
fn numbers_and_frames_that_readers_take_differently() {
    // cpython#126992, cpython#154848
    let number = asm![Long("0x10"), Stop];
    let frame = asm![Proto(4), Frame(40), Frame(3), EmptyDict, Stop];
    let newer = asm![Proto(9), EmptyDict, EmptyList, Stop];
    for bytes in [number, frame] {
        assert!(found(&scan(&bytes), "ambiguous-pickle"), "{bytes:?}");
    }
    assert_ne!(verdict(&newer), FileVerdict::Clean);
    assert_eq!(verdict(&[b"\x80\x09", &ID[2..]].concat()), FileVerdict::Dangerous);
    assert!(found(&scan(&asm![PyNone, EmptyDict, Stop]), "odd-pickle"));
}

#[test]
fn bombs() {
    let doubling = (0..70_u8).fold(asm![Proto(2), EmptyList, BinPut(0)], |bytes, i| {
        asm![bytes, Pop, EmptyList, Mark, BinGet(i), BinGet(i), Appends, BinPut(i + 1)]
    });
    let deep = [vec![b')'; 1], vec![0x85; 20_000], b".".to_vec()].concat();
    let gap = asm![Proto(2), EmptyDict, LongBinPut(0x7fff_ffff), Stop];
    let number = asm![Proto(2), Long4(&vec![1; 70_000]), Stop];
    for (what, bytes) in
        [("doubling", asm![doubling, Stop]), ("deep", deep), ("gap", gap), ("number", number)]
    {
        assert!(found(&scan(&bytes), "pickle-bomb"), "{what}");
    }
    // The nodes of a graph know their neighbours, twice over; nobody walks them as a tree.
    let known = (0..70_u8).fold(asm![Proto(2), EmptyDict, BinPut(0)], |bytes, i| {
        let node = asm![global("mylib", "Node"), EmptyTuple, NewObj];
        asm![bytes, Pop, node, BinGet(i), BinGet(i), Tuple2, Build, BinPut(i + 1)]
    });
    assert!(!found(&scan(&asm![known, Stop]), "pickle-bomb"));
}

#[test]
fn text_that_only_looks_like_a_pickle() {
    for text in [
        &b"certifi\ncharset\nidna\n"[..],
        b"(c) 2024 the authors\n",
        b"import os\nos.system('id')\n",
        b"{\"a\": 1}",
        b"",
    ] {
        assert_eq!(verdict(text), FileVerdict::NotApplicable, "{text:?}");
    }
}

#[test]
fn modules_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    std::fs::write(&path, pickle(&ordered_dict(&[]))).unwrap();
    assert_eq!(scanned_as(&path).verdict, FileVerdict::Clean);
    std::fs::write(folder.path().join("collections.py"), "").unwrap();
    assert!(found(&scanned_as(&path), "shadowing-module"));
    std::fs::remove_file(folder.path().join("collections.py")).unwrap();
    std::fs::create_dir(folder.path().join("collections")).unwrap();
    assert_eq!(scanned_as(&path).verdict, FileVerdict::Clean);
    std::fs::write(folder.path().join("collections/abc.py"), "").unwrap();
    assert!(found(&scanned_as(&path), "shadowing-module"));
}
