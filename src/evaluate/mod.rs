//! Measuring a model against labelled data.
//!
//! [`classification`] runs the model over pictures in class folders and measures its answers. [`localisation`] explains
//! pictures with annotated boxes and measures where the maps point. [`scenes`] compares detections with all faces of a
//! picture.
//!
//! [`overlap`] tells how well boxes agree, [`proportion`] is a share with its uncertainty, and [`bootstrap`] tells that of
//! other figures. [`report`], [`text`], [`markdown`], [`problems`], [`lines`] and [`contact_sheet`] are what reports are made
//! of.

pub mod bootstrap;
pub mod classification;
pub mod contact_sheet;
pub mod error;
pub mod lines;
pub mod localisation;
pub mod markdown;
pub mod overlap;
pub mod problems;
pub mod proportion;
pub mod report;
pub mod scenes;
pub mod text;

pub use error::EvaluateError;
