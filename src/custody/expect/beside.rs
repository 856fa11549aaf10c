//! What lies beside a source and says which digest it has. All of it was written by whoever fetched the file: a match
//! shows that the file has not changed since, and not who published it.

use std::path::Path;

use super::published::is_published;
use super::sums::{self, Line};
use super::{Algorithm, Expectation, Weight, is_hex};

/// Everything that is said of the file at a path.
pub(super) fn beside(path: &Path) -> Vec<Expectation> {
    let mut all: Vec<Expectation> = cache(path).into_iter().chain(local_dir(path)).collect();
    all.extend(sidecars(path));
    all.extend(by_name(&sums::file_name(path)));
    all
}

fn etag(etag: &str, origin: &str) -> Option<Expectation> {
    let algorithm = match etag.len() {
        _ if !is_hex(etag) => return None,
        64 => Algorithm::Sha256,
        40 => Algorithm::GitSha1,
        _ => return None,
    };
    let (origin, value) = (origin.to_owned(), etag.to_owned());
    Some(Expectation { origin, algorithm, value, size: None, weight: Weight::Stops })
}

/// The Hugging Face cache: `snapshots/<revision>/<file>` links to `blobs/<etag>`.
fn cache(path: &Path) -> Option<Expectation> {
    let blob = path.canonicalize().ok()?;
    let blobs = blob.parent().filter(|folder| folder.ends_with("blobs"))?;
    let name = blob.file_name()?.to_str()?;
    blobs.with_file_name("snapshots").is_dir().then(|| etag(name, "Hugging Face cache"))?
}

/// `hf download --local-dir`: `.cache/huggingface/download/<file>.metadata` holds a commit, an etag and a time.
fn local_dir(path: &Path) -> Option<Expectation> {
    /// Three short lines.
    const LONGEST: u64 = 4096;
    let path = std::path::absolute(path).ok()?;
    let mut folders = path.ancestors().skip(1);
    let text = folders.find_map(|folder| {
        let file = path.strip_prefix(folder).ok()?;
        let mut metadata = folder.join(".cache/huggingface/download").join(file).into_os_string();
        metadata.push(".metadata");
        let is_short = std::fs::metadata(&metadata).ok().filter(|there| there.len() <= LONGEST);
        is_short.and_then(|_| std::fs::read_to_string(&metadata).ok())
    })?;
    etag(text.lines().nth(1)?.trim(), "Hugging Face download metadata")
}

/// A file of its own for one digest, by what its name has beyond the source's.
const SIDECARS: &[&str] = &[".sha256", ".sha256sum", ".sha512", ".sha512sum", ".sha1", ".md5", ".md5sum"];

/// Lists of a whole folder. Meta's is of MD5, whatever its tools take it for (llama-models issue 515).
const LISTS: &[&str] = &["SHA256SUMS", "sha256sums.txt", "sha256sum.txt", "MD5SUMS", "checklist.chk"];

fn sidecars(path: &Path) -> Vec<Expectation> {
    let own = SIDECARS.iter().map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    });
    let lists = LISTS.iter().map(|name| path.with_file_name(name));
    let mut all = Vec::new();
    for list in own.chain(lists) {
        let Ok(Some(lines)) = sums::read(&list) else { continue };
        let found: Vec<&Line> = sums::of(&lines, path);
        // Two digests for one name are for nobody to choose from; --expect-file says so.
        let one = found.iter().all(|line| Some(&line.value) == found.first().map(|first| &first.value));
        if one {
            all.extend(sums::expectations(&found, &sums::file_name(&list)));
        }
    }
    all
}

/// The beginning of a digest in a name. After a dash, as torch.hub looks for it (`-([a-f0-9]*)\.`), it is one of SHA-256: of
/// eight digits or more, as every loader's own names have, since fewer are numbers of shards and epochs. After an
/// underscore, as some quantized models of torchvision and others have it, nobody confirms what it is.
fn by_name(name: &str) -> Vec<Expectation> {
    let expectation = |algorithm, value: &str, weight| Expectation {
        origin: "file name".to_owned(),
        algorithm,
        value: value.to_owned(),
        size: None,
        weight,
    };
    let is_published = is_published(name);
    if let Some((before, value)) = digits_after(name, '-', 8) {
        return match () {
            () if is_published => vec![expectation(Algorithm::Sha256, value, Weight::Stops)],
            // The last part of a UUID.
            () if value.len() == 12 && is_uuid(before) => Vec::new(),
            // Dates, MD5, commits.
            () if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                vec![expectation(Algorithm::Sha256, value, Weight::Guess)]
            }
            () if value.len() == 32 => vec![expectation(Algorithm::Md5, value, Weight::Guess)],
            () if value.len() == 40 => vec![expectation(Algorithm::GitSha1, value, Weight::Guess)],
            () => vec![expectation(Algorithm::Sha256, value, Weight::Told)],
        };
    }
    match digits_after(name, '_', 6) {
        Some((_, value)) if is_published => vec![expectation(Algorithm::Md5, value, Weight::Stops)],
        Some((_, value)) => {
            let fits = |algorithm: &Algorithm| value.len() < 32 || *algorithm == Algorithm::Sha256;
            let guesses = [Algorithm::Sha256, Algorithm::Md5].into_iter().filter(fits);
            guesses.map(|algorithm| expectation(algorithm, value, Weight::Guess)).collect()
        }
        None => Vec::new(),
    }
}

