//! The documents that other programs read, as plain data: field by field in `docs/cli.md`. The manifest is in
//! [`custody`](crate::custody).

mod convert;
mod inspect;
mod verify;

pub use convert::ConvertRecord;
pub use inspect::{
    INSPECT_SCHEMA, Inspected, InspectedFile, InspectedPickle, InspectedTensor, LeftOutGroup, NamedGlobal,
    Place, Planned, RefusedCall, ValueGroup,
};
pub use verify::{Mismatch, VERIFY_SCHEMA, Verification};
