//! cuDNN's convolution that adds a shortcut and rectifies. tch has it, too, but panics where libtorch refuses: it drops the factor of
//! the shortcut, and with that unwraps the error, before it looks for one. So does every function of tch that takes a number.

use std::ffi::{CStr, c_void};
use std::ptr;

use tch::{TchError, Tensor};

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

/// Rectified sums of a convolution and a shortcut of their shape, on a GPU: `weight` is (filters, channels, rows, columns), `bias`
/// (filters).
///
/// # Errors
///
/// When libtorch refuses, for want of memory for example, or because tensors are not on a GPU.
pub(in crate::model) fn add_and_rectify(
    input: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    shortcut: &Tensor,
    strides: [i64; 2],
    paddings: [i64; 2],
    dilations: [i64; 2],
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: tensors outlive the call, which changes none of them, each list has two numbers, and the factor is freed once.
    let message = unsafe {
        let factor = torch_sys::ats_float(1.0);
        torch_sys::c_generated::atg_cudnn_convolution_add_relu(
            &raw mut output,
            input.as_ptr().cast_mut(),
            weight.as_ptr().cast_mut(),
            shortcut.as_ptr().cast_mut(),
            factor,
            bias.as_ptr().cast_mut(),
            strides.as_ptr(),
            2,
            paddings.as_ptr(),
            2,
            dilations.as_ptr(),
            2,
            1,
        );
        let message = torch_sys::get_and_reset_last_err();
        torch_sys::ats_free(factor);
        message
    };
    if message.is_null() {
        // SAFETY: without an error, the output is a tensor that nobody else has.
        return Ok(unsafe { Tensor::from_ptr(output) });
    }
    // SAFETY: a text that libtorch's interface has allocated for whoever asks.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        free(message.cast());
        text
    };
    Err(TchError::Torch(text))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::tests::gpu_or_stand_in;

    fn random(shape: &[i64], device: Device) -> Tensor {
        Tensor::f_randn(shape, (Kind::Float, Device::Cpu)).unwrap().f_to_device(device).unwrap()
    }

    #[test]
    fn it_is_three_operations_in_one_or_an_error() {
        let device = gpu_or_stand_in();
        let (input, weight) = (random(&[2, 8, 5, 7], device), random(&[4, 8, 3, 3], device));
        let (bias, shortcut) = (random(&[4], device), random(&[2, 4, 5, 7], device));
        let ours = add_and_rectify(&input, (&weight, &bias), &shortcut, [1; 2], [1; 2], [1; 2]);
        if device == Device::Cpu {
            assert!(!ours.unwrap_err().to_string().is_empty());
        } else {
            let expected = input.conv2d(&weight, Some(&bias), [1, 1], [1, 1], [1, 1], 1) + &shortcut;
            let difference = (ours.unwrap() - expected.relu()).abs().max().double_value(&[]);
            // cuDNN may multiply numbers of 19 bits.
            assert!(difference < 0.05, "{difference}");
        }
        let of_more_channels = random(&[4, 9, 3, 3], device);
        let ours = add_and_rectify(&input, (&of_more_channels, &bias), &shortcut, [1; 2], [1; 2], [1; 2]);
        assert!(ours.is_err());
        let _ = input.f_add(&input).expect("no error is left behind");
    }
}
