//! Principal component analysis of activations: positions are samples, filters are variables.
//!
//! [`mod@fit`] is exact. [`truncated`] approximates the leading directions alone, for grids of hundreds of positions.
//! [`cache`] keeps a basis for the frames to come.

pub mod cache;
pub mod fit;
mod rows;
mod spectrum;
pub mod truncated;

pub use cache::{BasisCache, BasisId, CacheSettings, RefitCounts};
pub use fit::{Basis, Components, PcaError, fit};
pub use truncated::fit_truncated;
