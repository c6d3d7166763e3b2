//! Principal component analysis of activations: positions are samples, filters are variables.

pub mod fit;

pub use fit::{Basis, Components, PcaError, fit};
