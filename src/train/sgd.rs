//! Stochastic gradient descent with momentum.
//!
//! Not `tch`'s: its optimisers cannot save their state, and a training that is to be resumed needs the velocities.

use tch::{TchError, Tensor};

/// SGD as PyTorch defines it: v <- momentum v + gradient; parameter <- parameter - rate v.
#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Parameter>,
    momentum: f64,
    weight_decay: f64,
}

/// What is changed by gradients, and how fast.
#[derive(Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
    velocity: Tensor,
    rate_factor: f64,
}

impl Sgd {
    /// An optimiser of the given parameters, which stay those of the network: name, tensor, and the factor on the
    /// learning rate.
    ///
    /// `weight_decay` adds that multiple of a parameter to its gradient.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn new(parameters: Vec<(String, Tensor, f64)>, momentum: f64, weight_decay: f64) -> Result<Self, TchError> {
        let parameters = parameters
            .into_iter()
            .map(|(name, tensor, rate_factor)| {
                let velocity = tensor.f_zeros_like()?;
                // Sets the flag on the tensor that this handle shares with the network.
                let tensor = tensor.f_set_requires_grad(true)?;
                Ok(Parameter { name, tensor, velocity, rate_factor })
            })
            .collect::<Result<_, TchError>>()?;
        Ok(Self { parameters, momentum, weight_decay })
    }

    /// Computes the gradients of `loss` and takes one step against them.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<(), TchError> {
        for parameter in &self.parameters {
            let mut gradient = parameter.tensor.f_grad()?;
            if gradient.defined() {
                let _cleared = gradient.f_zero_()?;
            }
        }
        loss.f_backward()?;
        let _no_gradients = tch::no_grad_guard();
        for Parameter { tensor, velocity, rate_factor, .. } in &mut self.parameters {
            let mut gradient = tensor.f_grad()?;
            if self.weight_decay != 0.0 {
                gradient = gradient.f_add(&tensor.f_mul_scalar(self.weight_decay)?)?;
            }
            *velocity = velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
            *tensor = tensor.f_sub_(&velocity.f_mul_scalar(learning_rate * *rate_factor)?)?;
        }
        Ok(())
    }

    /// The velocity of every parameter by the parameter's name: all that an optimiser remembers.
    pub fn velocities(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.velocity))
    }

    /// Takes up the velocities of an earlier optimiser of the same parameters.
    ///
    /// # Errors
    ///
    /// What `provide` returns for a name and a shape.
    pub fn restore<E: From<TchError>>(
        &mut self,
        mut provide: impl FnMut(&str, &[i64]) -> Result<Tensor, E>,
    ) -> Result<(), E> {
        for parameter in &mut self.parameters {
            let velocity = provide(&parameter.name, &parameter.tensor.size())?;
            parameter.velocity.f_copy_(&velocity)?;
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
        let slow = Tensor::from_slice(&[10.0f64]);
        let parameters = vec![("x".into(), x.shallow_clone(), 1.0), ("slow".into(), slow.shallow_clone(), 0.3)];
        let mut sgd = Sgd::new(parameters, 0.9, 0.01).unwrap();
        let mut expected = [10.0f64; 2];
        let mut velocity = [0.0; 2];
        for _ in 0..5 {
            let loss = ((&x - 3.0).square() + (&slow - 3.0).square()).sum(Kind::Double) / 2.0;
            sgd.step(&loss, 0.1).unwrap();
            for (index, (tensor, rate)) in [(&x, 0.1), (&slow, 0.03)].into_iter().enumerate() {
                velocity[index] = 0.9 * velocity[index] + (expected[index] - 3.0) + 0.01 * expected[index];
                expected[index] -= rate * velocity[index];
                assert!((tensor.double_value(&[0]) - expected[index]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_exactly() {
        let optimiser = |tensor: &Tensor| Sgd::new(vec![("x".into(), tensor.shallow_clone(), 1.0)], 0.9, 0.0).unwrap();
        let step = |sgd: &mut Sgd, x: &Tensor| sgd.step(&(x - 3.0).pow_tensor_scalar(4).sum(Kind::Double), 0.01);
        let x = Tensor::from_slice(&[1.0f64, 2.5]);
        let mut sgd = optimiser(&x);
        for _ in 0..3 {
            step(&mut sgd, &x).unwrap();
        }
        let copy = Tensor::from_slice(&[0.0f64, 0.0]);
        tch::no_grad(|| copy.shallow_clone().copy_(&x));
        let mut resumed = optimiser(&copy);
        let saved: Vec<(String, Tensor)> =
            sgd.velocities().map(|(name, tensor)| (name.into(), tensor.copy())).collect();
        resumed
            .restore(|name, shape| {
                let (saved_name, tensor) = &saved[0];
                assert_eq!((name, shape), (saved_name.as_str(), tensor.size().as_slice()));
                Ok::<_, TchError>(tensor.shallow_clone())
            })
            .unwrap();
        for _ in 0..3 {
            step(&mut sgd, &x).unwrap();
            step(&mut resumed, &copy).unwrap();
        }
        assert_eq!(x, copy);
    }
}
