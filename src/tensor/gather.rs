//! gather
/// Band
#[derive(Debug)]
pub struct Band;
/// Reader
#[derive(Debug)]
pub struct Reader;
/// Scratch
#[derive(Debug)]
pub struct Scratch;
