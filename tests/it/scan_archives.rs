//! What scans say of archives and other containers.

use crate::asm::*;
use crate::support::{accounted, found, scan, scan_deep, verdict};
use crate::zips::{Descriptor, Entry, Zip, padding, torch_entries};
use Op::*;
use depickle::report::{Coverage, FileVerdict};

fn evil() -> Vec<u8> {
    pickle(&reduce("os", "system", &[text("id")]))
}

/// One vector of four floats.
fn honest() -> Vec<Entry> {
    torch_entries(&pickle(&dict(&[("w", tensor("0", 4))])), &[("0", vec![0; 16])])
}

fn elf() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(4096, 0);
    file[52] = 64;
    file
}

#[test]
fn an_honest_archive_is_clean() {
    let file = scan(&Zip::of(honest()).bytes());
    assert_eq!(
        (file.verdict, file.coverage),
        (FileVerdict::Clean, Coverage::Complete),
        "{:?}",
        file.findings
    );
    assert!(file.findings.is_empty());
    assert_eq!(file.container, "torch-zip");
}

#[test]
fn pickles_under_any_name() {
    // CVE-2025-1889, CVE-2025-10155
    for name in ["m/extra/notes.txt", "m/data.json", "other", "m/version.bak"] {
        let mut entries = honest();
        entries.push(Entry::deflated(name, &evil()));
        let file = scan(&Zip::of(entries).bytes());
        assert!(
            found(&file, "dangerous-call") && found(&file, "unknown-member"),
            "{name}: {:?}",
            file.findings
        );
        assert_eq!(file.findings[0].entry.as_deref(), Some(name));
    }
}

#[test]
fn archives_that_readers_take_differently() {
    // CVE-2025-1944, CVE-2025-1945, CVE-2025-10156
    let flags = Entry::plain("m/data.pkl", &evil()).local(|header| header.flags |= 0x40);
    let encrypted = Entry::plain("m/data.pkl", &evil()).both(|header| header.flags |= 1);
    let method = Entry::plain("m/data.pkl", &evil()).local(|header| header.method = 8);
    let renamed =
        Entry::plain("m/data.pkl", &evil()).local(|header| header.name = Some(b"m/data.pk1".to_vec()));
    let checksum = Entry::plain("m/data.pkl", &evil()).both(|header| header.crc ^= 1);
    let lying = Entry::torch("m/data.pkl", &evil()).with(|entry| entry.descriptor = Descriptor::Lying(1, 1));
    for (what, entry) in [
        ("flags", flags),
        ("encrypted", encrypted),
        ("method", method),
        ("name", renamed),
        ("crc", checksum),
        ("descriptor", lying),
    ] {
        let file = scan(&Zip::of(vec![entry]).bytes());
        assert_eq!(file.verdict, FileVerdict::Dangerous, "{what}: {:?}", file.findings);
    }
}

#[test]
fn every_copy_of_a_doubled_name() {
    for other in ["m/data.pkl", "m/DATA.PKL"] {
        for first in [true, false] {
            let mut entries = honest();
            entries.insert(if first { 0 } else { 2 }, Entry::plain(other, &evil()));
            let file = scan(&Zip::of(entries).bytes());
            assert_eq!(file.verdict, FileVerdict::Dangerous, "{other}: {:?}", file.findings);
            assert!(found(&file, "archive-readings"));
        }
    }
}

#[test]
fn joined_archives_and_foreign_bytes_around_them() {
    let (one, other) =
        (Zip::of(honest()).bytes(), Zip::of(vec![Entry::plain("m/data.pkl", &evil())]).bytes());
    for (what, bytes) in [
        ("evil first", [other.clone(), one.clone()].concat()),
        ("evil last", [one.clone(), other.clone()].concat()),
        ("pickle in front", [evil(), one.clone()].concat()),
        ("pickle behind", [one.clone(), evil()].concat()),
        ("archive behind a pickle", [pickle(&asm![EmptyDict]), other].concat()),
    ] {
        let file = scan(&bytes);
        assert_eq!(file.verdict, FileVerdict::Dangerous, "{what}: {:?}", file.findings);
    }
    assert_ne!(verdict(&[b"junk".to_vec(), one].concat()), FileVerdict::Clean);
}

/// What `torch.save` writes of one object to a stream.
fn entry(object: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries = torch_entries(&pickle(object), storages);
    for entry in &mut entries {
        entry.name.splice(..1, *b"archive");
    }
    Zip::of(entries).bytes()
}

