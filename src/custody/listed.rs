//! The part of `verify` that compares a manifest with what lies beside it: `SHA256SUMS`, and weights that nobody lists.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use crate::bytes::{FileSource, ReadAt, Span};
use crate::container::{Format, detect};

use super::digest::digest_of;
use super::documents::{SUMS, read_sums};
use super::manifest::Manifest;
use super::verify::{Check, Report};

/// What `SHA256SUMS` says of the manifest and its outputs. It covers what a manifest cannot vouch for itself, such as the name of
/// the source.
pub(super) fn check_sums(at: &Path, manifest: &Manifest, report: &mut Report) -> io::Result<()> {
    let folder = at.parent().unwrap_or(Path::new(""));
    let path = folder.join(SUMS);
    if !path.is_file() {
        return Ok(());
    }
    let mut told = |mismatch: String| {
        report.mismatches.push(Check { level: "files", name: SUMS.to_owned(), mismatch: Some(mismatch) });
    };
    let own = FileSource::open(at)?;
    let own = digest_of(&own, Span::between(0, own.size()))?;
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    let outputs = manifest.outputs.iter().map(|output| (&*output.path, &*output.sha256));
    let known: Vec<(&str, &str)> = outputs.chain([(&*name, &*own)]).collect();
    let text = std::fs::read(&path)?;
    let text = String::from_utf8_lossy(&text);
    let Some(sums) = read_sums(&text) else {
        // Others have lists of other forms, of files of their own.
        if known.iter().any(|(name, digest)| text.contains(name) || text.contains(digest)) {
            told("is no list of digests".to_owned());
        }
        return Ok(());
    };
    let differing = known.iter().filter_map(|(name, digest)| {
        let listed = sums.get(*name).filter(|listed| listed != digest)?;
        Some(format!("says {listed} of {name}, which is {digest}"))
    });
    let differing: Vec<String> = differing.collect();
    if !differing.is_empty() {
        // A publisher's list may name a file of this name, and never the manifest.
        differing.into_iter().filter(|_| sums.contains_key(&*name)).for_each(told);
        return Ok(());
    }
    // A list may be of other files, and of files that are gone. One that has some of these, but not all, and others that are not
    // there, has a name that was changed.
    let listed = known.iter().filter(|(name, _)| sums.contains_key(*name)).count();
    if listed == 0 || listed == known.len() {
        return Ok(());
    }
    let known: HashSet<&str> = known.into_iter().map(|(name, _)| name).collect();
    for name in sums.keys().filter(|name| !known.contains(name.as_str()) && !folder.join(name).is_file()) {
        told(format!("names {name}, which is not there"));
    }
    Ok(())
}

/// The manifest of a folder is that of everything in it that a loader would take for weights.
pub(super) fn check_unlisted(folder: &Path, manifest: &Manifest, report: &mut Report) {
    let listed: HashSet<&str> = manifest.outputs.iter().map(|output| output.path.as_str()).collect();
    let listed_in = |below: &str| manifest.outputs.iter().any(|output| output.path.starts_with(below));
    let mut open = vec![String::new()];
    let mut found = Vec::new();
    while let Some(below) = open.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&below)) else { continue };
        for entry in entries.flatten() {
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let path = entry.path();
            if path.is_dir() {
                // Folders of which the manifest says nothing are somebody else's.
                let inner = format!("{name}/");
                open.extend(listed_in(&inner).then_some(inner));
            } else if !listed.contains(name.as_str()) && is_weights(&path) {
                found.push(name);
            }
        }
    }
    found.sort();
    for name in found {
        let mismatch = Some("holds weights and is not in the manifest".to_owned());
        report.mismatches.push(Check { level: "files", name, mismatch });
    }
}

fn is_weights(path: &Path) -> bool {
    let source = FileSource::open(path).ok();
    source.is_some_and(|source| matches!(detect(&source), Ok(Format::Safetensors)))
}