/// The first digits between a mark and a dot, at least so many and no more than a whole digest has, and what stands before the
/// mark.
fn digits_after(name: &str, mark: char, least: usize) -> Option<(&str, &str)> {
    let mut dots = name.match_indices('.').filter_map(|(dot, _)| name.get(..dot));
    dots.find_map(|head| {
        let (before, value) = head.rsplit_once(mark)?;
        (is_hex(value) && (least..=64).contains(&value.len())).then_some((before, value))
    })
}

/// Whether a text ends in the first four parts of a UUID.
fn is_uuid(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let fits = |part: Option<&str>, length| part.is_some_and(|part| is_hex(part) && part.len() == length);
    let inner = fits(parts.next(), 4) && fits(parts.next(), 4) && fits(parts.next(), 4);
    let is_first = |part: &str| part.get(part.len().saturating_sub(8)..).is_some_and(is_hex);
    inner && parts.next().is_some_and(|part| part.len() >= 8 && is_first(part))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn names_say_what_their_publishers_meant() {
        use Weight::{Guess, Stops, Told};
        for (name, found) in [
            ("resnet50-0676ba61.pth", &[(Algorithm::Sha256, "0676ba61", Stops)][..]),
            ("mymodel-0676ba61.pth", &[(Algorithm::Sha256, "0676ba61", Told)]),
            ("resnet50-0676ba61.pt", &[(Algorithm::Sha256, "0676ba61", Told)]),
            // Dots before it; torch looks for the first that fits.
            ("shufflenetv2_x0.5-f707e7126e.pth", &[(Algorithm::Sha256, "f707e7126e", Stops)]),
            ("v1.5-deadbeef.pth.tar", &[(Algorithm::Sha256, "deadbeef", Told)]),
            ("run-12345678-1234-1234-1234-123456789abc.pth", &[]),
            (
                "m-00000000deadbeef00000000deadbeef00000000.pt",
                &[(Algorithm::GitSha1, "00000000deadbeef00000000deadbeef00000000", Guess)],
            ),
            (
                "m-900150983cd24fb0d6963f7d28e17f72.pt",
                &[(Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72", Guess)],
            ),
            ("step-1234567.pt", &[]),
            ("model-Deadbeef1.pt", &[]),
            ("epoch-20240101.ckpt", &[(Algorithm::Sha256, "20240101", Guess)]),
            ("faster_rcnn_20200130-d5ad3f0e.pth", &[(Algorithm::Sha256, "d5ad3f0e", Told)]),
            ("sam_vit_h_4b8939.pth", &[(Algorithm::Md5, "4b8939", Stops)]),
            (
                "mobilenet_v2_qnnpack_37f702c5.pth",
                &[(Algorithm::Sha256, "37f702c5", Guess), (Algorithm::Md5, "37f702c5", Guess)],
            ),
            ("model-00001-of-00002.bin", &[]),
            ("pytorch_model.bin", &[]),
            ("v-deadbeef", &[]),
        ] {
            let said = by_name(name);
            let said: Vec<_> = said.iter().map(|e| (e.algorithm, e.value.as_str(), e.weight)).collect();
            assert_eq!(said, found, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_cache_of_hugging_face_names_its_blobs_by_their_digests() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("models--a--b").join(name);
        for made in ["blobs", "snapshots/1"] {
            fs::create_dir_all(at(made)).unwrap();
        }
        let git = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
        for (etag, name) in [(SHA, "model.bin"), (git, "config.json")] {
            fs::write(at("blobs").join(etag), b"abc").unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{etag}"), at("snapshots/1").join(name)).unwrap();
        }
        let said = beside(&at("snapshots/1/model.bin"));
        assert_eq!((said[0].algorithm, said[0].value.as_str()), (Algorithm::Sha256, SHA));
        let said = beside(&at("snapshots/1/config.json"));
        assert_eq!((said[0].algorithm, said[0].value.as_str()), (Algorithm::GitSha1, git));
    }

    #[test]
    fn metadata_of_a_download_and_sidecars_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at(".cache/huggingface/download/sub")).unwrap();
        fs::create_dir_all(at("sub")).unwrap();
        fs::write(at("sub/m.bin"), b"abc").unwrap();
        fs::write(at(".cache/huggingface/download/sub/m.bin.metadata"), format!("c0ffee\n{SHA}\n1.5\n"))
            .unwrap();
        fs::write(at("sub/m.bin.md5"), "900150983cd24fb0d6963f7d28e17f72\n").unwrap();
        fs::write(at("sub/SHA256SUMS"), format!("{SHA}  other.bin\n{SHA}  m.bin\n")).unwrap();
        let said = beside(&at("sub/m.bin"));
        let origins: Vec<&str> = said.iter().map(|e| e.origin.as_str()).collect();
        assert_eq!(origins, ["Hugging Face download metadata", "m.bin.md5", "SHA256SUMS"]);
        assert!(super::super::check(&b"abc".to_vec(), &said).is_ok());
        assert!(beside(&at("sub/n.bin")).is_empty());
    }
}
