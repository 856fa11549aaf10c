//! The verdict of every global and of every use of one. Tables and one rule; knows no I/O and makes no exceptions.
//!
//! *Allowed* names are interpreted. *Inert* uses are kept as data. *Unknown* calls and everything *dangerous* refuse a
//! conversion. The tables are in [`tables`](self), the rule is [`judge`]; [`Policy`] is what an organisation adds.

mod dangerous;
mod data_only;
mod day;
mod enums;
mod expression;
mod file;
mod forms;
mod judge;
mod python2;
mod read;
mod tables;

pub use day::Day;
pub use expression::call as expression;
pub use file::{Entry, Expired, Level, Policy, PolicyError, PolicyErrorKind, Suppression};
pub use judge::{JudgedGlobal, Judgement, Overrides, Use, UseKind, judge};
pub use python2::canonical;
pub(crate) use python2::canonical_name;

/// What may be done with a name or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// In the allowlist: interpreted by depickle itself.
    Allowed,
    /// Kept as data, never interpreted.
    Inert,
    /// A call of something that is in no table.
    Unknown,
    /// Can run code, resolve names, reach files, the network or other imports.
    Dangerous,
}

impl Verdict {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Inert => "inert",
            Self::Unknown => "unknown",
            Self::Dangerous => "dangerous",
        }
    }

    /// Whether it refuses a conversion.
    pub fn refuses(self) -> bool {
        self >= Self::Unknown
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
