//! What a stage of the network gave, left on the device where it was computed, and the few products that maps are made of.
//!
//! Maps are a hundredth of the activations that they are read from. On a GPU, only they need to leave it; and since the host knows
//! beforehand what it will ask ([`Questions`]), the answers are computed and sent with the forward pass, all at once, so that nobody
//! waits for one after another.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate, s};
use tch::{Device, Kind, TchError, Tensor};

use super::ModelError;
use super::cuda::{Cuda, Mark, Stream};
use super::device_matrix::{DeviceMatrix, MatrixId};
use super::layer::Layer;
use super::memory::is_out_of_memory;
use super::tensors::to_rows;
use crate::frame::Batch;
use crate::recycled::Recycled;

/// What a stage of the network gave for one picture, on its device. It belongs to the thread that owns the engine.
#[derive(Debug)]
pub struct DeviceLayer {
    activations: Place,
    grid: (usize, usize),
    mean: Recycled<Array1<f64>>,
    answers: Option<Answers>,
}

/// Activations (positions, filters) where they were computed.
#[derive(Debug)]
enum Place {
    /// As our own convolutions leave them. They are no tensors: after some operations on these, threads of libtorch that have
    /// nothing left to do keep a processor busy for milliseconds.
    Host(Recycled<Array2<f32>>),
    /// Among those of a batch, in any precision.
    Device { batch: Arc<Mutex<LayerBatch>>, index: usize },
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
    UnderWay { batch: Arc<Mutex<LayerBatch>>, index: usize },
}

/// What is on its way for pictures that went through the network together.
#[derive(Debug)]
struct LayerBatch {
    /// (N, positions, filters) of any precision, on the device.
    activations: Tensor,
    grid: (usize, usize),
    /// Pictures in a row about which the same is asked.
    runs: Vec<Run>,
    /// Behind all of it; none where libtorch waits by itself.
    done: Option<Mark>,
    cuda: Option<Arc<Cuda>>,
}

/// Pictures in a row about which the same is asked.
#[derive(Debug)]
struct Run {
    first: usize,
    count: usize,
    asked: Option<Arc<Questions>>,
    /// For the host, of each picture: the mean of each filter and, if something is asked, sums of squares that add up to that of
    /// all activations, and their products with the columns, position by position.
    values: Tensor,
    /// How many sums of squares there are.
    sums: usize,
    /// The values, once they have arrived.
    arrived: OnceCell<Arc<Array2<f32>>>,
    /// Products with other weights than were known to be asked for, of all its pictures: (count, positions x columns).
    others: Option<(MatrixId, Array2<f32>)>,
}

