//! A window a source, through OpenCV.

use std::collections::HashMap;

use opencv::core::Mat;
use opencv::{highgui, imgproc};

use crate::shared::Shared;
use crate::shutdown::Shutdown;

use super::{Finding, Sink, SinkError, SourceContext, Written};

/// Shows annotated frames. The user ends the run with q, Escape, or by closing a window; a single picture
/// is shown until a key is pressed.
#[derive(Debug)]
pub struct Window {
    shutdown: Shutdown,
    titles: HashMap<usize, Title>,
    /// Kept for its memory.
    bgr: Mat,
    stop: bool,
}

/// A window by its title, which is how OpenCV tells them apart.
#[derive(Debug, Clone)]
struct Title {
    text: String,
    /// Whether it shows a single picture, which stays until the user has seen it.
    waits: bool,
}

const ESCAPE: i32 = 27;
/// How long a key is waited for at a time, in milliseconds.
const KEY_POLL_MILLIS: i32 = 30;
/// A larger frame is shown smaller; the window can be resized.
const LARGEST_PX: (i32, i32) = (1280, 800);

impl Window {
    /// Opens no window yet. `shutdown` ends the wait for a key.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, titles: HashMap::new(), bgr: Mat::default(), stop: false }
    }

    fn show(&mut self, title: &Title, finding: &Finding) -> opencv::Result<()> {
        let image = finding.annotated();
        let rgb = Mat::new_rows_cols_with_bytes::<opencv::core::Vec3b>(
            image.height() as i32,
            image.width() as i32,
            image.as_raw(),
        )?;
        imgproc::cvt_color_def(&rgb, &mut self.bgr, imgproc::COLOR_RGB2BGR)?;
        highgui::imshow(&title.text, &self.bgr)?;
        loop {
            let key = highgui::wait_key(if title.waits { KEY_POLL_MILLIS } else { 1 })?;
            let closed = highgui::get_window_property(&title.text, highgui::WND_PROP_VISIBLE)? < 1.0;
            self.stop |= closed || key == ESCAPE || key == i32::from(b'q');
            if !title.waits || self.stop || key >= 0 || self.shutdown.is_requested() {
                return Ok(());
            }
        }
    }
}

fn open_window(title: &str, width: u32, height: u32) -> opencv::Result<()> {
    highgui::named_window(title, highgui::WINDOW_NORMAL | highgui::WINDOW_KEEPRATIO | highgui::WINDOW_GUI_NORMAL)?;
    let scale = (f64::from(LARGEST_PX.0) / f64::from(width)).min(f64::from(LARGEST_PX.1) / f64::from(height)).min(1.0);
    highgui::resize_window(title, (f64::from(width) * scale) as i32, (f64::from(height) * scale) as i32)
}

fn failed(error: opencv::Error) -> SinkError {
    SinkError::Window(error.message.lines().next().unwrap_or("no message").trim().to_owned())
}

impl Sink for Window {
    fn name(&self) -> &'static str {
        "window"
    }

    fn needs_main_thread(&self) -> bool {
        true
    }

    fn open(&mut self, source: SourceContext) -> Result<(), SinkError> {
        let waits = source.info.frame_count == Some(1);
        let title = Title { text: format!("maskwatch: {}", source.info.name), waits };
        open_window(&title.text, source.info.width, source.info.height).map_err(failed)?;
        self.titles.insert(source.source, title);
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        let Some(title) = self.titles.get(&finding.source).cloned() else { return Ok(()) };
        self.show(&title, finding).map_err(failed)
    }

    fn close(&mut self, source: usize) -> Result<(), SinkError> {
        match self.titles.remove(&source) {
            // A window that the user has closed cannot be closed again.
            Some(_) if self.stop => Ok(()),
            Some(title) => highgui::destroy_window(&title.text).map_err(failed),
            None => Ok(()),
        }
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }

    fn wants_to_stop(&self) -> bool {
        self.stop
    }
}
