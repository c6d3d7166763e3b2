//! A basis in the form in which it is kept: what drift is sampled with, and what tells it from others.

use std::fmt;
use std::time::Duration;

use ndarray::Axis;
use sha2::{Digest, Sha256};

use crate::model::device_matrix::DeviceMatrix;
use crate::pca::fit::Basis;

/// Tells one basis from another: the beginning of a hash of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BasisId(u64);

/// A frame of a source: its number among those the cache has seen, its time, and its grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStamp {
    /// From 0.
    pub frame: u64,
    /// Presentation time.
    pub pts: Duration,
    /// Rows and columns of positions.
    pub grid: (usize, usize),
}

/// A basis made ready for being kept, which is best done where it is fitted.
#[derive(Debug, Clone)]
pub struct KeptBasis {
    basis: Basis,
    id: BasisId,
    /// (filters, components) in single precision: drift is sampled with it.
    directions: DeviceMatrix,
    /// The kept mean in single precision, (1, filters).
    mean: DeviceMatrix,
    /// Mean squared distance of a position from the mean.
    spread: f64,
    fitted: FrameStamp,
}

impl fmt::Display for BasisId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl BasisId {
    fn of(basis: &Basis) -> Self {
        let mut hash = Sha256::new();
        for value in basis.mean.iter().chain(basis.directions.iter()) {
            hash.update(value.to_le_bytes());
        }
        let first = hash.finalize().first_chunk().copied().expect("a SHA-256 has 32 bytes");
        Self(u64::from_be_bytes(first))
    }
}

impl KeptBasis {
    /// Keeps what was fitted to a frame.
    pub fn new(basis: Basis, fitted: FrameStamp) -> Self {
        let positions = (fitted.grid.0 * fitted.grid.1).max(1) as f64;
        Self {
            id: BasisId::of(&basis),
            directions: DeviceMatrix::new(basis.directions.mapv(|value| value as f32)),
            mean: DeviceMatrix::new(basis.mean.mapv(|value| value as f32).insert_axis(Axis(0))),
            spread: basis.total_variance / positions,
            basis,
            fitted,
        }
    }

    /// What was fitted.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Which one it is.
    pub fn id(&self) -> BasisId {
        self.id
    }

    /// The frame that it was fitted to.
    pub fn fitted(&self) -> FrameStamp {
        self.fitted
    }

    /// Mean squared distance of a position from the mean at the fit.
    pub(super) fn spread(&self) -> f64 {
        self.spread
    }

    /// The directions in single precision, (filters, components).
    pub fn directions(&self) -> &DeviceMatrix {
        &self.directions
    }

    /// The kept mean in single precision, (1, filters).
    pub fn mean(&self) -> &DeviceMatrix {
        &self.mean
    }
}
