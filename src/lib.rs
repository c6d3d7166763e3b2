//! maskwatch: a mask detector for video streams that shows why it decided as it did.
//!
//! ```text
//! source ─► capture ─► gate ─► analyse (classify, explain, box) ─► track ─► draw ─► sinks
//! ```
//!
//! Data flows one way. [`pipeline`] alone joins the stages and owns their threads and channels; [`capture`] delivers
//! frames, those that show something new ([`gate`]) are turned into plain findings by [`analyse`], with the [`model`], an
//! explainer ([`explain`], [`pca`]) and [`boxes`], or with a dense [`scan`]; [`track`] knows who is who, [`draw`] annotates,
//! [`sinks`] write. [`mod@train`] and [`evaluate`] use the same model and pictures ([`dataset`]), [`mod@bench`] times the
//! stages. [`cli`], [`config`] and [`commands`] are the program around it.
//!
//! A module imports only modules above it in the list that `tests/layering.rs` keeps.
#![deny(missing_docs)]

pub mod analyse;
pub mod bench;
pub mod blas;
pub mod boxes;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod display;
pub mod draw;
pub mod evaluate;
pub mod exit_code;
pub mod explain;
pub mod files;
pub mod frame;
pub mod gate;
pub mod geometry;
pub mod labels;
pub mod model;
pub mod pca;
pub mod pipeline;
pub mod plot;
pub mod progress;
pub mod recycled;
pub mod resize;
pub mod scan;
pub mod shared;
pub mod shutdown;
pub mod sinks;
pub mod stats;
pub mod stopwatch;
pub mod telemetry;
pub mod threads;
pub mod track;
pub mod train;
