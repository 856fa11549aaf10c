//! cast
/// Cast
#[derive(Debug)]
pub struct Cast;
/// e
#[derive(Debug)]
pub struct CastError;
