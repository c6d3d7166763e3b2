//! Stochastic gradient descent with momentum.
//!
//! Not `tch`'s: its optimisers cannot save their state, and a training that is to be resumed needs the velocities.

use tch::{TchError, Tensor};

/// SGD as PyTorch defines it: v <- momentum v + gradient; parameter <- parameter - rate v.
#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    velocities: Vec<Tensor>,
    momentum: f64,
    weight_decay: f64,
}

impl Sgd {
    /// An optimiser of the given parameters, which stay those of the network.
    ///
    /// `weight_decay` adds that multiple of a parameter to its gradient.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn new(parameters: Vec<Tensor>, momentum: f64, weight_decay: f64) -> Result<Self, TchError> {
        let velocities = parameters.iter().map(Tensor::f_zeros_like).collect::<Result<_, _>>()?;
        for parameter in &parameters {
            // Sets the flag on the tensor that this handle shares with the network.
            let _shared = parameter.f_set_requires_grad(true)?;
        }
        Ok(Self { parameters, velocities, momentum, weight_decay })
    }

    /// Computes the gradients of `loss` and takes one step against them.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<(), TchError> {
        for parameter in &self.parameters {
            let mut gradient = parameter.f_grad()?;
            if gradient.defined() {
                let _cleared = gradient.f_zero_()?;
            }
        }
        loss.f_backward()?;
        let _no_gradients = tch::no_grad_guard();
        for (parameter, velocity) in self.parameters.iter_mut().zip(&mut self.velocities) {
            let mut gradient = parameter.f_grad()?;
            if self.weight_decay != 0.0 {
                gradient = gradient.f_add(&parameter.f_mul_scalar(self.weight_decay)?)?;
            }
            *velocity = velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
            *parameter = parameter.f_sub_(&velocity.f_mul_scalar(learning_rate)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    /// loss = (x - 3)^2 / 2, so the gradient is x - 3: the recurrence can be written down.
    #[test]
    fn steps_follow_the_recurrence_and_reach_the_shared_tensor() {
        let x = Tensor::from_slice(&[10.0f64]);
        let mut sgd = Sgd::new(vec![x.shallow_clone()], 0.9, 0.01).unwrap();
        let (mut expected, mut velocity) = (10.0f64, 0.0);
        for _ in 0..5 {
            let loss = (&x - 3.0).square().sum(Kind::Double) / 2.0;
            sgd.step(&loss, 0.1).unwrap();
            velocity = 0.9 * velocity + (expected - 3.0) + 0.01 * expected;
            expected -= 0.1 * velocity;
            assert!((x.double_value(&[0]) - expected).abs() < 1e-12);
        }
    }
}
