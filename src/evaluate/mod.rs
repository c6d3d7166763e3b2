//! Measuring a model against labelled data.
//!
//! [`classification`] runs the model and collects what it says of each picture. All figures follow from that:
//! [`metrics`] are pure functions of counts, [`calibration`] of probabilities, [`summary`] puts them together, and
//! [`report`] writes them for people and programs.

pub mod calibration;
pub mod classification;
pub mod metrics;
pub mod report;
pub mod summary;
