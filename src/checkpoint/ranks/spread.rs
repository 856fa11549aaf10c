//! [`Spread`]: what all ranks have of one tensor, and whether that is all of it.

use std::collections::HashMap;

use crate::tensor::{Dtype, Region, View};

use super::super::SourceFile;
use super::super::folder::{FolderError, places};
use super::part::Part;

/// Type, shape, and parts of a tensor.
pub(super) type Consists = (Dtype, Box<[u64]>, Vec<(View, Region)>);

/// The parts of one tensor.
pub(super) struct Spread<'a> {
    pub(super) name: &'a str,
    pub(super) parts: &'a [(usize, &'a Part)],
    pub(super) files: &'a [SourceFile],
}

/// What has to be the same: a file and its view, twice.
pub(super) type Pair = ((usize, View), (usize, View));

impl Spread<'_> {
    /// What the tensor consists of, and what further ranks have of the same.
    pub(super) fn boxes(&self) -> Result<(Consists, Vec<Pair>), FolderError> {
        let Some((first_file, first)) = self.parts.first() else {
            return Err(FolderError::NoTensor { name: self.name.into() });
        };
        let said = |part: &Part| (part.dtype, part.shape.clone(), part.mesh.clone());
        if let Some((file, _)) = self.parts.iter().find(|(_, part)| said(part) != said(first)) {
            let what = "its type, its shape, or the mesh that it is spread over";
            let (first, second) = (self.file(*first_file), self.file(*file));
            return Err(FolderError::Differ { name: self.name.into(), what, first, second });
        }
        self.check_ranks(&first.mesh)?;
        let mut boxes: Vec<(View, Region)> = Vec::new();
        let mut known: HashMap<&Region, (usize, &View)> = HashMap::new();
        let mut further = Vec::new();
        for (file, part) in self.parts {
            for (view, region) in &part.boxes {
                if let Some((kept_file, kept)) = known.get(region) {
                    further.push(((*kept_file, (*kept).clone()), (*file, view.clone())));
                } else {
                    known.insert(region, (*file, view));
                    boxes.push((view.clone(), region.clone()));
                }
            }
        }
        Ok(((first.dtype, first.shape.clone(), boxes), further))
    }

    fn file(&self, number: usize) -> Box<str> {
        self.files.get(number).map_or("".into(), |file| file.name.clone())
    }

    /// Every rank of the mesh has a file, and none more files than another: a mesh may be one of several that each spread the
    /// tensor over their own ranks.
    fn check_ranks(&self, mesh: &[u64]) -> Result<(), FolderError> {
        let mut files: HashMap<&[u64], Vec<usize>> = HashMap::new();
        for (file, part) in self.parts {
            if let Some(rank) = &part.rank {
                files.entry(rank).or_default().push(*file);
            }
        }
        if let Some(rank) = places(mesh).find(|rank| !files.contains_key(&**rank)) {
            return Err(FolderError::NoRank { name: self.name.into(), rank, mesh: mesh.into() });
        }
        let fewest = files.values().map(Vec::len).min().unwrap_or(0);
        let mut doubled: Vec<_> = files.into_iter().filter(|(_, files)| files.len() > fewest).collect();
        doubled.sort_unstable();
        match doubled.first().map(|(rank, files)| (*rank, files.as_slice())) {
            Some((rank, [first, second, ..])) => {
                let (first, second) = (self.file(*first), self.file(*second));
                Err(FolderError::SameRank { first, second, rank: rank.into() })
            }
            _ => Ok(()),
        }
    }
}