/// What was asked about a picture.
#[derive(Debug)]
struct Answers {
    asked: Arc<Questions>,
    /// A picture's values are a row of it.
    values: Arc<Array2<f32>>,
    row: usize,
    /// Where in the row the sums of squares begin, and where the products.
    places: [usize; 2],
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
    ) -> Result<Batch<Self>, TchError> {
        let (_, _, rows, columns) = batch.size4()?;
        let grid = (rows.unsigned_abs() as usize, columns.unsigned_abs() as usize);
        // (N, C, H, W) -> (N, H W, C): a position's filters side by side, as every explainer reads them.
        let activations = batch.f_flatten(2, 3)?.f_transpose(1, 2)?.f_contiguous()?;
        let mut runs = Vec::new();
        let mut first = 0;
        for run in questions.chunk_by(is_same) {
            let pictures = activations.f_narrow(0, first as i64, run.len() as i64)?;
            let columns = run[0].as_ref().map(|asked| asked.columns.on(pictures.device())).transpose()?;
            let (values, sums) = match cuda.and_then(|cuda| cuda.kernels()) {
                Some(kernels) => kernels.read(&pictures, columns.as_ref())?,
                None => read(&pictures, columns.as_ref())?,
            };
            let values = values.f_to_device_(Device::Cpu, Kind::Float, cuda.is_some(), false)?;
            let asked = run[0].clone();
            runs.push(Run { first, count: run.len(), asked, values, sums, arrived: OnceCell::new(), others: None });
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
        let cuda = cuda.map(Arc::clone);
        let batch = Arc::new(Mutex::new(LayerBatch { activations, grid, runs, done, cuda }));
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
            Progress::UnderWay { batch, index } => DeviceLayer::of_batch(batch, index),
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

/// What [`Run`] has as values, of activations (N, positions, filters) and columns (filters, count), by libtorch; and how many sums
/// there are.
fn read(activations: &Tensor, columns: Option<&Tensor>) -> Result<(Tensor, usize), TchError> {
    // Principal components need single precision.
    let activations = activations.f_to_kind(Kind::Float)?;
    let mut values = vec![activations.f_mean_dim(1i64, false, Kind::Float)?];
    if let Some(columns) = columns {
        values
            .push(activations.f_square()?.f_sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Float)?.f_unsqueeze(1)?);
        values.push(activations.f_matmul(columns)?.f_flatten(1, 2)?);
    }
    Ok((Tensor::f_cat(&values, 1)?, 1))
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

fn lock(batch: &Mutex<LayerBatch>) -> MutexGuard<'_, LayerBatch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerBatch {
    fn place_of_run(&self, index: usize) -> usize {
        let place = self.runs.iter().position(|run| (run.first..run.first + run.count).contains(&index));
        place.expect("each picture is in a run")
    }

    /// Waits for all of it, and gives the run that a picture is in, and what it is told.
    fn run(&self, index: usize) -> Result<(&Run, &Arc<Array2<f32>>), ModelError> {
        let run = &self.runs[self.place_of_run(index)];
        if let Some(arrived) = run.arrived.get() {
            return Ok((run, arrived));
        }
        if let Some(done) = &self.done {
            done.wait()?;
        }
        let arrived = Arc::new(to_rows(&run.values)?);
        Ok((run, run.arrived.get_or_init(|| arrived)))
    }

    /// Something about the activations (N, positions, filters) of all pictures, which have arrived, without waiting for what the
    /// device was told since; on the host if the device has no memory for it. Matrices that are uploaded for it must not be used in
    /// another stream.
    fn ask<A>(&self, work: impl Fn(&Tensor) -> Result<A, TchError>) -> Result<A, ModelError> {
        let _no_gradients = tch::no_grad_guard();
        let answer = match &self.cuda {
            Some(cuda) => cuda.aside(|| work(&self.activations)),
            None => work(&self.activations),
        };
        match answer.map_err(ModelError::from) {
            Err(error) if is_out_of_memory(&error) => {
                tracing::debug!("activations are looked at on the host: {error}");
                Ok(work(&self.activations.f_to_device(Device::Cpu)?)?)
            }
            answer => answer,
        }
    }

    /// The products of a picture's activations with weights, position by position. Where other weights were known, it is the basis of
    /// the source that has changed, and the same will be asked about the other pictures of the run.
    fn products(&mut self, index: usize, weights: &DeviceMatrix) -> Result<Array1<f32>, ModelError> {
        let place = self.place_of_run(index);
        let Run { first, count, asked, others, .. } = &self.runs[place];
        if let Some((_, products)) = others.as_ref().filter(|(id, _)| *id == weights.id()) {
            return Ok(products.row(index - first).to_owned());
        }
        let (first, count) = if asked.is_some() { (*first, *count) } else { (index, 1) };
        let products = self.ask(|activations| {
            let activations = activations.f_narrow(0, first as i64, count as i64)?.f_to_kind(Kind::Float)?;
            to_rows(&activations.f_matmul(&weights.on(activations.device())?)?.f_flatten(1, 2)?)
        })?;
        let of_picture = products.row(index - first).to_owned();
        if count > 1 {
            self.runs[place].others = Some((weights.id(), products));
        }
        Ok(of_picture)
    }
}

impl Answers {
    /// Products with all columns, (positions, columns + components).
    fn products(&self) -> ArrayView2<'_, f32> {
        let products = self.values.slice(s![self.row, self.places[1]..]);
        let columns = self.asked.columns.host().ncols();
        let shape = (products.len() / columns, columns);
        products.into_shape_with_order(shape).expect("a product for each position and column")
    }

    /// Sum of the squares of all activations.
    fn squares(&self) -> f64 {
        let sums = self.values.slice(s![self.row, self.places[0]..self.places[1]]);
        sums.iter().copied().map(f64::from).sum()
    }

    /// See [`DeviceLayer::sums_of_squares`].
    fn sums_of_squares(&self, mean: ArrayView1<f64>) -> (f64, f64) {
        let Questions { weights: (_, columns), centre, centre_along, .. } = &*self.asked;
        let products = self.products();
        let scores = products.slice(s![.., *columns..]);
        let centred = |score: &f32, centre: &f64| (f64::from(*score) - centre).powi(2);
        let along = |position: ArrayView1<f32>| -> f64 {
            position.iter().zip(centre_along).map(|(score, centre)| centred(score, centre)).sum()
        };
        // |A - 1 m'|^2 = |A|^2 - 2 P mean' m + P m' m.
        let positions = products.nrows() as f64;
        let total = self.squares() - positions * (2.0 * mean.dot(centre) - centre.dot(centre));
        (scores.rows().into_iter().map(along).sum(), total.max(0.0))
    }
}