#[test]
fn entries_of_a_distributed_checkpoint_are_scanned_one_by_one() {
    let floats = |n: u8| entry(&tensor("0", 4), &[("0", vec![n; 16])]);
    let object = |object: &[u8]| entry(object, &[]);
    let evil_object = object(&reduce("os", "system", &[text("id")]));
    for honest in [
        [floats(0), floats(1)].concat(),
        [object(&int(3)), floats(2), object(&dict(&[("lr", int(1))]))].concat(),
        [object(&int(3)), object(&int(4))].concat(),
    ] {
        let file = scan(&honest);
        assert_eq!(file.verdict, FileVerdict::Clean, "{:?}", file.findings);
        assert_eq!((file.container.as_str(), accounted(&file)), ("dcp", file.size));
        assert!(!found(&file, "hidden-member"));
    }
    for at in 0..3 {
        let mut entries = [floats(0), floats(1), floats(2)];
        let start: usize = entries[..at].iter().map(Vec::len).sum();
        entries[at] = evil_object.clone();
        let file = scan(&entries.concat());
        assert_eq!(file.verdict, FileVerdict::Dangerous);
        let place = Some(format!("{start:#x}!archive/data.pkl"));
        assert_eq!((file.container.as_str(), &file.findings[0].entry), ("dcp", &place));
    }
}

#[test]
fn what_only_looks_like_a_distributed_checkpoint_is_suspicious() {
    let floats = |n: u8| entry(&tensor("0", 4), &[("0", vec![n; 16])]);
    let model = |n: u8| entry(&dict(&[("w", tensor("0", 4))]), &[("0", vec![n; 16])]);
    let other = Zip::of(honest()).bytes();
    let stray = |bytes: &[u8]| [floats(0), bytes.to_vec(), floats(1)].concat();
    for (what, bytes) in [
        // Which of the two is loaded matters, and readers disagree.
        ("two models", [model(0), model(1)].concat()),
        ("an archive with a name of its own", [floats(0), other].concat()),
        ("bytes between", stray(b"x")),
        ("bytes behind", [floats(0), floats(1), b"x".to_vec()].concat()),
        ("bytes in front", [b"x".to_vec(), floats(0), floats(1)].concat()),
        ("an archive that is cut off", [floats(0), floats(1)[..200].to_vec(), floats(2)].concat()),
    ] {
        assert_ne!(verdict(&bytes), FileVerdict::Clean, "{what}");
    }
    // A reader that takes offsets as they stand finds the directory in the weights of the first archive.
    let last = floats(1);
    let directory = last.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let first = entry(&tensor("0", 256), &[("0", vec![0; 1024])]);
    let weights = first.windows(1024).position(|window| window == [0; 1024]).unwrap();
    assert!(weights < directory && directory < weights + 1024);
    let mut weights_with_directory = vec![0; 1024];
    weights_with_directory[directory - weights..][..4].copy_from_slice(b"PK\x01\x02");
    let hiding = entry(&tensor("0", 256), &[("0", weights_with_directory)]);
    assert_eq!(verdict(&[first, last.clone()].concat()), FileVerdict::Clean);
    assert_ne!(verdict(&[hiding, last].concat()), FileVerdict::Clean);
}

#[test]
fn bytes_where_none_belong() {
    let gap = Entry::torch("m/x", b"1").with(|entry| entry.gap = evil());
    let hidden = Entry::deflated("m/hidden.pkl", &evil()).with(|entry| entry.hidden = true);
    let comment = Entry::plain("m/x", b"1").with(|entry| entry.comment = b"a note".to_vec());
    let extra = Entry::plain("m/x", b"1")
        .local(|header| header.extra = [b"XX\x04\0".to_vec(), b"data".to_vec()].concat());
    for (what, entry, rule) in [
        ("gap", gap, "embedded-pickle"),
        ("hidden", hidden, "hidden-member"),
        ("comment", comment, "stray-bytes"),
        ("extra", extra, "stray-bytes"),
    ] {
        let mut entries = honest();
        entries.insert(1, entry);
        let file = scan(&Zip::of(entries).bytes());
        assert!(found(&file, rule) && file.verdict >= FileVerdict::Suspicious, "{what}: {:?}", file.findings);
    }
    let commented = Zip::of(honest()).with(|zip| zip.comment = b"hello".to_vec()).bytes();
    assert!(found(&scan(&commented), "stray-bytes"));
    let mut padded = honest();
    padded[0].local.extra = padding(40);
    assert_eq!(verdict(&Zip::of(padded).bytes()), FileVerdict::Clean);
}

