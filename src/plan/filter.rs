//! `--include` and `--exclude`: patterns of final names.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::error::Misuse;

/// Which names are wanted.
pub(crate) struct Filter<'o> {
    include: Globs<'o>,
    exclude: Globs<'o>,
}

impl<'o> Filter<'o> {
    /// Names that match one of `include`, or all where it is empty, and none of `exclude`.
    pub(crate) fn new(include: &'o [String], exclude: &'o [String]) -> Result<Self, Misuse> {
        let (include, exclude) = (Globs::new("--include", include)?, Globs::new("--exclude", exclude)?);
        Ok(Self { include, exclude })
    }

    /// Whether a name is wanted.
    pub(crate) fn keeps(&mut self, name: &str) -> bool {
        // Both are asked, so that each pattern learns whether it matches anything.
        let (included, excluded) = (self.include.matches(name), self.exclude.matches(name));
        (included || self.include.patterns.is_empty()) && !excluded
    }

    /// Every pattern has matched a name.
    pub(crate) fn check(&self) -> Result<(), Misuse> {
        self.include.check()?;
        self.exclude.check()
    }
}

/// Patterns of names, and which of them have matched.
struct Globs<'o> {
    flag: &'static str,
    patterns: &'o [String],
    set: GlobSet,
    matched: Vec<bool>,
    buffer: Vec<usize>,
}

impl<'o> Globs<'o> {
    fn new(flag: &'static str, patterns: &'o [String]) -> Result<Self, Misuse> {
        let bad = |glob: &str, e: &globset::Error| Misuse::BadGlob {
            flag,
            glob: glob.to_owned(),
            message: e.kind().to_string(),
        };
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            // Left to itself, globset reads a backslash in one way here and in another on Windows.
            let glob =
                GlobBuilder::new(pattern).backslash_escape(true).build().map_err(|e| bad(pattern, &e))?;
            builder.add(glob);
        }
        let set = builder.build().map_err(|e| bad(&patterns.join(" "), &e))?;
        Ok(Self { flag, patterns, set, matched: vec![false; patterns.len()], buffer: Vec::new() })
    }

    fn matches(&mut self, name: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        self.set.matches_into(name, &mut self.buffer);
        for at in &self.buffer {
            if let Some(matched) = self.matched.get_mut(*at) {
                *matched = true;
            }
        }
        !self.buffer.is_empty()
    }

    /// Every pattern has matched.
    fn check(&self) -> Result<(), Misuse> {
        let idle = self.patterns.iter().zip(&self.matched).find(|(_, matched)| !**matched);
        match idle {
            Some((pattern, _)) => Err(Misuse::MatchesNothing { flag: self.flag, pattern: pattern.clone() }),
            None => Ok(()),
        }
    }
}
