//! Accounts of each container: the parts that are known are counted, and the rest is its structure.

use crate::accounting::{Accounting, shown};
use crate::container::{Archive, Tar, TorchLegacy, TorchTar, TorchZip};
use crate::rebuild::Rebuilt;
use crate::tensor::StreamId;

/// An archive of torch. Its pickles take `stored` bytes; `after_stop` counts what follows them inside their members.
pub(super) fn torch_zip(
    size: u64,
    torch: &TorchZip,
    (stored, after_stop): (u64, u64),
    rebuilt: &Rebuilt,
) -> Accounting {
    let archive = torch.archive();
    let mut records = 0_u64;
    for member in archive.members() {
        if torch.is_record(member) {
            records = records.saturating_add(member.data.len());
        }
    }
    let own = torch.pickle().data.len();
    let other = torch.bystanders().fold(own, |n, member| n.saturating_add(member.data.len()));
    let other = other.saturating_sub(stored);
    let tensors = shown(StreamId::SOURCE, &rebuilt.storages, &rebuilt.tensors);
    let strays = archive.strays().iter().fold(0_u64, |n, stray| n.saturating_add(stray.span.len()));
    // Of a deflated pickle only the whole has a stored size.
    let pickle = if stored > after_stop { stored.saturating_sub(after_stop) } else { stored };
    Accounting {
        pickle,
        tensors,
        other,
        unreferenced: records
            .saturating_sub(tensors)
            .saturating_add(strays)
            .saturating_add(stored.saturating_sub(pickle)),
        trailing: size.saturating_sub(archive.end()),
        container: 0,
    }
    .with_container(size)
}

/// An archive of several pickles, of whose members `known` has the bytes.
pub(super) fn archive(size: u64, archive: &Archive, known: Accounting) -> Accounting {
    let strays = archive.strays().iter().fold(0_u64, |n, stray| n.saturating_add(stray.span.len()));
    Accounting {
        unreferenced: known.unreferenced.saturating_add(strays),
        trailing: size.saturating_sub(archive.end()),
        ..known
    }
    .with_container(size)
}

/// A legacy stream whose pickles end at `pickles`.
pub(super) fn torch_legacy(size: u64, pickles: u64, records: &TorchLegacy, rebuilt: &Rebuilt) -> Accounting {
    let tensors = shown(StreamId::SOURCE, &rebuilt.storages, &rebuilt.tensors);
    let stored = records.records().fold(0_u64, |n, span| n.saturating_add(span.len()));
    Accounting {
        pickle: pickles,
        tensors,
        other: 0,
        unreferenced: stored.saturating_sub(tensors),
        trailing: size.saturating_sub(records.end()),
        container: 0,
    }
    .with_container(size)
}

/// A tar archive. What follows the last record of a member has no use, nor what follows the archive.
pub(super) fn torch_tar(
    size: u64,
    tar: &Tar,
    (tables, rebuilt): (&TorchTar, &Rebuilt),
    other: u64,
    (after, trailing): (u64, u64),
) -> Accounting {
    let members = tar.members().fold(0_u64, |n, (_, span)| n.saturating_add(span.len()));
    let tensors = shown(StreamId::SOURCE, &rebuilt.storages, &rebuilt.tensors);
    // Counts and shapes stand between the pickles of the tables, and count with them.
    let known = [tables.stored(), other, after];
    Accounting {
        pickle: known.iter().fold(members, |left, part| left.saturating_sub(*part)),
        tensors,
        other,
        unreferenced: tables.stored().saturating_sub(tensors).saturating_add(after),
        trailing,
        container: 0,
    }
    .with_container(size)
}
