//! Abuses of the threat model that no other file here is about.

use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{Error, OpenOptions, open};
use depickle::container;
use depickle::limits::{LimitKind, Limits};
use depickle::policy::{Overrides, Verdict};

use crate::asm::*;
use crate::zips::{Entry, Zip, torch_entries};
use Op::*;

fn opened(bytes: Vec<u8>, options: &OpenOptions) -> Result<depickle::checkpoint::Opened, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    open(&source, options)
}

fn refused(bytes: Vec<u8>) -> Vec<String> {
    match opened(bytes, &OpenOptions::default()) {
        Err(Error::Refused { uses }) => uses.into_iter().map(|refused| refused.used.name).collect(),
        other => panic!("{other:?}"),
    }
}

fn evil() -> Vec<u8> {
    pickle(&reduce("os", "system", &[text("id")]))
}

/// 8. Behind the first pickle, behind padding, in another member.
#[test]
fn further_pickles_are_judged_like_the_first() {
    let honest = pickle(&dict(&[("a", int(1))]));
    for between in [&b""[..], &[0; 5000]] {
        assert_eq!(refused([&honest, between, &evil()].concat()), ["os.system"]);
    }
    let mut entries = torch_entries(&pickle(&tensor("0", 4)), &[("0", vec![0; 16])]);
    entries.push(Entry::torch("m/more.bin", &evil()));
    assert_eq!(refused(Zip::of(entries).bytes()), ["os.system"]);
}

/// 10. Functions of cloudpickle are data; calling one is not.
#[test]
fn code_carried_by_value_is_data_until_it_is_called() {
    let function = reduce("cloudpickle.cloudpickle", "_make_function", &[asm![PyNone], asm![EmptyDict]]);
    let kept = opened(pickle(&dict(&[("f", function.clone())])), &OpenOptions::default()).unwrap();
    let globals = &kept.files[0].pickles[0].globals;
    assert!(globals.iter().all(|global| global.verdict == Verdict::Inert), "{globals:?}");
    assert_eq!(refused(pickle(&asm![function, EmptyTuple, Reduce])), ["(the result of a call)"]);
}

/// 11. `--inert` keeps a call as data, and `--inert unknown` never a dangerous one.
#[test]
fn what_the_user_keeps_is_data() {
    let with = |names: &[&str], unknown| OpenOptions {
        overrides: Overrides {
            names: names.iter().map(ToString::to_string).collect(),
            unknown,
            denied: Vec::new(),
        },
        ..OpenOptions::default()
    };
    assert!(opened(evil(), &with(&["os.system"], false)).is_ok());
    assert!(matches!(opened(evil(), &with(&["os.syste"], false)), Err(Error::Refused { .. })));
    assert!(matches!(opened(evil(), &with(&[], true)), Err(Error::Refused { .. })));
}

/// 28. A legacy stream whose parts are not what they have to be.
#[test]
fn parts_of_a_legacy_stream() {
    let magic = asm![Proto(2), Long1(&container::LEGACY_MAGIC), Stop];
    let protocol = pickle(&asm![BinInt2(1001)]);
    let (dictionary, list) = (pickle(&asm![EmptyDict]), pickle(&asm![EmptyList]));
    let whole = [&magic[..], &protocol, &dictionary, &dictionary, &list].concat();
    assert!(opened(whole, &OpenOptions::default()).is_ok());
    for (what, parts) in [
        ("protocol version", [&magic[..], &pickle(&asm![BinInt2(1002)]), &dictionary, &dictionary, &list]),
        ("system info", [&magic[..], &protocol, &list, &dictionary, &list]),
        ("list of storages", [&magic[..], &protocol, &dictionary, &dictionary, &dictionary]),
    ] {
        let error = opened(parts.concat(), &OpenOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Legacy { part, .. } if part == what), "{what}: {error}");
    }
}

/// 38, 40. Members that inflate to more than they may, and more of them than there may be.
#[test]
fn sizes_and_numbers_of_members() {
    let limit = |error: Error| match error {
        Error::Container(container::Error { kind: container::ErrorKind::Limit(limit), .. }) => limit.kind,
        other => panic!("{other}"),
    };
    let mut entries = torch_entries(&pickle(&asm![EmptyDict]), &[]);
    entries[0] = Entry::deflated("m/data.pkl", &pickle(&text(&"x".repeat(5000))));
    let bytes = Zip::of(entries).bytes();
    let within = |limits| OpenOptions { limits, ..OpenOptions::default() };
    let small = Limits { inflated_pickle: 1000, ..Limits::default() };
    assert_eq!(limit(opened(bytes.clone(), &within(small)).unwrap_err()), LimitKind::InflatedPickle);
    let few = Limits { entries: 2, ..Limits::default() };
    assert_eq!(limit(opened(bytes, &within(few)).unwrap_err()), LimitKind::Entries);
}
