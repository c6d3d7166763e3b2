//! What the contents of a feature cache depend on besides the pictures.

use sha2::{Digest, Sha256};
use tch::{Kind, TchError};

use crate::model::resnet::{ResNet18, Stage, stage_of};
use crate::model::tensors::to_bytes;

/// Raised whenever the layout of the file changes.
const FORMAT: u64 = 1;

/// Two caches of equal identity hold the same for the same pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(super) shape: [i64; 3],
    pub(super) digest: [u8; 32],
}

impl Identity {
    /// Identity of what `network` gives behind its stage `last_frozen`: maps of `shape` (channels, rows, columns).
    ///
    /// `preparation` names all else that decides a map: variation, input size, normalisation, seed, batch size of the
    /// filling, device.
    ///
    /// # Errors
    ///
    /// When libtorch cannot hand out a parameter.
    pub fn new(network: &ResNet18, last_frozen: Stage, shape: [i64; 3], preparation: &str) -> Result<Self, TchError> {
        let mut hash = Sha256::new();
        // Each part is led by its length, so that no two lists of parts run together into the same bytes.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&FORMAT.to_le_bytes());
        add(&shape.map(i64::to_le_bytes).concat());
        add(last_frozen.to_string().as_bytes());
        add(preparation.as_bytes());
        for (name, tensor) in network.named_tensors() {
            if stage_of(&name).is_some_and(|stage| stage <= last_frozen) {
                add(name.as_bytes());
                add(&to_bytes(tensor, Kind::Float)?);
            }
        }
        Ok(Self { shape, digest: hash.finalize().into() })
    }
}