impl DeviceLayer {
    /// That of a picture of a batch, for which this waits.
    fn of_batch(batch: Arc<Mutex<LayerBatch>>, index: usize) -> Result<Self, ModelError> {
        let locked = lock(&batch);
        let (run, values) = locked.run(index)?;
        let row = index - run.first;
        let filters = locked.activations.size()[2].unsigned_abs() as usize;
        let mean = values.slice(s![row, ..filters]);
        let mean = Recycled::of(filters, mean.iter().copied().map(f64::from));
        // A sum with an infinite or undefined summand is not finite.
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        let answers = run.asked.as_ref().map(|asked| {
            let places = [filters, filters + run.sums];
            Answers { asked: Arc::clone(asked), values: Arc::clone(values), row, places }
        });
        let grid = locked.grid;
        drop(locked);
        Ok(Self { activations: Place::Device { batch, index }, grid, mean, answers })
    }

    /// What a CPU computed.
    ///
    /// # Errors
    ///
    /// When an activation is not finite.
    pub(super) fn from_host(Layer { activations, grid }: Layer) -> Result<Self, ModelError> {
        let mut mean = Recycled::<Array1<f64>>::filled(activations.ncols(), 0.0);
        for position in activations.rows() {
            mean.zip_mut_with(&position, |sum, &value| *sum += f64::from(value));
        }
        *mean /= activations.nrows() as f64;
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        Ok(Self { activations: Place::Host(activations.into()), grid, mean, answers: None })
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
            Place::Device { batch, index } => Cow::Owned(activations_of(batch, *index)?),
        })
    }

    /// The layer as plain data.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn into_host(self) -> Result<Layer, ModelError> {
        let activations = match self.activations {
            Place::Host(activations) => activations.take(),
            Place::Device { batch, index } => activations_of(&batch, index)?,
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
    pub fn times(&self, weights: &DeviceMatrix) -> Result<Recycled<Array2<f32>>, ModelError> {
        assert_eq!(weights.host().nrows(), self.mean.len(), "filters of the weights");
        if let Some(answers) = self.answers.as_ref().filter(|answers| answers.asked.weights.0 == weights.id()) {
            let products = answers.products();
            let products = products.slice(s![.., ..answers.asked.weights.1]);
            return Ok(Recycled::of(products.raw_dim(), products.iter().copied()));
        }
        match &self.activations {
            Place::Host(activations) => Ok(product(activations, weights.host())),
            Place::Device { batch, index } => {
                let products = lock(batch).products(*index, weights)?;
                let shape = (self.grid.0 * self.grid.1, weights.host().ncols());
                let products = products.into_shape_with_order(shape);
                Ok(products.expect("a product for each position and column").into())
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
                let mut centred = Recycled::of(activations.raw_dim(), activations.iter().copied());
                *centred -= centre.host();
                let scores = product(&centred, directions.host());
                let sum = |values: &Array2<f32>| values.iter().map(|&value| f64::from(value * value)).sum();
                Ok((sum(&scores), sum(&centred)))
            }
            Place::Device { batch, index } => {
                let sums = lock(batch).ask(|activations| {
                    let device = activations.device();
                    let activations = activations.f_get(*index as i64)?.f_to_kind(Kind::Float)?;
                    let centred = activations.f_sub(&centre.on(device)?)?;
                    let scores = centred.f_matmul(&directions.on(device)?)?;
                    let sum = |values: &Tensor| values.f_square()?.f_sum(Kind::Double);
                    // One transfer for both.
                    let sums = Tensor::f_stack(&[sum(&scores)?, sum(&centred)?], 0)?.f_to_device(Device::Cpu)?;
                    Vec::<f64>::try_from(&sums)
                })?;
                Ok((sums[0], sums[1]))
            }
        }
    }
}

/// The product of matrices (rows, n) and (n, columns).
fn product(left: &Array2<f32>, right: &Array2<f32>) -> Recycled<Array2<f32>> {
    let mut product = Recycled::filled((left.nrows(), right.ncols()), 0.0);
    general_mat_mul(1.0, left, right, 0.0, &mut *product);
    product
}

/// Activations (positions, filters) of a picture of a batch.
fn activations_of(batch: &Mutex<LayerBatch>, index: usize) -> Result<Array2<f32>, ModelError> {
    lock(batch).ask(|activations| to_rows(&activations.f_get(index as i64)?.f_to_kind(Kind::Float)?))
}

#[cfg(test)]
mod tests;
