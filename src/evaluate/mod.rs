//! Measuring a model against labelled data.
//!
//! [`classification`] runs the model over pictures in class folders and measures its answers. [`proportion`] is a share
//! with its uncertainty; [`report`], [`text`] and [`markdown`] are what all reports are made of.

pub mod classification;
pub mod error;
pub mod markdown;
pub mod proportion;
pub mod report;
pub mod text;

pub use error::EvaluateError;
