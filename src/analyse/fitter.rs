//! The thread that fits bases beside the frames of live sources, so that none of them waits for it.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use ndarray::Array2;

use crate::explain::ExplainError;
use crate::pca::cache::{FrameStamp, KeptBasis};
use crate::pca::{Components, PcaError, fit_truncated};

/// A basis that is wanted.
#[derive(Debug)]
pub(super) struct Request {
    /// Tells whose it is.
    pub life: u64,
    /// The frame that it is fitted to.
    pub stamp: FrameStamp,
    /// (positions, filters).
    pub activations: Array2<f32>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Fitted {
    /// Whose it is.
    pub life: u64,
    /// The basis, if there is one.
    pub basis: Result<KeptBasis, PcaError>,
}

/// Owns the thread, which starts at the first request and ends when this is dropped.
#[derive(Debug)]
pub(super) struct Fitter {
    components: Components,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    requests: Sender<Request>,
    fitted: Receiver<Fitted>,
    thread: JoinHandle<()>,
}

impl Fitter {
    pub(super) fn new(components: Components) -> Self {
        Self { components, running: None }
    }

    /// Hands a request over, and says whether it was taken: a thread that is busy takes none, and the caller asks again with
    /// a later frame.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started or has ended.
    pub(super) fn offer(&mut self, request: Request) -> Result<bool, ExplainError> {
        let running = match &self.running {
            Some(running) => running,
            None => {
                let started = Running::start(self.components);
                let started =
                    started.map_err(|error| ExplainError::Fitter(format!("cannot start the basis thread: {error}")))?;
                self.running.insert(started)
            }
        };
        match running.requests.try_send(request) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(self.ended()),
        }
    }

    /// What was fitted since the last call; never waits.
    ///
    /// # Errors
    ///
    /// When the thread has ended.
    pub(super) fn take(&mut self) -> Result<Vec<Fitted>, ExplainError> {
        let mut taken = Vec::new();
        let Some(running) = &self.running else { return Ok(taken) };
        loop {
            match running.fitted.try_recv() {
                Ok(fitted) => taken.push(fitted),
                Err(TryRecvError::Empty) => return Ok(taken),
                Err(TryRecvError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Says why the thread has ended, which it never does while it is wanted.
    fn ended(&mut self) -> ExplainError {
        let panic = self.running.take().and_then(|running| running.join().err());
        let text = panic.and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        ExplainError::Fitter(format!("the basis thread failed: {}", text.as_deref().unwrap_or("no message")))
    }
}

impl Running {
    fn start(components: Components) -> io::Result<Self> {
        let (requests, wanted) = bounded::<Request>(1);
        let (done, fitted) = bounded(1);
        let work = move || {
            for Request { life, stamp, activations } in wanted {
                let basis = fit_truncated(activations.view(), components);
                let basis = basis.map(|basis| KeptBasis::new(basis, stamp));
                if done.send(Fitted { life, basis }).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("basis".to_owned()).spawn(work)?;
        Ok(Self { requests, fitted, thread })
    }

    /// Ends the thread, whether it waits for work or for somebody to take the result.
    fn join(self) -> std::thread::Result<()> {
        drop((self.requests, self.fitted));
        self.thread.join()
    }
}

impl Drop for Fitter {
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && running.join().is_err()
        {
            // Its message is out; nobody waits for its result any more.
            tracing::error!("the basis thread failed; this is a defect of maskwatch, please report it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const COMPONENTS: Components = Components::Count(3);

    fn request(life: u64, value: f32) -> Request {
        let activations = Array2::from_shape_fn((12, 8), |(row, column)| value * ((row * 7 + column * 3) % 11) as f32);
        let stamp = FrameStamp { frame: life, pts: Duration::ZERO, grid: (3, 4) };
        Request { life, stamp, activations }
    }

    /// Waits for a result; fails the test after 10 s.
    fn wait(fitter: &mut Fitter) -> Fitted {
        let started = Instant::now();
        loop {
            if let Some(fitted) = fitter.take().unwrap().pop() {
                return fitted;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "nothing was fitted");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_fitted_is_what_was_asked_for() {
        let mut fitter = Fitter::new(COMPONENTS);
        assert!(fitter.take().unwrap().is_empty());
        assert!(fitter.offer(request(7, 1.0)).unwrap());
        let Fitted { life, basis } = wait(&mut fitter);
        let kept = basis.unwrap();
        assert_eq!((life, kept.fitted()), (7, request(7, 1.0).stamp));
        let expected = fit_truncated(request(7, 1.0).activations.view(), COMPONENTS).unwrap();
        assert_eq!(kept.basis().directions, expected.directions);
        assert!(fitter.offer(request(8, f32::NAN)).unwrap());
        assert_eq!(wait(&mut fitter).basis.unwrap_err(), PcaError::NotFinite, "a failure does not end the thread");
    }

    #[test]
    fn a_busy_thread_takes_no_more_and_still_ends() {
        let mut fitter = Fitter::new(COMPONENTS);
        let started = Instant::now();
        // One result waits to be taken, one to be handed over, one request lies in the channel.
        for taken in 0..3 {
            while !fitter.offer(request(taken, 1.0)).unwrap() {
                assert!(started.elapsed() < Duration::from_secs(10), "{taken} were taken");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // As long as a fit may take, after which a longer queue would have room.
        let waited = Instant::now();
        while waited.elapsed() < Duration::from_millis(100) {
            assert!(!fitter.offer(request(3, 1.0)).unwrap(), "nobody has taken a result");
        }
        let started = Instant::now();
        drop(fitter);
        assert!(started.elapsed() < Duration::from_secs(10), "dropping it hangs");
    }

    #[test]
    fn a_thread_that_panics_is_named() {
        let mut fitter = Fitter::new(COMPONENTS);
        let (requests, wanted) = bounded(1);
        let (done, fitted) = bounded(1);
        let thread = std::thread::spawn(move || {
            drop((wanted, done));
            panic!("out of luck");
        });
        fitter.running = Some(Running { requests, fitted, thread });
        let started = Instant::now();
        let error = loop {
            if let Err(error) = fitter.take() {
                break error.to_string();
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the panic goes unnoticed");
        };
        assert!(error.contains("basis thread failed: out of luck"), "{error}");
        assert!(fitter.offer(request(1, 1.0)).unwrap(), "the next source has a thread again");
    }
}
