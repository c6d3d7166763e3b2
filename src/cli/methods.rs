//! Which methods a command compares, and where their gradients come from.

use std::str::FromStr;

use clap::ValueEnum;

use crate::explain::{GradientSource, Method, Needs};

/// Methods in the order in which they are wanted; clap would take a bare list for an argument that repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(pub Vec<Method>);

impl Default for Methods {
    /// All that need no further forward passes.
    fn default() -> Self {
        let is_cheap = |method: &Method| method.explainer(Default::default()).needs() != Needs::Network;
        Self(Method::ALL.into_iter().filter(is_cheap).collect())
    }
}

/// Where gradients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GradientsArg {
    /// Worked out from the class weights
    ClosedForm,
    /// Back-propagated by libtorch
    Autograd,
}

impl From<GradientsArg> for GradientSource {
    fn from(gradients: GradientsArg) -> Self {
        match gradients {
            GradientsArg::ClosedForm => Self::ClosedForm,
            GradientsArg::Autograd => Self::Autograd,
        }
    }
}

impl FromStr for Methods {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Method::ALL.to_vec()));
        }
        let mut methods: Vec<Method> = Vec::new();
        for name in text.split(',') {
            let method = name.trim().parse()?;
            if methods.contains(&method) {
                return Err(format!("{method} is named twice"));
            }
            methods.push(method);
        }
        Ok(Self(methods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(text: &str) -> Result<Methods, String> {
        text.parse()
    }

    #[test]
    fn methods_keep_their_order_and_are_named_once() {
        assert_eq!(methods("haycam, cam"), Ok(Methods(vec![Method::HayCam, Method::Cam])));
        assert_eq!(methods("all").unwrap().0.len(), Method::ALL.len());
        assert!(methods("cam,haycam,cam").unwrap_err().contains("cam is named twice"));
        for text in ["", "cam,", "grad"] {
            assert!(methods(text).unwrap_err().contains("gradcam++"), "{text:?}");
        }
    }

    #[test]
    fn expensive_methods_are_asked_for_by_name() {
        let Methods(cheap) = Methods::default();
        assert!(!cheap.contains(&Method::ScoreCam) && !cheap.contains(&Method::Occlusion));
        assert_eq!(cheap.len(), Method::ALL.len() - 2);
    }
}
