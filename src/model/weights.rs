//! Tensors on disk: the safetensors format, both ways.
//!
//! Not `tch`'s `VarStore::load`, which broadcasts tensors of the wrong shape, ignores those it does not know, and
//! drops the metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

use super::ModelError;
use super::tensors::to_bytes;
use crate::files;

/// Named tensors in single precision on the CPU, and the file's metadata.
#[derive(Debug)]
pub struct Weights {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Free text by key, as stored in the header.
    pub metadata: HashMap<String, String>,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Two bytes a number: enough to run a network.
    Half,
    /// Four bytes a number: exactly what a training computes with.
    Single,
}

impl Weights {
    /// Reads a safetensors file. Counters of integers (torchvision's `num_batches_tracked`) are left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no safetensors file, or holds a tensor that is not of finite floats.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Unreadable { path: path.to_owned(), source })?;
        let not_safetensors = |error: safetensors::SafeTensorError| {
            ModelError::invalid(path, format!("it is damaged or not in the safetensors format ({error})"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not_safetensors)?;
        let file = SafeTensors::deserialize(&bytes).map_err(not_safetensors)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")) {
            let tensor = to_tensor(&view).ok_or_else(|| {
                ModelError::invalid(
                    path,
                    format!("parameter {name} is of type {:?}; convert it to F32 or F16", view.dtype()),
                )
            })??;
            if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(ModelError::invalid(path, format!("parameter {name} holds NaN or infinite values")));
            }
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { tensors, metadata: header.metadata().clone().unwrap_or_default() })
    }

    /// Writes a safetensors file, complete or not at all: it replaces `path` in one step.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; an earlier file of that name is then untouched.
    pub fn write(
        path: &Path,
        tensors: &[(String, &Tensor)],
        storage: Storage,
        metadata: HashMap<String, String>,
    ) -> Result<(), ModelError> {
        let (kind, dtype) = match storage {
            Storage::Half => (Kind::Half, Dtype::F16),
            Storage::Single => (Kind::Float, Dtype::F32),
        };
        let mut stored = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            if tensor.f_to_kind(kind)?.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(ModelError::Overflow { path: path.to_owned(), parameter: name.clone() });
            }
            let bytes = to_bytes(tensor, kind)?;
            let shape: Vec<usize> = tensor.size().iter().map(|&size| size.unsigned_abs() as usize).collect();
            stored.push((name, shape, bytes));
        }
        let mut views = Vec::with_capacity(stored.len());
        for (name, shape, bytes) in &stored {
            let view = TensorView::new(dtype, shape.clone(), bytes)
                .map_err(|error| ModelError::invalid(path, error.to_string()))?;
            views.push((name, view));
        }
        let serialised = safetensors::serialize(views, Some(metadata))
            .map_err(|error| ModelError::invalid(path, error.to_string()))?;
        files::replace(path, &serialised).map_err(|source| ModelError::Unwritable { path: path.to_owned(), source })
    }
}

/// `None` for a type that no network parameter has.
fn to_tensor(view: &TensorView) -> Option<Result<Tensor, tch::TchError>> {
    let kind = match view.dtype() {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        _ => return None,
    };
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    Some(Tensor::f_from_data_size(view.data(), &shape, kind).and_then(|tensor| tensor.f_to_kind(Kind::Float)))
}
