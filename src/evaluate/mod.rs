//! Measuring a model against labelled data.

pub mod classification;
