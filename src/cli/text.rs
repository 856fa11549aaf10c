//! Small pieces of text: sizes, counts, columns, arguments as a shell takes them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;

/// Bytes, in decimal units with one digit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000_u64, "GB"), (1_000_000, "MB"), (1_000, "kB")] {
            if let (Some(whole @ 1..), Some(rest)) = (self.0.checked_div(unit), self.0.checked_rem(unit)) {
                let tenths = rest.saturating_mul(10).checked_div(unit).unwrap_or(0);
                return write!(f, "{whole}.{tenths} {name}");
            }
        }
        Count(self.0, "byte").fmt(f)
    }
}

/// How many of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A length as a count.
pub(crate) fn length(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// On which side of a column its text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Pads the cells of every row to the widths of their columns. A cell that is far wider than others are moves only
/// its own row.
pub(crate) fn columns(rows: &[Vec<String>], align: &[Align]) -> Vec<String> {
    /// Names of checkpoints are rarely wider.
    const WIDEST: usize = 72;
    let mut widths = vec![0; align.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().min(WIDEST).max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(align).map(|((cell, &width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// An argument as a POSIX shell takes it.
pub(crate) fn quote(argument: &OsStr) -> Cow<'_, str> {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_shell() {
        for (argument, quoted) in [
            ("face.pt", "face.pt"),
            ("my model.pt", "'my model.pt'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("--inert=a.b", "--inert=a.b"),
            ("*.pt", "'*.pt'"),
            ("~", "'~'"),
            ("größe", "'größe'"),
        ] {
            assert_eq!(quote(OsStr::new(argument)), quoted);
        }
    }

    #[test]
    fn columns_line_up_and_one_wide_cell_moves_only_its_row() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let rows = [row("a", "1"), row("bcd", "20"), row(&"x".repeat(100), "3")];
        let lines = columns(&rows, &[Align::Left, Align::Right]);
        assert_eq!(lines[0].trim_end(), format!("{:<72}   1", "a"));
        assert_eq!(lines[1], format!("{:<72}  20", "bcd"));
        assert_eq!(lines[2], format!("{}   3", "x".repeat(100)));
    }

    #[test]
    fn sizes_keep_one_digit() {
        for (bytes, text) in
            [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_250, "1.2 kB"), (440_412_345, "440.4 MB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
