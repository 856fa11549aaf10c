//! Scans of honest files, of damaged ones, and of ones that are made to hurt: they end, soon, without a panic, account for every
//! byte, and see at least what a conversion sees.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use depickle::bytes::ReadAt;
use depickle::checkpoint::{OpenOptions, open};
use depickle::report::{FileVerdict, Scanned, ScannedFile, Severity};
use depickle::scan::{Options, scan, scan_source};

use crate::convert_fixtures::fixtures;
use crate::fixtures_names::folder;
use crate::mutate::{Random, limits, mutate, seeds};
use crate::schema;
use crate::support::accounted;

/// Scans of mutated files.
const MUTATIONS: usize = 4_000;

fn checked(what: &str, bytes: Vec<u8>) -> ScannedFile {
    let start = Instant::now();
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let options = Options { limits: limits(), ..Options::default() };
    let file = scan_source(&source, what, None, &options).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{what}: took {:?}", start.elapsed());
    assert_eq!(accounted(&file), source.size(), "{what}: {:?}", file.accounting);
    file
}

#[test]
fn every_fixture_is_scanned_without_alarm_and_seen_as_a_conversion_sees_it() {
    let mut files = Vec::new();
    for (name, fixture) in fixtures() {
        let path = folder().join(&name);
        let file = scan(&path, &Options { digest: true, ..Options::default() }).unwrap();
        // A fixture that needs `--inert` calls what is in no table.
        if fixture["exit"].as_u64() == Some(3) && file.verdict != FileVerdict::Clean {
            continue;
        }
        let unknown = fixture["args"].is_array();
        let alarms = file.findings.iter().filter(|finding| finding.severity > Severity::Note);
        let odd = name.ends_with("_names.pt");
        let expected = |rule: &str| match rule {
            "code-by-value" | "package-code" => true,
            "unknown-call" => unknown,
            "tensor-name" => odd,
            _ => false,
        };
        for finding in alarms {
            assert!(expected(finding.rule), "{name}: {finding:?}");
        }
        let source: Arc<dyn ReadAt> = Arc::new(std::fs::read(&path).unwrap());
        let options = OpenOptions {
            overrides: crate::convert_fixtures::overrides(&fixture),
            siblings: path.parent().map(Into::into),
            skip_unresolved: true,
            ..OpenOptions::default()
        };
        if let Ok(opened) = open(&source, &options) {
            let seen: BTreeSet<&str> =
                file.pickles.iter().flat_map(|pickle| &pickle.globals).map(|global| &*global.name).collect();
            for global in opened.files[0].pickles.iter().flat_map(|pickle| &pickle.globals) {
                assert!(seen.contains(&*global.name), "{name}: {}", global.name);
            }
        }
        files.push(file);
    }
    assert!(files.len() > 50, "the fixtures are missing");
    let document = Scanned::new(files, Vec::new());
    let again = serde_json::to_string(&document).unwrap();
    assert_eq!(again, serde_json::to_string(&document).unwrap());
    schema::check(&schema::document("scan"), &serde_json::to_value(&document).unwrap());
}

#[test]
fn cut_at_any_byte_a_file_is_not_clean_or_its_rest_is_no_model() {
    let small = seeds().into_iter().filter(|(_, bytes)| bytes.len() < 1_200);
    for (name, bytes) in small.take(12) {
        for end in 0..bytes.len() {
            checked(&format!("{name} up to {end}"), bytes[..end].to_vec());
        }
    }
}

#[test]
fn whatever_is_done_to_bytes_a_scan_ends_and_accounts_for_them() {
    let seeds = seeds();
    let mut random = Random::new(7);
    for _ in 0..MUTATIONS {
        let (name, bytes) = &seeds[random.below(seeds.len())];
        let mut bytes = bytes.clone();
        mutate(&mut random, &seeds, &mut bytes);
        checked(name, bytes);
    }
}

#[test]
fn a_payload_is_seen_whatever_is_broken_behind_it() {
    let payload = b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR";
    let mut random = Random::new(11);
    for _ in 0..500 {
        let tail: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        let file = checked("payload", [&payload[..], &tail].concat());
        assert_eq!(file.verdict, FileVerdict::Dangerous, "{tail:?}");
    }
}
