//! The methods by name.

use std::fmt;
use std::str::FromStr;

use super::ablation_cam::AblationCam;
use super::cam::Cam;
use super::eigen_cam::EigenCam;
use super::grad_cam::GradCam;
use super::grad_cam_plus_plus::GradCamPlusPlus;
use super::haycam::{HayCam, PAPER_COMPONENTS, Reading};
use super::layer_cam::LayerCam;
use super::occlusion::Occlusion;
use super::score_cam::ScoreCam;
use super::x_grad_cam::XGradCam;
use super::{Explainer, HayCamRefined, ReadAt};
use crate::model::engine::Tap;
use crate::pca::Components;

/// A method to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`Cam`].
    Cam,
    /// [`GradCam`].
    GradCam,
    /// [`GradCamPlusPlus`].
    GradCamPlusPlus,
    /// [`XGradCam`].
    XGradCam,
    /// [`LayerCam`] at `layer4`.
    LayerCam,
    /// [`LayerCam`] at `layer3`, where [`HayCamRefined`] reads.
    LayerCamLayer3,
    /// [`EigenCam`].
    EigenCam,
    /// [`ScoreCam`].
    ScoreCam,
    /// [`AblationCam`].
    AblationCam,
    /// [`Occlusion`].
    Occlusion,
    /// [`HayCam`] with positions as samples.
    HayCam,
    /// [`HayCam`] with filters as samples.
    HayCamFilters,
    /// [`HayCam`] by the filters' loadings.
    HayCamLoadings,
    /// [`HayCamRefined`].
    HayCamRefined,
}

/// What can be set on methods.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodSettings {
    /// Principal components of all kinds of HayCAM; if not given, those of the paper and of [`HayCamRefined`]'s default.
    pub components: Option<Components>,
    /// The switches of the refined one; its components are those above if they are given.
    pub refined: HayCamRefined,
}

impl MethodSettings {
    /// The refined method as it is set.
    pub fn refined(&self) -> HayCamRefined {
        HayCamRefined { components: self.components.unwrap_or(self.refined.components), ..self.refined }
    }
}

impl Method {
    /// Every method, in the order of tables; other readings of the paper's algorithm are left out.
    pub const ALL: [Self; 12] = [
        Self::Cam,
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::XGradCam,
        Self::LayerCam,
        Self::LayerCamLayer3,
        Self::EigenCam,
        Self::ScoreCam,
        Self::AblationCam,
        Self::Occlusion,
        Self::HayCam,
        Self::HayCamRefined,
    ];

    /// Other readings of the HayCAM paper's algorithm.
    pub const READINGS: [Self; 2] = [Self::HayCamFilters, Self::HayCamLoadings];

    /// Whether its map is one product with `layer4`'s activations under a basis, which may be that of an earlier frame.
    pub fn keeps_basis(self, settings: &MethodSettings) -> bool {
        match self {
            Self::HayCam => true,
            Self::HayCamRefined => settings.refined().read_at == ReadAt::Layer4,
            _ => false,
        }
    }

    /// The name to choose it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cam => "cam",
            Self::GradCam => "gradcam",
            Self::GradCamPlusPlus => "gradcam++",
            Self::XGradCam => "xgradcam",
            Self::LayerCam => "layercam",
            Self::LayerCamLayer3 => "layercam-layer3",
            Self::EigenCam => "eigencam",
            Self::ScoreCam => "scorecam",
            Self::AblationCam => "ablationcam",
            Self::Occlusion => "occlusion",
            Self::HayCam => "haycam",
            Self::HayCamFilters => "haycam-filters",
            Self::HayCamLoadings => "haycam-loadings",
            Self::HayCamRefined => "haycam-refined",
        }
    }

    /// The name for tables and pictures, as its authors write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cam => "CAM",
            Self::GradCam => "GradCAM",
            Self::GradCamPlusPlus => "GradCAM++",
            Self::XGradCam => "XGradCAM",
            Self::LayerCam => "LayerCAM",
            Self::LayerCamLayer3 => "LayerCAM at layer3",
            Self::EigenCam => "EigenCAM",
            Self::ScoreCam => "ScoreCAM",
            Self::AblationCam => "AblationCAM",
            Self::Occlusion => "Occlusion",
            Self::HayCam => "HayCAM",
            Self::HayCamFilters => "HayCAM by filters",
            Self::HayCamLoadings => "HayCAM by loadings",
            Self::HayCamRefined => "HayCAM refined",
        }
    }

    /// The method, ready to explain.
    pub fn explainer(self, settings: MethodSettings) -> Box<dyn Explainer> {
        let haycam = |reading| {
            let components = settings.components.unwrap_or(Components::Count(PAPER_COMPONENTS));
            Box::new(HayCam { components, reading })
        };
        match self {
            Self::Cam => Box::new(Cam),
            Self::GradCam => Box::new(GradCam),
            Self::GradCamPlusPlus => Box::new(GradCamPlusPlus),
            Self::XGradCam => Box::new(XGradCam),
            Self::LayerCam => Box::new(LayerCam { tap: Tap::Layer4 }),
            Self::LayerCamLayer3 => Box::new(LayerCam { tap: Tap::Layer3 }),
            Self::EigenCam => Box::new(EigenCam),
            Self::ScoreCam => Box::new(ScoreCam),
            Self::AblationCam => Box::new(AblationCam),
            Self::Occlusion => Box::new(Occlusion),
            Self::HayCam => haycam(Reading::Positions),
            Self::HayCamFilters => haycam(Reading::Filters),
            Self::HayCamLoadings => haycam(Reading::Loadings),
            Self::HayCamRefined => Box::new(settings.refined()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.into_iter().chain(Self::READINGS);
        all().find(|method| method.name() == text).ok_or_else(|| {
            let names: Vec<&str> = all().map(Self::name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_methods() {
        for method in Method::ALL.into_iter().chain(Method::READINGS) {
            assert_eq!(method.name().parse(), Ok(method));
        }
        assert!("gradcam+".parse::<Method>().unwrap_err().contains("gradcam++"));
    }
}
