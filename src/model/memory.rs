//! What happens when a device runs out of memory: smaller batches first, then the CPU.
//!
//! ```text
//! pass fails for want of memory ─┬─ several pictures ─► half as many, from now on ─┐
//!                                └─ a single one ─────► on the CPU, from now on ───┴─► the same pictures again
//! ```

use std::cell::Cell;

use tch::{Device, TchError};

use super::{ModelError, device};
use crate::frame::Batch;

/// How much goes through the network at once.
#[derive(Debug, Default)]
pub(super) struct PassLimit {
    /// In pixels, because pictures of several sizes take turns; without limit at first.
    pixels: Cell<Option<u64>>,
}

/// What can be done where a single picture is too much.
pub(super) enum Retreat {
    /// The network is on the CPU from now on.
    ToCpu,
    /// It is there already.
    Nowhere,
}

impl PassLimit {
    /// Sends pictures, all of one size (width, height), through `pass` in as few passes as memory allows, and gives its answers
    /// in their order. When `device` has no room for one, `retreat` moves the network.
    ///
    /// # Errors
    ///
    /// Those of `pass` and `retreat` that no smaller pass can avoid.
    pub(super) fn in_passes<P, A>(
        &self,
        pictures: &[P],
        size: (u32, u32),
        device: Device,
        mut pass: impl FnMut(&[P]) -> Result<Batch<A>, ModelError>,
        mut retreat: impl FnMut() -> Result<Retreat, ModelError>,
    ) -> Result<Batch<A>, ModelError> {
        let (width, height) = size;
        let pixels = (u64::from(width) * u64::from(height)).max(1);
        let mut answers = Batch::new();
        while answers.len() < pictures.len() {
            let left = &pictures[answers.len()..];
            let most = self.pixels.get().map_or(left.len(), |limit| (limit / pixels).max(1) as usize);
            let count = left.len().min(most);
            match pass(&left[..count]) {
                Ok(given) => {
                    debug_assert_eq!(given.len(), count);
                    answers.extend(given);
                }
                Err(error) if !is_out_of_memory(&error) => return Err(error),
                Err(_) if count > 1 => {
                    let half = count / 2;
                    self.pixels.set(Some(half as u64 * pixels));
                    tracing::warn!(
                        "{} has no memory for {count} pictures of {width}x{height} at once: {half} from now on; a \
                         smaller --batch avoids this",
                        device::name(device)
                    );
                }
                Err(error) => match retreat()? {
                    Retreat::Nowhere => return Err(error),
                    Retreat::ToCpu => {
                        self.pixels.set(None);
                        tracing::warn!(
                            "{} has no memory for a picture of {width}x{height}: computing on the CPU from now on; a \
                             smaller --scan needs less",
                            device::name(device)
                        );
                    }
                },
            }
        }
        Ok(answers)
    }
}

/// Whether libtorch failed for want of memory.
pub(super) fn is_out_of_memory(error: &ModelError) -> bool {
    matches!(error, ModelError::Torch(error) if is_shortage(error))
}

