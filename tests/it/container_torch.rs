//! Torch's archive: which pickle, which byte order, which record.

use depickle::container::{Archive, Error, ErrorKind, Storages, TorchZip};
use depickle::limits::Limits;

use crate::zips::{Entry, Zip, torch_entries};

fn open(entries: Vec<Entry>) -> Result<Option<TorchZip>, Error> {
    let bytes = Zip::of(entries).bytes();
    let archive = Archive::open(&bytes, &Limits::default())?;
    TorchZip::open(&bytes, archive, &Limits::default())
}

fn entries() -> Vec<Entry> {
    torch_entries(b"pickle", &[("0", vec![0; 8]), ("1", vec![])])
}

fn with(entry: Entry) -> Result<Option<TorchZip>, Error> {
    open([entries(), vec![entry]].concat())
}

fn byteorder(name: &str, order: &[u8]) -> Result<bool, Error> {
    let mut entries = entries();
    entries[1] = Entry::torch(name, order);
    open(entries).map(|torch| torch.unwrap().big_endian())
}

#[test]
fn the_pickle_is_found_below_any_prefix() {
    let torch = open(entries()).unwrap().unwrap();
    assert_eq!(&*torch.pickle().name, "m/data.pkl");
    assert!(!torch.big_endian());
    assert_eq!(torch.bystanders().count(), 0);
    let root = vec![Entry::torch("data.pkl", b"pickle"), Entry::torch("data/0", b"1234")];
    assert!(open(root).unwrap().unwrap().storage("0", 4).is_ok());
    assert!(open(vec![Entry::torch("m/other", b"x")]).unwrap().is_none());
}

#[test]
fn a_second_pickle_is_refused_letter_case_aside() {
    for name in ["n/data.pkl", "n/DATA.PKL", "m/x/Data.pkl"] {
        let error = with(Entry::torch(name, b"evil")).expect_err(name).kind;
        assert!(matches!(error, ErrorKind::SecondPickle(_)), "{name}: {error}");
    }
    let mut first = entries();
    first.insert(0, Entry::torch("a/DATA.PKL", b"evil"));
    assert!(matches!(open(first).expect_err("torch takes the first").kind, ErrorKind::SecondPickle(_)));
}

#[test]
fn byte_orders() {
    assert!(!byteorder("m/byteorder", b"little").unwrap());
    assert!(byteorder("m/byteorder", b"big").unwrap());
    // Torch finds the record whatever its letter case.
    assert!(byteorder("m/ByteOrder", b"big").unwrap());
    for order in [&b""[..], b"BIG", b"middle", &[b'x'; 5_000]] {
        let error = byteorder("m/byteorder", order).expect_err("no byte order").kind;
        assert!(matches!(error, ErrorKind::Record { .. } | ErrorKind::Limit(_)), "{error}");
    }
}

#[test]
fn records_have_at_least_the_length_that_the_pickle_says() {
    let torch = open(entries()).unwrap().unwrap();
    assert_eq!(torch.storage("0", 8).unwrap().len, 8);
    assert_eq!(torch.storage("0", 4).unwrap().len, 8);
    assert_eq!(torch.storage("1", 0).unwrap().len, 0);
    assert!(matches!(
        torch.storage("0", 9).expect_err("short").kind,
        ErrorKind::Length { got: 8, expected: 9 }
    ));
    for key in ["2", "", "0/", "../data.pkl"] {
        assert!(matches!(torch.storage(key, 0).expect_err(key).kind, ErrorKind::Missing), "{key:?}");
    }
}

#[test]
fn bookkeeping_is_small_and_by_name() {
    let torch = with(Entry::torch("m/.data/serialization_id", &[b'1'; 40])).unwrap().unwrap();
    assert_eq!(torch.bystanders().count(), 0);
    let torch = with(Entry::torch("m/.data/serialization_id", &[b'1'; 400])).unwrap().unwrap();
    assert_eq!(torch.bystanders().count(), 1);
    let torch = with(Entry::torch("m/code/evil.py", b"x")).unwrap().unwrap();
    assert_eq!(torch.bystanders().count(), 1);
}

#[test]
fn deflated_storages_say_so() {
    let mut all = entries();
    all[2] = Entry::deflated("m/data/0", &[0; 800]);
    let storage = open(all).unwrap().unwrap().storage("0", 800).unwrap();
    assert!(matches!(storage.place, depickle::tensor::Place::Deflated { .. }));
}
