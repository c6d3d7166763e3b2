//! What the pipeline calls: pictures in, logits and activations out, as plain data.

use std::path::Path;

use image::RgbImage;
use ndarray::{Array1, Array2};
use tch::{Device, Kind};

use super::ModelError;
use super::checkpoint::{Model, ModelDescription};
use super::preprocess::to_input;
use super::tensors::to_rows;

/// A loaded model on its device. One thread owns it: libtorch's tensors can be sent, but not shared.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    device: Device,
    class_weights: Array2<f32>,
}

/// The network's answer for one picture.
#[derive(Debug, Clone)]
pub struct Inference {
    /// One number a class, unbounded.
    pub logits: Array1<f32>,
    /// Softmax of the logits over the model's temperature.
    pub probabilities: Array1<f32>,
    /// Activations at the tap, (positions, filters); positions run row by row.
    pub activations: Array2<f32>,
    /// Rows and columns of positions.
    pub grid: (usize, usize),
}

impl Engine {
    /// Loads a model file onto a device.
    ///
    /// # Errors
    ///
    /// See [`Model::load`].
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        let model = Model::load(path, device)?;
        let class_weights = to_rows(model.network.class_weights())?;
        Ok(Self { model, device, class_weights })
    }

    /// What the model file says of itself.
    pub fn description(&self) -> &ModelDescription {
        &self.model.description
    }

    /// Weights of the fully connected layer, (classes, filters).
    pub fn class_weights(&self) -> &Array2<f32> {
        &self.class_weights
    }

    /// Where the network runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs the network on prepared pictures, all of one size.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn infer(&self, prepared: &[RgbImage]) -> Result<Vec<Inference>, ModelError> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let _no_gradients = tch::no_grad_guard();
        let input = to_input(prepared, &self.model.description.normalisation, self.device)?;
        let activations = self.model.network.activations(&input)?;
        let logits = self.model.network.logits(&activations)?;
        let calibrated = logits.f_div_scalar(self.model.description.temperature)?;
        let probabilities = to_rows(&calibrated.f_softmax(1, Kind::Float)?)?;
        let logits = to_rows(&logits)?;
        let (_, filters, rows, columns) = activations.size4()?;
        // (N, C, H, W) -> (N, H W, C): a position's filters side by side, as every explainer reads them.
        let by_position = activations.f_flatten(2, 3)?.f_transpose(1, 2)?.f_contiguous()?;
        let grid = (rows.unsigned_abs() as usize, columns.unsigned_abs() as usize);
        let mut answers = Vec::with_capacity(prepared.len());
        for index in 0..prepared.len() {
            let activations = to_rows(&by_position.f_get(index as i64)?.f_view([rows * columns, filters])?)?;
            answers.push(Inference {
                logits: logits.row(index).to_owned(),
                probabilities: probabilities.row(index).to_owned(),
                activations,
                grid,
            });
        }
        Ok(answers)
    }
}
