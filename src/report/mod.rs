//! The documents that other programs read, as plain data: field by field in `docs/cli.md`. The manifest is in
//! [`custody`](crate::custody).

mod convert;
mod diff;
mod disasm;
mod inspect;
mod piece;
mod scan;
mod sign;
mod tool;
mod verify;

pub use convert::ConvertRecord;
pub use diff::{
    DIFF_SCHEMA, Diff, DiffCopy, DiffCounts, DiffDistance, DiffFile, DiffSide, DiffStatus, DiffTensor,
};
pub use disasm::{DISASM_SCHEMA, DisasmArg, DisasmItem, DisasmMemo, DisasmName, DisasmOp, DisasmRaw};
pub use inspect::{
    INSPECT_SCHEMA, Inspected, InspectedEncoding, InspectedFile, InspectedPickle, InspectedSource,
    InspectedTensor, LeftOutFile, LeftOutGroup, NamedGlobal, Place, Planned, RefusedCall, ValueGroup,
};
pub use piece::{Piece, Region};
pub use scan::{
    Coverage, FileVerdict, Finding, SCAN_SCHEMA, ScanError, ScanPolicy, ScanSummary, Scanned, ScannedFile,
    Severity,
};
pub use sign::{SIGN_SCHEMA, SignatureRecord};
pub use tool::Tool;
pub use verify::{Mismatch, VERIFY_SCHEMA, Verification};
