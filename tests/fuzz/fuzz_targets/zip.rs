//! Any bytes as an archive: what is accepted lies inside the source and nowhere twice, and every member can be read or
//! is refused.
#![no_main]

use depickle::bytes::{ReadAt, Span};
use depickle::container::{Archive, Method, Storages, TorchZip, detect};
use depickle::limits::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let limits = Limits { entries: 1_000, inflated_pickle: 1 << 20, ..Limits::default() };
    let _ = detect(&bytes);
    let Ok(archive) = Archive::open(&bytes, &limits) else { return };
    assert!(archive.end() <= bytes.size());
    let mut spans: Vec<Span> = archive.members().iter().map(|member| member.data).collect();
    spans.extend(archive.strays().iter().map(|stray| stray.span));
    spans.retain(|span| !span.is_empty());
    spans.sort_unstable();
    assert!(spans.last().is_none_or(|last| last.end() <= archive.end()), "inside the archive");
    assert!(spans.windows(2).all(|pair| pair[0].end() <= pair[1].start()), "nowhere twice: {spans:?}");
    for member in archive.members() {
        assert!(archive.member(&member.name).is_some());
        if let Ok(content) = archive.read(&bytes, member, limits.inflated_pickle) {
            assert_eq!(content.len() as u64, member.size);
            assert!(member.method == Method::Deflated || archive.verify(&bytes, member).is_ok());
        }
    }
    if let Ok(Some(torch)) = TorchZip::open(&bytes, archive, &limits) {
        assert!(torch.pickle().data.end() <= bytes.size());
        assert!(torch.storage("0", 0).map_or(true, |storage| storage.stored_span().is_some()));
    }
});
