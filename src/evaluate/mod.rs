//! Measuring a model against labelled data.
//!
//! [`classification`] runs the model over pictures in class folders and measures its answers. [`localisation`] explains
//! pictures with annotated boxes and measures where the maps point. [`proportion`] is a share with its
//! uncertainty; [`report`], [`text`] and [`markdown`] are what all reports are made of.

pub mod classification;
pub mod error;
pub mod localisation;
pub mod markdown;
pub mod proportion;
pub mod report;
pub mod text;

pub use error::EvaluateError;
