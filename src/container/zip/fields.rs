//! Numbers at fixed places of a record, and the extra fields at its end.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

/// Whether extra fields carry nothing but sizes, times, owners and torch's padding.
pub(super) fn is_clean(extra: &[u8]) -> bool {
    let mut rest = extra;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let n = usize::from(u16_at(head, 2));
        let Some((body, next)) = after.split_at_checked(n) else { return false };
        let clean = match u16_at(head, 0) {
            // Torch pads with a field "FB" of the letter Z.
            0x4246 => body.iter().all(|b| *b == b'Z'),
            // Zip64 sizes, and torch's offset; times and owners of Info-ZIP.
            0x0001 => n <= 32,
            0x5455 | 0x7875 | 0x5855 => n <= 20,
            _ => false,
        };
        if !clean {
            return false;
        }
        rest = next;
    }
    rest.is_empty()
}
