//! What tensors were that their library casts when it loads them, for the manifest: nothing of it is in an output.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::bytes::{ReadAt, Span, read_vec};
use crate::output::Digest;
use crate::tensor::{Cast, Dtype, Gathered, Tensor, TensorId};

use super::model::Model;

/// A tensor before it was cast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Its element type.
    pub(super) dtype: Dtype,
    /// Of its contiguous little-endian bytes.
    pub(super) sha256: Digest,
    /// Whether the cast kept every value.
    pub(super) exact: bool,
}

/// Every such tensor that is written.
///
/// # Errors
/// Those of reading.
pub(super) fn before(model: &Model) -> io::Result<HashMap<TensorId, Before>> {
    let planned = model.plan.tensors.iter().filter_map(|planned| {
        let tensor = model.opened.tensors.get(planned.tensor.index())?;
        Some((planned.tensor, tensor, tensor.cast_from?))
    });
    planned.map(|(id, tensor, dtype)| Ok((id, one(model, tensor, dtype)?))).collect()
}

fn one(model: &Model, tensor: &Tensor, dtype: Dtype) -> io::Result<Before> {
    /// Bytes at a time: a multiple of every element's.
    const BLOCK: u64 = 1 << 20;
    let gathered = || {
        let view = &tensor.pieces.as_ref()?.first()?.view;
        let storage = model.opened.storages.get(view.storage().index())?;
        let stream = model.opened.streams.shared(storage.place.stream())?;
        Gathered::new(stream, storage, view.clone())
    };
    let source: Arc<dyn ReadAt> = Arc::new(gathered().ok_or(io::ErrorKind::NotFound)?);
    let cast = Cast::new(tensor.view.dtype());
    let (mut hash, mut exact, mut at) = (Sha256::new(), true, 0);
    while at < source.size() {
        let next = at.saturating_add(BLOCK).min(source.size());
        let block = read_vec(&source, Span::between(at, next))?;
        hash.update(&block);
        let kept = cast.map_or(Ok(true), |cast| cast.convert(dtype, &block, &mut Vec::new()));
        exact &= kept.map_err(io::Error::other)?;
        at = next;
    }
    Ok(Before { dtype, sha256: Digest(hash.finalize().into()), exact })
}
