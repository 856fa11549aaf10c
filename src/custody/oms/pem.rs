//! PEM files as they are found: several blocks, text before and between them, lines of any width.

use std::path::Path;

use der::pem::Decoder;
use p256::elliptic_curve::zeroize::Zeroizing;

use super::error::Error;
use super::keys::KeyError;

/// Reads a PEM file and makes something of it.
pub(super) fn open<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, KeyError>) -> Result<T, Error> {
    // Bundles of authorities are the largest of these files, with some hundred kilobytes.
    const LARGEST: u64 = 4 << 20;
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let key = |error| Error::Key { path: path.to_owned(), error };
    if size > LARGEST {
        return Err(key(KeyError::TooLarge { size, allowed: LARGEST }));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(Error::io(path))?);
    // What stands around the blocks may be in any encoding.
    parse(&Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())).map_err(key)
}

/// One block of a PEM file.
pub(super) struct Block {
    /// What it is, such as `PUBLIC KEY`.
    pub(super) label: String,
    /// What it holds. It may be a secret, so that it is wiped.
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// All blocks of a file. GnuTLS writes a description of a key before its block, and OpenSSL a block with the name of the
/// curve; neither is wrong.
pub(super) fn blocks(text: &str) -> Result<Vec<Block>, KeyError> {
    const BEGIN: &str = "-----BEGIN ";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (label, _) = after.split_once("-----").ok_or(KeyError::Unterminated)?;
        let end = format!("-----END {label}-----");
        let (body, after_end) = after.split_once(end.as_str()).ok_or(KeyError::Unterminated)?;
        let block = Zeroizing::new(format!("{BEGIN}{body}{end}"));
        let mut der = Zeroizing::new(Vec::new());
        Decoder::new_detect_wrap(block.as_bytes())
            .and_then(|mut decoder| decoder.decode_to_end(&mut der).map(|_| ()))
            .map_err(|error| KeyError::Pem { label: label.to_owned(), error })?;
        found.push(Block { label: label.to_owned(), der });
        rest = after_end;
    }
    Ok(found)
}

/// The first block with one of the labels.
pub(super) fn first(text: &str, labels: &'static [&'static str]) -> Result<Block, KeyError> {
    let mut blocks = blocks(text)?;
    match blocks.iter().position(|block| labels.contains(&block.label.as_str())) {
        Some(at) => Ok(blocks.swap_remove(at)),
        None => Err(KeyError::Label {
            expected: labels,
            found: blocks.into_iter().map(|block| block.label).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN A-----\nAQID\n-----END A-----\n";

    #[test]
    fn text_around_blocks_is_passed_over() {
        let text = format!("curve: X\n\tx:\n{BLOCK}words\r\n{}", BLOCK.replace('\n', "\r\n"));
        let blocks = blocks(&text).unwrap();
        assert_eq!(blocks.iter().map(|block| block.der.to_vec()).collect::<Vec<_>>(), [[1, 2, 3], [1, 2, 3]]);
        assert_eq!(first(&text, &["B", "A"]).unwrap().label, "A");
    }

    #[test]
    fn what_is_missing_is_told() {
        assert!(
            matches!(first(BLOCK, &["B"]), Err(KeyError::Label { found, .. }) if found == ["A".to_owned()])
        );
        assert!(matches!(blocks("-----BEGIN A-----\nAQID\n"), Err(KeyError::Unterminated)));
        assert!(matches!(blocks("-----BEGIN A-----\n!\n-----END A-----"), Err(KeyError::Pem { .. })));
    }
}