#[test]
fn members_that_lead_outside() {
    let climbing = Zip::of(vec![Entry::plain("../../m/data.pkl", &pickle(&asm![EmptyDict]))]).bytes();
    assert!(found(&scan(&climbing), "unsafe-member"));
}

#[test]
fn archives_in_archives_up_to_a_depth() {
    let mut bytes = evil();
    for i in 0..4 {
        bytes = Zip::of(vec![Entry::deflated(&format!("{i}.bin"), &bytes)]).bytes();
        let file = scan(&bytes);
        assert_eq!(file.verdict, FileVerdict::Dangerous, "{i}");
    }
    assert_eq!(scan(&bytes).findings[0].entry.as_deref(), Some("3.bin!2.bin!1.bin!0.bin"));
    for i in 0..10 {
        bytes = Zip::of(vec![Entry::plain(&i.to_string(), &bytes)]).bytes();
    }
    let deep = scan(&bytes);
    assert!(found(&deep, "limit-met") && deep.verdict == FileVerdict::Malformed, "{:?}", deep.findings);
}

#[test]
fn compressed_streams_also_cut_off() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&[evil(), vec![7; 5000]].concat()).unwrap();
    let whole = encoder.finish().unwrap();
    assert_eq!(verdict(&whole), FileVerdict::Dangerous);
    let cut = scan(&whole[..whole.len() - 9]);
    assert_eq!(
        (cut.verdict, cut.coverage),
        (FileVerdict::Dangerous, Coverage::Partial),
        "{:?}",
        cut.findings
    );
    let seven = scan(b"7z\xbc\xaf\x27\x1c\0\x04rest of it");
    assert_eq!((seven.verdict, seven.coverage), (FileVerdict::Unsupported, Coverage::None));
    assert!(found(&seven, "unsupported-format"));
    let broken = scan(&whole[..whole.len() / 2]);
    assert!(found(&broken, "broken-container"), "{:?}", broken.findings);
}

#[test]
fn weights_that_are_something_else() {
    let with = |data: Vec<u8>| {
        let pickle = pickle(&dict(&[("w", tensor("0", (data.len() / 4) as i64))]));
        Zip::of(torch_entries(&pickle, &[("0", data)])).bytes()
    };
    assert!(found(&scan(&with(elf())), "embedded-signature"));
    let mut hidden = evil();
    hidden.resize(64, 0);
    assert!(found(&scan(&with(hidden.clone())), "embedded-pickle"));
    let later = with([vec![1; 100_000], hidden].concat());
    assert_eq!(verdict(&later), FileVerdict::Clean);
    assert!(found(&scan_deep(&later), "embedded-pickle"));
    // Bytes that begin as a pickle does are weights all the same.
    assert_eq!(verdict(&with([b"\x80\x02cos\n".to_vec(), vec![0xee; 58]].concat())), FileVerdict::Clean);
}

#[test]
fn bytes_that_no_tensor_shows() {
    let shown = pickle(&dict(&[("w", tensor("0", 4))]));
    let note = scan(&Zip::of(torch_entries(&shown, &[("0", vec![3; 32])])).bytes());
    assert!(found(&note, "unshown-storage") && note.verdict == FileVerdict::Clean, "{:?}", note.findings);
    let mut tail = vec![3; 16];
    tail.extend(evil());
    assert!(found(&scan(&Zip::of(torch_entries(&shown, &[("0", tail)])).bytes()), "embedded-pickle"));
    let unused = Zip::of(torch_entries(&shown, &[("0", vec![3; 16]), ("1", elf())])).bytes();
    assert!(found(&scan(&unused), "embedded-signature"));
}

#[test]
fn booleans_and_names() {
    let flags = tensor_of(&storage("BoolStorage", "0", 4), 0, &[4], &[1]);
    let with = |data: &[u8]| {
        Zip::of(torch_entries(&pickle(&dict(&[("f", flags.clone())])), &[("0", data.to_vec())])).bytes()
    };
    assert_eq!(verdict(&with(&[0, 1, 1, 0])), FileVerdict::Clean);
    assert!(found(&scan(&with(&[0, 1, 2, 0])), "bool-values"));
    for name in ["a\0b", "gpj\u{202e}.w", "__metadata__"] {
        let named = pickle(&dict(&[(name, tensor("0", 4))]));
        assert!(found(&scan(&Zip::of(torch_entries(&named, &[("0", vec![0; 16])])).bytes()), "tensor-name"));
    }
}

