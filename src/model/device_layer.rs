//! What a stage of the network gave, left on the device where it was computed, and the few products that maps are made of.
//!
//! Maps are a hundredth of the activations that they are read from. On a GPU, only they need to leave it; and since the host knows
//! beforehand what it will ask ([`Questions`]), the answers are computed and sent with the forward pass, all at once, so that nobody
//! waits for one after another.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array1, Array2, ArrayView1, Axis, concatenate, s};
use tch::{Device, Kind, TchError, Tensor};

use super::ModelError;
use super::cuda::{Cuda, Mark, Stream};
use super::device_matrix::{DeviceMatrix, MatrixId};
use super::layer::Layer;
use super::tensors::to_rows;

/// What a stage of the network gave for one picture, on its device. It belongs to the thread that owns the engine.
#[derive(Debug)]
pub struct DeviceLayer {
    activations: Place,
    grid: (usize, usize),
    mean: Array1<f64>,
    answers: Option<Answers>,
}

/// Activations (positions, filters) where they were computed.
#[derive(Debug)]
enum Place {
    /// As our own convolutions leave them. They are no tensors: after some operations on these, threads of libtorch that have
    /// nothing left to do keep a processor busy for milliseconds.
    Host(Array2<f32>),
    Device(Tensor),
}

/// What will be asked about layers: [`DeviceLayer::times`] of some weights, and [`DeviceLayer::sums_of_squares`].
#[derive(Debug)]
pub struct Questions {
    /// Weights and directions side by side, (filters, columns + components).
    columns: DeviceMatrix,
    weights: (MatrixId, usize),
    spread: (MatrixId, MatrixId),
    /// (filters).
    centre: Array1<f64>,
    /// The centre along the directions, (components).
    centre_along: Array1<f64>,
}

/// The layer of one picture, which a device may still be computing.
#[derive(Debug)]
pub struct PendingLayer(Progress);

#[derive(Debug)]
enum Progress {
    Done(DeviceLayer),
    UnderWay { batch: Arc<Mutex<Batch>>, index: usize },
}

/// What is on its way for pictures that went through the network together.
#[derive(Debug)]
struct Batch {
    /// (N, positions, filters), on the device.
    activations: Tensor,
    grid: (usize, usize),
    /// Pictures in a row about which the same is asked.
    runs: Vec<Run>,
    /// Behind all of it; none where libtorch waits by itself.
    done: Option<Mark>,
}

/// Pictures in a row about which the same is asked.
#[derive(Debug)]
struct Run {
    first: usize,
    count: usize,
    asked: Option<Arc<Questions>>,
    /// For the host, of each picture: the mean of each filter and, if something is asked, the norm of all activations and their
    /// products with the columns, position by position.
    values: Tensor,
    /// The same, once it has arrived.
    arrived: OnceCell<Array2<f32>>,
}

#[derive(Debug)]
struct Answers {
    asked: Arc<Questions>,
    /// (positions, columns + components).
    products: Array2<f32>,
    /// Sum of the squares of all activations.
    squares: f64,
}

impl Questions {
    /// The products with `weights` (filters, columns), and the sums of squares around `centre` (1, filters) along `directions`
    /// (filters, components).
    ///
    /// # Panics
    ///
    /// When they differ in their filters.
    pub fn new(weights: &DeviceMatrix, centre: &DeviceMatrix, directions: &DeviceMatrix) -> Self {
        let columns = concatenate(Axis(1), &[weights.host().view(), directions.host().view()]);
        let middle = centre.host().row(0).mapv(f64::from);
        Self {
            columns: DeviceMatrix::new(columns.expect("all have the same filters")),
            weights: (weights.id(), weights.host().ncols()),
            spread: (centre.id(), directions.id()),
            centre_along: middle.dot(&directions.host().mapv(f64::from)),
            centre: middle,
        }
    }
}

