//! Which model decided: its file's name and what the file holds.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::ModelError;

/// Digits of the hash that are shown: enough to tell the models of a lifetime apart.
const DIGITS: usize = 12;

/// The name of a file and the first digits of its SHA-256: `resnet18-scenes.safetensors@0123456789ab`.
///
/// # Errors
///
/// When it cannot be read.
pub fn identity(path: &Path) -> Result<String, ModelError> {
    let unreadable = |error| ModelError::invalid(path, format!("it cannot be read ({error})"));
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(unreadable)?;
    std::io::copy(&mut file, &mut hasher).map_err(unreadable)?;
    let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(format!("{name}@{}", &digits[..DIGITS]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_name_and_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, example of one block.
        assert_eq!(identity(&path).unwrap(), "a.safetensors@ba7816bf8f01");
        assert!(identity(&folder.path().join("b")).is_err());
    }
}
