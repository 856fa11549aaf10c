//! [`Note`]: what must be said of a plan to whoever asked for it.

use std::fmt;

use crate::tensor::Dtype;

/// A place with tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its dotted path, as `--root` takes it.
    pub path: String,
    /// Tensors that it holds.
    pub tensors: u64,
}

/// Something to be said. Names and paths are the source's: escape them where they are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Which place the tensors were taken from.
    Root {
        /// Its dotted path; empty for the whole source.
        root: String,
        /// The writer that was recognised.
        writer: Option<&'static str>,
        /// Other places that could have been taken, not more than a few.
        others: Vec<Found>,
        /// How many more there are.
        more: u64,
    },
    /// Several places hold tensors and none is known to be the one.
    Several {
        /// The places, not more than a few.
        found: Vec<Found>,
        /// How many more there are.
        more: u64,
    },
    /// Every name begins with a wrapper's prefix.
    Prefix(&'static str),
    /// The source's loader needs values that are not written.
    Needed {
        /// Who loads it.
        writer: &'static str,
        /// Dotted paths of the values.
        keys: Vec<String>,
    },
    /// Values that are no tensors are not written.
    Values {
        /// How many.
        count: u64,
    },
    /// Names of the same data were each written.
    AliasesCopied(Aliased),
    /// Names of the same data were written once.
    AliasesOnce(Aliased),
    /// Averaged weights stand beside the trained ones, under the same root.
    Averaged {
        /// What their names begin with.
        prefix: &'static str,
        /// How many.
        tensors: u64,
        /// How large.
        bytes: u64,
    },
    /// `--dtype` was given and no tensor needs it.
    NothingToCast(Dtype),
    /// Flat parameters of FSDP: all those of a module in a row, of which the file says neither names nor shapes.
    Flat {
        /// How many.
        tensors: u64,
    },
    /// The arrays are part of objects of a library, which safetensors cannot give back.
    ArraysOnly(&'static str),
}

/// How many names show data that an earlier name shows already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aliased {
    /// How many.
    pub names: u64,
    /// Bytes in the output that they cost, or would have.
    pub bytes: u64,
    /// The first of them.
    pub first: String,
    /// What it is the same as.
    pub of: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { root, others, more, .. } => {
                write!(f, "root: {}", if root.is_empty() { "the whole source" } else { root })?;
                let Some(first) = others.first() else { return Ok(()) };
                f.write_str(" (also found: ")?;
                list(f, others, *more)?;
                write!(f, "; --root {})", first.path)
            }
            Self::Several { found, more } => {
                f.write_str("several places hold tensors: ")?;
                list(f, found, *more)?;
                f.write_str("; each is written under its full path, --root takes one")
            }
            Self::Prefix(prefix) => {
                write!(f, "every name begins with {prefix}; --strip-prefix auto takes it off")
            }
            Self::Needed { writer, keys } => {
                let keys = keys.join(", ");
                write!(f, "{writer} also needs {keys} to load this; not in the output")
            }
            Self::Values { count } => {
                write!(f, "not written: {} beside the tensors", Count(*count, "value"))
            }
            Self::AliasesCopied(aliased) => write!(
                f,
                "{aliased}: each written, {} more, so that strict loading works; --aliases once saves that",
                Size(aliased.bytes)
            ),
            Self::AliasesOnce(aliased) => write!(
                f,
                "{aliased}: written once, {} less; strict loading needs --aliases copy",
                Size(aliased.bytes)
            ),
            Self::Averaged { prefix, tensors, bytes } => write!(
                f,
                "{prefix}* holds averaged weights ({}, {}); --exclude '{prefix}*' leaves them out",
                Count(*tensors, "tensor"),
                Size(*bytes)
            ),
            Self::ArraysOnly(library) => {
                write!(f, "safetensors holds arrays only and cannot rebuild an object of {library}")
            }
            Self::Flat { tensors } => write!(
                f,
                "{} of FSDP: each holds the parameters of a module in a row, and only the model's code knows which; \
                 save with SHARDED_STATE_DICT or FULL_STATE_DICT for one tensor a parameter",
                Count(*tensors, "flat parameter")
            ),
            Self::NothingToCast(dtype) => write!(f, "--dtype {dtype}: no tensor to cast"),
        }
    }
}

impl fmt::Display for Aliased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, first, of, .. } = self;
        match names {
            1 => write!(f, "{first} is the same data as {of}"),
            n => write!(f, "{n} names show data of others ({first} is {of}, …)"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, found: &[Found], more: u64) -> fmt::Result {
    for (i, place) in found.iter().enumerate() {
        let tensors = Count(place.tensors, "tensor");
        write!(f, "{}{}, {tensors}", if i == 0 { "" } else { "; " }, place.path)?;
    }
    if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
}

/// How many of what.
pub(super) struct Count(pub(super) u64, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// Bytes, in decimal units with one digit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000_u64, "GB"), (1_000_000, "MB"), (1_000, "kB")];
        for (unit, name) in units {
            if let (Some(whole @ 1..), Some(rest)) = (self.0.checked_div(unit), self.0.checked_rem(unit)) {
                let tenths = rest.saturating_mul(10).checked_div(unit).unwrap_or(0);
                return write!(f, "{whole}.{tenths} {name}");
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, tensors: u64) -> Found {
        Found { path: path.into(), tensors }
    }

    #[test]
    fn the_root_line_reads_as_the_interface_says() {
        let note = Note::Root {
            root: "params_ema".into(),
            writer: None,
            others: vec![found("params", 702)],
            more: 0,
        };
        assert_eq!(note.to_string(), "root: params_ema (also found: params, 702 tensors; --root params)");
        let note = Note::Root { root: String::new(), writer: None, others: vec![], more: 0 };
        assert_eq!(note.to_string(), "root: the whole source");
        let note = Note::Several { found: vec![found("g", 2), found("d", 3)], more: 4 };
        assert_eq!(
            note.to_string(),
            "several places hold tensors: g, 2 tensors; d, 3 tensors; and 4 more; each is written under its full \
             path, --root takes one"
        );
    }

    #[test]
    fn sizes_keep_one_digit() {
        for (bytes, text) in [(0, "0 bytes"), (999, "999 bytes"), (1_250, "1.2 kB"), (93_763_584, "93.7 MB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn aliases_say_what_strict_loading_needs() {
        let aliased = Aliased { names: 1, bytes: 8, first: "b".into(), of: "a".into() };
        assert_eq!(
            Note::AliasesOnce(aliased.clone()).to_string(),
            "b is the same data as a: written once, 8 bytes less; strict loading needs --aliases copy"
        );
        let two = Aliased { names: 2, ..aliased };
        assert!(Note::AliasesCopied(two).to_string().starts_with("2 names show data of others (b is a, …)"));
    }
}
