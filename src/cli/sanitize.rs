//! Text of a file, made safe to print: names that an attacker chose must not move the cursor, reorder what stands
//! beside them or hide.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// What is invisible or changes the direction of text, beside the control characters.
const HIDDEN: &[RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{e0000}'..='\u{e0fff}',
];

fn is_unsafe(c: char) -> bool {
    c.is_control() || HIDDEN.iter().any(|range| range.contains(&c))
}

/// Whether a text can be printed as it is.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.contains(is_unsafe)
}

/// The text with unsafe characters escaped, as `\n` or `\u{202e}`.
pub(crate) fn sanitize(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe.into()
}

/// The text, safe and with no more than `most` characters.
pub(crate) fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    // Cut before it is escaped: a name may have megabytes.
    match text.char_indices().nth(most) {
        None => sanitize(text),
        Some((end, _)) => format!("{}…", sanitize(text.get(..end).unwrap_or_default())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_hides() {
        for (text, safe) in [
            ("layers.0.weight", "layers.0.weight"),
            ("größe.权重", "größe.权重"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("gpj\u{202e}.exe", "gpj\\u{202e}.exe"),
            ("os\u{200b}.system", "os\\u{200b}.system"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(sanitize(text), safe);
        }
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(bounded("abcdef", 6), "abcdef");
        assert_eq!(bounded("äbcdefg", 3), "äbc…");
        assert_eq!(bounded("\n\n\n", 1), "\\n…");
    }
}