impl PendingLayer {
    /// One a picture, from a batch (N, C, H, W) of any precision, and what will be asked about each. Where there is `cuda`, this
    /// returns before anything is computed.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn from_batch(
        batch: &Tensor,
        questions: &[Option<Arc<Questions>>],
        cuda: Option<&Arc<Cuda>>,
    ) -> Result<Vec<Self>, TchError> {
        let (_, _, rows, columns) = batch.size4()?;
        let grid = (rows.unsigned_abs() as usize, columns.unsigned_abs() as usize);
        // (N, C, H, W) -> (N, H W, C): a position's filters side by side, as every explainer reads them. Principal components
        // need single precision.
        let activations = batch.f_flatten(2, 3)?.f_transpose(1, 2)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let means = activations.f_mean_dim(1i64, false, Kind::Float)?;
        let mut runs = Vec::new();
        let mut first = 0;
        for run in questions.chunk_by(is_same) {
            let part = |of: &Tensor| of.f_narrow(0, first as i64, run.len() as i64);
            let mut values = part(&means)?;
            if let Some(asked) = &run[0] {
                let pictures = part(&activations)?;
                let norms = pictures.f_norm_scalaropt_dim(2.0, [1i64, 2].as_slice(), false)?;
                let products = pictures.f_matmul(&asked.columns.on(pictures.device())?)?;
                values = Tensor::f_cat(&[values, norms.f_unsqueeze(1)?, products.f_flatten(1, 2)?], 1)?;
            }
            let values = values.f_to_device_(Device::Cpu, Kind::Float, cuda.is_some(), false)?;
            runs.push(Run { first, count: run.len(), asked: run[0].clone(), values, arrived: OnceCell::new() });
            first += run.len();
        }
        let done = match cuda {
            Some(cuda) => {
                let mark = Mark::new(cuda)?;
                mark.set(Stream::Compute)?;
                Some(mark)
            }
            None => None,
        };
        let batch = Arc::new(Mutex::new(Batch { activations, grid, runs, done }));
        let of_picture = |index| Self(Progress::UnderWay { batch: Arc::clone(&batch), index });
        Ok((0..questions.len()).map(of_picture).collect())
    }

    /// Waits for it; for those of the same batch, too.
    ///
    /// # Errors
    ///
    /// When the device has failed, or an activation is not finite.
    pub fn wait(self) -> Result<DeviceLayer, ModelError> {
        match self.0 {
            Progress::Done(layer) => Ok(layer),
            Progress::UnderWay { batch, index } => batch.lock().unwrap_or_else(PoisonError::into_inner).layer(index),
        }
    }
}

#[cfg(test)]
impl PendingLayer {
    /// Whether answers come with it.
    pub(crate) fn is_asked(&self) -> bool {
        match &self.0 {
            Progress::Done(layer) => layer.answers.is_some(),
            Progress::UnderWay { batch, index } => {
                let batch = batch.lock().unwrap();
                let mut runs = batch.runs.iter();
                runs.any(|run| run.asked.is_some() && (run.first..run.first + run.count).contains(index))
            }
        }
    }
}

