//! The classifier: ResNet18 in libtorch, from weights on disk to logits and activations.
//!
//! [`resnet`] is the network, [`weights`] the file format, [`checkpoint`] the three kinds of file a network can come from.
//!
//! ```text
//! frame ─► picture ─► forward ─┬─ cpu: convolutions of our own ─┬─► layer4 (layer, device_layer) ─► maps
//!                              └─ folded: libtorch ─────────────┘
//! ```
//!
//! [`preprocess`] is the way from pixels to the network's input on the host and `device_input` on a GPU, [`picture`] a picture
//! wherever the network looks at it, [`folded`] the network as it runs, and [`engine`] what the pipeline calls; `place`, [`precision`]
//! and `memory` say where it runs, with what numbers, and what happens when there is no room. `cuda` is what tch does not know of GPUs,
//! `recorded` the passes that a GPU is told of by a single call. What leaves the engine is plain data ([`layer`]), or can be
//! asked for it ([`device_layer`]), so that nothing downstream knows of libtorch.

pub mod checkpoint;
mod cpu;
mod cuda;
pub mod device;
mod device_input;
pub mod device_layer;
pub mod device_matrix;
pub mod engine;
pub mod folded;
pub mod forward;
pub mod identity;
pub mod layer;
mod memory;
pub mod picture;
mod place;
pub mod precision;
pub mod preprocess;
mod recorded;
pub mod resnet;
pub mod tensors;
pub mod upload;
pub mod weights;

#[cfg(test)]
mod gpu_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::exit_code::ExitCode;

/// What can go wrong between a weights file and a forward pass.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file is missing or cannot be read.
    #[error("cannot read the model {path}: {source}; give another", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a usable safetensors file.
    #[error("{path} is not a usable model file: {reason}", path = .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do where that is not plain.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; free some space or choose another path", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A parameter is beyond what can be stored.
    #[error("the training diverged: parameter {parameter} has values beyond what can be stored in {path}; lower --learning-rate", path = .path.display())]
    Overflow {
        /// The file.
        path: PathBuf,
        /// Name of the parameter.
        parameter: String,
    },
    /// The device that was asked for is not to be had.
    #[error("{0}")]
    Device(String),
    /// The threads of the forward pass cannot be started.
    #[error("cannot start the threads of the forward pass: {0}; ask for fewer with --threads")]
    Threads(String),
    /// The network's answer is no number.
    #[error("the network answers NaN or infinite values; the model file is probably damaged")]
    NotFinite,
    /// libtorch refused an operation.
    #[error("libtorch: {}{}", first_line(.0).trim_end_matches('.'), advice(.0))]
    Torch(#[from] tch::TchError),
}

impl ModelError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } | Self::Invalid { .. } => ExitCode::Input,
            Self::Unwritable { .. }
            | Self::Overflow { .. }
            | Self::Device(_)
            | Self::Threads(_)
            | Self::NotFinite
            | Self::Torch(_) => ExitCode::Failed,
        }
    }

    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), reason: reason.into() }
    }
}

/// What to do about it, if anything can be done.
fn advice(error: &tch::TchError) -> &'static str {
    if memory::is_shortage(error) {
        "; smaller batches (--batch, --batch-size) or pictures need less memory"
    } else {
        ""
    }
}

/// libtorch appends a C++ backtrace to its messages; only the first line is for people.
fn first_line(error: &tch::TchError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("Internal torch error: ").to_owned()
}
