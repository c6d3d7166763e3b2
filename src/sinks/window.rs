//! A window a source, through OpenCV.

use std::collections::HashMap;

use opencv::core::Mat;
use opencv::{highgui, imgproc};

use super::{Finding, Sink, SinkError, SourceContext, Written};

/// Shows annotated frames. The user ends the run with q, Escape, or by closing a window.
#[derive(Debug, Default)]
pub struct Window {
    titles: HashMap<usize, String>,
    /// Kept for its memory.
    bgr: Mat,
    stop: bool,
}

const ESCAPE: i32 = 27;
/// A larger frame is shown smaller; the window can be resized.
const LARGEST_PX: (i32, i32) = (1280, 800);

impl Window {
    fn show(&mut self, title: &str, finding: &Finding) -> opencv::Result<()> {
        let image = &finding.frame.image;
        let rgb = Mat::new_rows_cols_with_bytes::<opencv::core::Vec3b>(
            image.height() as i32,
            image.width() as i32,
            image.as_raw(),
        )?;
        imgproc::cvt_color_def(&rgb, &mut self.bgr, imgproc::COLOR_RGB2BGR)?;
        highgui::imshow(title, &self.bgr)?;
        let key = highgui::wait_key(1)?;
        let closed = highgui::get_window_property(title, highgui::WND_PROP_VISIBLE)? < 1.0;
        self.stop |= closed || key == ESCAPE || key == i32::from(b'q');
        Ok(())
    }
}

fn open_window(title: &str, width: u32, height: u32) -> opencv::Result<()> {
    highgui::named_window(title, highgui::WINDOW_NORMAL | highgui::WINDOW_KEEPRATIO)?;
    let scale = (f64::from(LARGEST_PX.0) / f64::from(width)).min(f64::from(LARGEST_PX.1) / f64::from(height)).min(1.0);
    highgui::resize_window(title, (f64::from(width) * scale) as i32, (f64::from(height) * scale) as i32)
}

fn failed(error: opencv::Error) -> SinkError {
    SinkError::Window(error.message.lines().next().unwrap_or("no message").trim().to_owned())
}

impl Sink for Window {
    fn wants_picture(&self) -> bool {
        true
    }

    fn open(&mut self, source: SourceContext) -> Result<(), SinkError> {
        let title = format!("maskwatch: {}", source.info.name);
        open_window(&title, source.info.width, source.info.height).map_err(failed)?;
        self.titles.insert(source.source, title);
        Ok(())
    }

    fn write(&mut self, finding: &Finding) -> Result<(), SinkError> {
        let Some(title) = self.titles.get(&finding.source).cloned() else { return Ok(()) };
        self.show(&title, finding).map_err(failed)
    }

    fn close(&mut self, source: usize) -> Result<(), SinkError> {
        match self.titles.remove(&source) {
            Some(title) => highgui::destroy_window(&title).map_err(failed),
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