/// The same of an error of libtorch's, by what it says: it has no kinds.
pub(super) fn is_shortage(error: &TchError) -> bool {
    let TchError::Torch(message) = error else { return false };
    // The allocator's and CUDA's own; cuDNN's and cuBLAS's; that of the host.
    ["out of memory", "STATUS_ALLOC_FAILED", "can't allocate memory"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tch::{Device, Kind, Tensor};

    use super::*;

    /// What libtorch's allocator says.
    pub fn out_of_memory() -> ModelError {
        let message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.05 GiB is \
                       free.\nException raised from malloc at ...";
        ModelError::Torch(TchError::Torch(message.to_owned()))
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` gives, and the warnings that it logs.
    pub fn warnings_of<A>(work: impl FnOnce() -> A) -> (A, Vec<String>) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let given = tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        (given, text.lines().map(str::to_owned).collect())
    }

    /// A GPU with room for so many pictures, and a CPU that may take its place.
    struct Machine {
        room: Cell<usize>,
        cpu: bool,
        moved: Cell<bool>,
        /// Pictures in each pass.
        passes: Cell<Vec<usize>>,
    }

    impl Machine {
        fn new(room: usize, cpu: bool) -> Self {
            Self { room: Cell::new(room), cpu, moved: Cell::new(false), passes: Cell::default() }
        }

        fn answers(&self, limit: &PassLimit, pictures: &[u32], side: u32) -> Result<Batch<u32>, ModelError> {
            let pass = |pictures: &[u32]| {
                let mut passes = self.passes.take();
                passes.push(pictures.len());
                self.passes.set(passes);
                if pictures.len() > self.room.get() && !self.moved.get() {
                    return Err(out_of_memory());
                }
                Ok(pictures.iter().map(|picture| 10 * picture).collect())
            };
            let retreat = || {
                if !self.cpu || self.moved.replace(true) {
                    return Ok(Retreat::Nowhere);
                }
                Ok(Retreat::ToCpu)
            };
            limit.in_passes(pictures, (side, side), Device::Cuda(0), pass, retreat)
        }
    }

    #[test]
    fn batches_are_halved_until_they_fit_and_stay_so() {
        let (limit, machine) = (PassLimit::default(), Machine::new(2, true));
        let pictures: Vec<u32> = (0..8).collect();
        let expected: Vec<u32> = pictures.iter().map(|picture| 10 * picture).collect();
        let (answers, warnings) = warnings_of(|| machine.answers(&limit, &pictures, 100));
        assert_eq!(answers.unwrap().to_vec(), expected);
        assert_eq!(machine.passes.take(), [8, 4, 2, 2, 2, 2]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("cuda:0 has no memory for 4 pictures of 100x100 at once: 2 from now on"));

        let (answers, warnings) = warnings_of(|| machine.answers(&limit, &pictures[..5], 100));
        assert_eq!((answers.unwrap().to_vec(), machine.passes.take()), (expected[..5].to_vec(), vec![2, 2, 1]));
        assert!(warnings.is_empty() && !machine.moved.get());
        // As many pixels, in more pictures.
        machine.room.set(8);
        assert_eq!(machine.answers(&limit, &pictures, 50).unwrap().to_vec(), expected);
        assert_eq!(machine.passes.take(), [8]);
        // A larger picture goes alone.
        machine.answers(&limit, &pictures[..3], 200).unwrap();
        assert_eq!(machine.passes.take(), [1, 1, 1]);
    }

    #[test]
    fn where_one_picture_is_too_much_the_cpu_takes_over() {
        let (limit, machine) = (PassLimit::default(), Machine::new(0, true));
        let pictures: Vec<u32> = (0..5).collect();
        let (answers, warnings) = warnings_of(|| machine.answers(&limit, &pictures, 100));
        assert_eq!(answers.unwrap().to_vec(), [0, 10, 20, 30, 40]);
        assert_eq!(machine.passes.take(), [5, 2, 1, 5], "the CPU has no limit");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[2].contains("no memory for a picture of 100x100: computing on the CPU from now on"));
        let (_, warnings) = warnings_of(|| machine.answers(&limit, &pictures, 100));
        assert_eq!((machine.passes.take(), warnings.len()), (vec![5], 0));
    }

    #[test]
    fn memory_that_runs_out_in_between_loses_no_answer() {
        let (limit, machine) = (PassLimit::default(), Machine::new(4, true));
        let pictures: Vec<u32> = (0..8).collect();
        assert_eq!(machine.answers(&limit, &pictures, 100).unwrap().len(), 8);
        assert_eq!(machine.passes.take(), [8, 4, 4]);
        // Somebody else takes what is left after the first pass.
        let done = Cell::new(0);
        let pass = |pictures: &[u32]| {
            done.set(done.get() + 1);
            if done.get() == 2 { Err(out_of_memory()) } else { Ok(pictures.into()) }
        };
        let retreat = || -> Result<Retreat, ModelError> { unreachable!("there is room for one") };
        let answers = limit.in_passes(&pictures, (100, 100), Device::Cuda(0), pass, retreat).unwrap();
        assert_eq!((answers.to_vec(), done.get()), (pictures, 4), "4, 4 that fail, 2, 2");
    }

    #[test]
    fn what_no_smaller_pass_avoids_is_an_error() {
        let machine = Machine::new(0, false);
        let error = machine.answers(&PassLimit::default(), &[1, 2], 100).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        let text = error.to_string();
        let advice = "is free; smaller batches (--batch, --batch-size) or pictures need less memory";
        assert!(text.contains("CUDA out of memory") && text.ends_with(advice), "{text}");
        assert_eq!(machine.passes.take(), [2, 1]);
        let passes = Cell::new(0);
        let pass = |_: &[u32]| {
            passes.set(passes.get() + 1);
            Err::<Batch<u32>, _>(ModelError::NotFinite)
        };
        let given = PassLimit::default().in_passes(&[1, 2], (1, 1), Device::Cuda(0), pass, || Ok(Retreat::ToCpu));
        assert!(matches!(given, Err(ModelError::NotFinite)) && passes.get() == 1, "it has nothing to do with memory");
    }

    #[test]
    fn want_of_memory_is_told_from_other_failures() {
        let of_host = Tensor::f_empty([1 << 50], (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(is_out_of_memory(&of_host.into()));
        for message in
            ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"]
        {
            assert!(is_out_of_memory(&ModelError::Torch(TchError::Torch(message.to_owned()))), "{message}");
        }
        let other = Tensor::zeros([2], (Kind::Float, Device::Cpu)).f_view([3]).unwrap_err();
        assert!(!is_out_of_memory(&other.into()) && !is_out_of_memory(&ModelError::NotFinite));
    }
}
