//! A matrix of constants that activations of many frames are multiplied with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ndarray::Array2;
use tch::{Device, TchError, Tensor};

/// Tells a matrix and its copies from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixId(u64);

/// A matrix on the host and, once it was needed there, on a device, so that it is uploaded once and not with each frame.
#[derive(Debug)]
pub struct DeviceMatrix {
    id: MatrixId,
    host: Array2<f32>,
    /// Where it was needed last: an engine may give its GPU up.
    uploaded: Mutex<Option<Tensor>>,
}

impl DeviceMatrix {
    /// A matrix that no device needs yet.
    pub fn new(host: Array2<f32>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let id = MatrixId(MADE.fetch_add(1, Ordering::Relaxed));
        Self { id, host, uploaded: Mutex::new(None) }
    }

    /// Which one it is.
    pub fn id(&self) -> MatrixId {
        self.id
    }

    /// Its numbers.
    pub fn host(&self) -> &Array2<f32> {
        &self.host
    }

    /// The same on a device.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn on(&self, device: Device) -> Result<Tensor, TchError> {
        let mut uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = uploaded.as_ref().filter(|tensor| tensor.device() == device) {
            return Ok(tensor.shallow_clone());
        }
        let values: Vec<f32> = self.host.iter().copied().collect();
        let shape = [self.host.nrows() as i64, self.host.ncols() as i64];
        let tensor = Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_device(device)?;
        *uploaded = Some(tensor.shallow_clone());
        Ok(tensor)
    }
}

impl Clone for DeviceMatrix {
    /// The copy has not been uploaded.
    fn clone(&self) -> Self {
        Self { id: self.id, host: self.host.clone(), uploaded: Mutex::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn it_is_uploaded_once() {
        // Columns side by side in memory.
        let matrix = DeviceMatrix::new(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].reversed_axes());
        let (first, second) = (matrix.on(Device::Cpu).unwrap(), matrix.on(Device::Cpu).unwrap());
        assert_eq!((first.size(), first.double_value(&[1, 2])), (vec![2, 3], 6.0));
        assert_eq!(first.data_ptr(), second.data_ptr());
        let copy = matrix.clone();
        assert_ne!(copy.on(Device::Cpu).unwrap().data_ptr(), first.data_ptr());
        assert_eq!(copy.host(), matrix.host());
        assert_eq!(copy.id(), matrix.id());
        assert_ne!(DeviceMatrix::new(matrix.host().clone()).id(), matrix.id());
    }
}
