//! From libtorch's tensors to plain data.

use ndarray::Array2;
use tch::{Device, Kind, TchError, Tensor};

/// Copies a matrix off its device, in single precision.
///
/// # Errors
///
/// When it is no matrix, or libtorch refuses.
pub fn to_rows(matrix: &Tensor) -> Result<Array2<f32>, TchError> {
    let (rows, columns) = matrix.size2()?;
    let matrix = matrix.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; matrix.numel()];
    matrix.f_copy_data(&mut values, matrix.numel())?;
    let shape = (rows.unsigned_abs() as usize, columns.unsigned_abs() as usize);
    Ok(Array2::from_shape_vec(shape, values).expect("a matrix holds rows x columns values"))
}

/// Copies a tensor off its device as the bytes of numbers of `kind`, row by row.
///
/// # Errors
///
/// When libtorch refuses.
pub fn to_bytes(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>, TchError> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
