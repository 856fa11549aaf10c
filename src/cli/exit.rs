//! Exit codes.

use std::process::ExitCode;

use depickle::Class;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; all matches.
    Done,
    /// The answer is no: refused, or a mismatch.
    No,
    /// Wrong usage, flags that match nothing.
    Usage,
    /// Malformed, unsupported, or without tensors.
    Malformed,
    /// I/O or environment: worth a retry.
    Environment,
}

/// Of several codes the first of these that occurred is returned. Wrong usage is found before the first input is
/// opened, but for flags that match nothing in one of several inputs.
const PRECEDENCE: [Exit; 5] = [Exit::No, Exit::Malformed, Exit::Environment, Exit::Usage, Exit::Done];

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Malformed => 3,
            Self::Environment => 4,
        }
    }

    /// The code of a run that had several.
    pub(crate) fn of_several(codes: impl IntoIterator<Item = Self>) -> Self {
        let rank = |code: &Self| PRECEDENCE.iter().position(|known| known == code);
        codes.into_iter().min_by_key(rank).unwrap_or(Self::Done)
    }
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Refused => Self::No,
            Class::Misuse => Self::Usage,
            Class::Malformed => Self::Malformed,
            Class::Environment => Self::Environment,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_codes_the_first_of_1_3_4_0_counts() {
        use Exit::{Done, Environment, Malformed, No, Usage};
        for (codes, one) in [
            (vec![], Done),
            (vec![Done, Done], Done),
            (vec![Done, Environment], Environment),
            (vec![Environment, Malformed, Done], Malformed),
            (vec![Malformed, Environment, No, Done], No),
            (vec![Usage, Done], Usage),
            (vec![Usage, Environment], Environment),
        ] {
            assert_eq!(Exit::of_several(codes.clone()), one, "{codes:?}");
        }
    }
}
