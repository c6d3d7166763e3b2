//! A matrix of constants that activations of many frames are multiplied with.

use std::cell::RefCell;

use ndarray::Array2;
use tch::{Device, TchError, Tensor};

/// A matrix on the host and, once it was needed there, on a device, so that it is uploaded once and not with each frame.
#[derive(Debug)]
pub struct DeviceMatrix {
    host: Array2<f32>,
    /// Where it was needed last: an engine may give its GPU up.
    uploaded: RefCell<Option<Tensor>>,
}

impl DeviceMatrix {
    /// A matrix that no device needs yet.
    pub fn new(host: Array2<f32>) -> Self {
        Self { host, uploaded: RefCell::new(None) }
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
        let mut uploaded = self.uploaded.borrow_mut();
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
    /// The copy has not been uploaded: it may go to another thread, and libtorch's tensors cannot be shared.
    fn clone(&self) -> Self {
        Self::new(self.host.clone())
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
    }
}
