//! The opcodes of a pickle one by one, each with what it does to the stack and the memo, the names that it refers to and
//! their verdicts. The machine that a conversion uses carries them out, so that what is shown is what is judged.
//!
//! ```
//! use std::sync::Arc;
//!
//! use depickle::bytes::ReadAt;
//! use depickle::checkpoint::{OpenOptions, pickles};
//! use depickle::disasm::Listing;
//! use depickle::report::DisasmItem;
//!
//! let source: Arc<dyn ReadAt> = Arc::new(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.".to_vec());
//! let options = OpenOptions::default();
//! for pickle in pickles(&source, &options).found {
//!     for item in Listing::new(&pickle, &options.limits, 100).flatten() {
//!         if let DisasmItem::Op(op) = item {
//!             println!("{} {} {:?}", op.offset, op.opcode, op.call);
//!         }
//!     }
//! }
//! ```

mod argument;
mod listing;
mod python;

pub use listing::Listing;
pub use python::repr;