fn is_same(one: &Option<Arc<Questions>>, other: &Option<Arc<Questions>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

impl From<DeviceLayer> for PendingLayer {
    fn from(layer: DeviceLayer) -> Self {
        Self(Progress::Done(layer))
    }
}

impl Batch {
    fn layer(&self, index: usize) -> Result<DeviceLayer, ModelError> {
        let run = self.runs.iter().find(|run| (run.first..run.first + run.count).contains(&index));
        let run = run.expect("each picture is in a run");
        let arrived = match run.arrived.get() {
            Some(arrived) => arrived,
            None => {
                if let Some(done) = &self.done {
                    done.wait()?;
                }
                let arrived = to_rows(&run.values)?;
                run.arrived.get_or_init(|| arrived)
            }
        };
        let values = arrived.row(index - run.first);
        let filters = self.activations.size()[2].unsigned_abs() as usize;
        let mean = values.slice(s![..filters]).mapv(f64::from);
        // A sum with an infinite or undefined summand is not finite.
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        let answers = run.asked.as_ref().map(|asked| {
            let shape = (self.grid.0 * self.grid.1, asked.columns.host().ncols());
            let products = values.slice(s![filters + 1..]).to_owned().into_shape_with_order(shape);
            Answers {
                asked: Arc::clone(asked),
                products: products.expect("a product for each position and column"),
                squares: f64::from(values[filters]).powi(2),
            }
        });
        let activations = Place::Device(self.activations.f_get(index as i64)?);
        Ok(DeviceLayer { activations, grid: self.grid, mean, answers })
    }
}

impl Answers {
    /// See [`DeviceLayer::sums_of_squares`].
    fn sums_of_squares(&self, mean: ArrayView1<f64>) -> (f64, f64) {
        let Questions { weights: (_, columns), centre, centre_along, .. } = &*self.asked;
        let scores = self.products.slice(s![.., *columns..]);
        let centred = |score: &f32, centre: &f64| (f64::from(*score) - centre).powi(2);
        let along = |position: ArrayView1<f32>| -> f64 {
            position.iter().zip(centre_along).map(|(score, centre)| centred(score, centre)).sum()
        };
        // |A - 1 m'|^2 = |A|^2 - 2 P mean' m + P m' m.
        let positions = self.products.nrows() as f64;
        let total = self.squares - positions * (2.0 * mean.dot(centre) - centre.dot(centre));
        (scores.rows().into_iter().map(along).sum(), total.max(0.0))
    }
}

impl DeviceLayer {
    /// What a CPU computed.
    ///
    /// # Errors
    ///
    /// When an activation is not finite.
    pub(super) fn from_host(Layer { activations, grid }: Layer) -> Result<Self, ModelError> {
        let mut mean = Array1::zeros(activations.ncols());
        for position in activations.rows() {
            mean.zip_mut_with(&position, |sum, &value| *sum += f64::from(value));
        }
        mean /= activations.nrows() as f64;
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        Ok(Self { activations: Place::Host(activations), grid, mean, answers: None })
    }

    /// Rows and columns of positions.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Mean of each filter over the positions.
    pub fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    /// All activations, (positions, filters); of a GPU a copy.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn activations(&self) -> Result<Cow<'_, Array2<f32>>, ModelError> {
        Ok(match &self.activations {
            Place::Host(activations) => Cow::Borrowed(activations),
            Place::Device(activations) => Cow::Owned(to_rows(activations)?),
        })
    }

    /// The layer as plain data.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn into_host(self) -> Result<Layer, ModelError> {
        let activations = match self.activations {
            Place::Host(activations) => activations,
            Place::Device(activations) => to_rows(&activations)?,
        };
        Ok(Layer { activations, grid: self.grid })
    }

    /// The product of the activations and weights (filters, columns): (positions, columns).
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Panics
    ///
    /// When the weights are of other filters.
    pub fn times(&self, weights: &DeviceMatrix) -> Result<Array2<f32>, ModelError> {
        assert_eq!(weights.host().nrows(), self.mean.len(), "filters of the weights");
        if let Some(answers) = self.answers.as_ref().filter(|answers| answers.asked.weights.0 == weights.id()) {
            return Ok(answers.products.slice(s![.., ..answers.asked.weights.1]).to_owned());
        }
        match &self.activations {
            Place::Host(activations) => Ok(activations.dot(weights.host())),
            Place::Device(activations) => {
                let _no_gradients = tch::no_grad_guard();
                Ok(to_rows(&activations.f_matmul(&weights.on(activations.device())?)?)?)
            }
        }
    }

    /// With X the activations less `centre` (1, filters): |X V|^2 along orthonormal directions V (filters, components), and
    /// |X|^2.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Panics
    ///
    /// When centre or directions are of other filters.
    pub fn sums_of_squares(&self, centre: &DeviceMatrix, directions: &DeviceMatrix) -> Result<(f64, f64), ModelError> {
        let filters = [centre.host().ncols(), directions.host().nrows()];
        assert_eq!(filters, [self.mean.len(); 2], "filters of the centre and the directions");
        let asked = (centre.id(), directions.id());
        if let Some(answers) = self.answers.as_ref().filter(|answers| answers.asked.spread == asked) {
            return Ok(answers.sums_of_squares(self.mean.view()));
        }
        match &self.activations {
            Place::Host(activations) => {
                let centred = activations - centre.host();
                let scores = centred.dot(directions.host());
                let sum = |values: &Array2<f32>| values.iter().map(|&value| f64::from(value * value)).sum();
                Ok((sum(&scores), sum(&centred)))
            }
            Place::Device(activations) => {
                let _no_gradients = tch::no_grad_guard();
                let device = activations.device();
                let centred = activations.f_sub(&centre.on(device)?)?;
                let scores = centred.f_matmul(&directions.on(device)?)?;
                let sum = |values: &Tensor| values.f_square()?.f_sum(Kind::Double);
                // One transfer for both.
                let sums = Tensor::f_stack(&[sum(&scores)?, sum(&centred)?], 0)?.f_to_device(Device::Cpu)?;
                let sums = Vec::<f64>::try_from(&sums)?;
                Ok((sums[0], sums[1]))
            }
        }
    }
}

#[cfg(test)]
mod tests;
