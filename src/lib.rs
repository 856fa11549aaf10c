//! lib
pub mod bytes;
pub mod limits;
pub mod pickle;
pub mod progress;
pub mod tensor;
