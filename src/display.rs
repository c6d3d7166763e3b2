//! Whether a window can be opened. OpenCV's window library ends the process where it cannot, so it is asked first.

/// Connects to the X display that DISPLAY names (a Wayland desktop has one, too) and leaves it again.
///
/// # Errors
///
/// Why there is none, on one line.
pub fn check() -> Result<(), String> {
    if std::env::var_os("DISPLAY").is_none_or(|display| display.is_empty()) {
        return Err("DISPLAY is not set".to_owned());
    }
    match x11rb::connect(None) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the X display that DISPLAY names does not answer ({error})")),
    }
}