#[test]
fn records_of_torch_with_other_content() {
    let mut entries = honest();
    entries.push(Entry::torch("m/.data/serialization_id", &evil()));
    let file = scan(&Zip::of(entries).bytes());
    assert!(found(&file, "unknown-member") && found(&file, "embedded-pickle"), "{:?}", file.findings);
}

#[test]
fn checkpoints_that_could_not_be_loaded() {
    let missing = Zip::of(torch_entries(&pickle(&tensor("7", 4)), &[("0", vec![0; 16])])).bytes();
    let outside = pickle(&tensor_of(&storage("FloatStorage", "0", 4), 3, &[4], &[1]));
    let outside = Zip::of(torch_entries(&outside, &[("0", vec![0; 16])])).bytes();
    for bytes in [missing, outside] {
        let file = scan(&bytes);
        assert_eq!(
            (file.verdict, file.coverage),
            (FileVerdict::Malformed, Coverage::Partial),
            "{:?}",
            file.findings
        );
        assert!(found(&file, "broken-checkpoint"), "{:?}", file.findings);
    }
    // An id of another kind than torch writes.
    let id = asm![
        tuple(&[text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), int(4)]),
        BinPersId
    ];
    assert!(found(
        &scan(&Zip::of(torch_entries(&pickle(&id), &[("0", vec![0; 16])])).bytes()),
        "persistent-id"
    ));
}

#[test]
fn arrays_of_numpy() {
    let npy = |descr: &str, data: &[u8]| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
        header.push_str(&" ".repeat(117 - header.len()));
        header.push('\n');
        [b"\x93NUMPY\x01\0\x76\0", header.as_bytes(), data].concat()
    };
    assert_eq!(verdict(&npy("<f4", &[0; 8])), FileVerdict::Clean);
    let trailing = scan(&npy("<f4", &[vec![0; 8], evil()].concat()));
    assert!(
        found(&trailing, "trailing-data") && found(&trailing, "dangerous-call"),
        "{:?}",
        trailing.findings
    );
    assert_eq!(verdict(&npy("|O", &evil())), FileVerdict::Dangerous);
    let npz = Zip::of(vec![Entry::deflated("a.npy", &npy("|O", &evil()))]).bytes();
    assert_eq!(verdict(&npz), FileVerdict::Dangerous);
}

#[test]
fn files_of_other_kinds() {
    let png = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![9; 300], evil()].concat();
    assert!(found(&scan(&png), "embedded-pickle"));
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let safetensors = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    assert_eq!(verdict(&safetensors), FileVerdict::Clean);
    assert!(found(&scan(&[&safetensors[..], &evil()].concat()), "trailing-data"));
    let index = br#"{"metadata": {}, "weight_map": {"w": "../../etc/passwd"}}"#;
    assert!(found(&scan(index), "index-path"));
}

#[test]
fn source_text_in_packages_of_torch() {
    let package = std::fs::read(crate::cli::fixture("containers/package.pt")).unwrap();
    assert!(found(&scan(&package), "package-code"));
}

/// A rule that no test names is one that nobody has seen work.
#[test]
fn every_rule_is_named_by_a_test() {
    let tests =
        [include_str!("scan_archives.rs"), include_str!("scan_pickles.rs"), include_str!("abuses.rs")];
    for rule in depickle::scan::RULES {
        let named = format!("\"{}\"", rule.id);
        assert!(tests.iter().any(|test| test.contains(&named)), "{named}");
    }
}

#[test]
fn pickles_in_json_that_the_loader_of_the_archive_loads() {
    // Stable-Baselines3: `{"policy_class": {":type:": …, ":serialized:": base64}}`.
    let member = |pickle: &str| {
        let json =
            format!("{{\"learning_rate\": 1e-3, \"lr_schedule\": {{\":serialized:\": \"{pickle}\"}}}}");
        let mut zip = Zip::of(vec![Entry::plain("data", json.as_bytes())]);
        zip.entries.push(Entry::plain("policy.pth", &Zip::of(honest()).bytes()));
        scan(&zip.bytes())
    };
    let evil = member("gAJjb3MKc3lzdGVtCihYAgAAAGlkdFIu");
    assert!(found(&evil, "dangerous-call"), "{:?}", evil.findings);
    let plain = member("gASVBAAAAAAAAABdlEsBYS4=");
    assert_eq!(plain.verdict, FileVerdict::Clean, "{:?}", plain.findings);
}
