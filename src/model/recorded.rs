//! Forward passes that are recorded when a shape of batch comes for the second time, and from then on are told to the GPU by a
//! single call.

use std::cell::RefCell;
use std::sync::Arc;

use tch::{TchError, Tensor};

use super::cuda::Cuda;
use super::cuda::graph::{Graph, Recorder};
use super::first_line;
use super::resnet::Resolution;

/// Shapes that are remembered at most. A run has two views of frames of a size or two, in batches of one to eight.
const MOST_SHAPES: usize = 32;
/// Bytes of input and output of recorded passes, beyond which no more are recorded: 64 pictures of 896x512 take 0.3 GB.
const MOST_BYTES: usize = 2 << 30;

/// Pictures, rows and columns, and what is read of them.
type Shape = ([i64; 3], Resolution);

/// The passes of a network, by the shape of their batch.
#[derive(Debug)]
pub(super) struct RecordedPasses {
    /// None once it has failed: libtorch does not end a recording that failed.
    recorder: RefCell<Option<Recorder>>,
    /// Those that were used last come last.
    shapes: RefCell<Vec<(Shape, Pass)>>,
}

#[derive(Debug)]
enum Pass {
    /// It was done once.
    Done,
    Recorded {
        graph: Graph,
        input: Tensor,
        output: Tensor,
    },
}

impl RecordedPasses {
    /// None yet.
    ///
    /// # Errors
    ///
    /// When libtorch does not have what it takes.
    pub(super) fn new(cuda: &Arc<Cuda>) -> Result<Self, TchError> {
        Ok(Self { recorder: Some(Recorder::new(cuda)?).into(), shapes: RefCell::default() })
    }

    /// What `network` makes of what `put` puts in a `place` for input of a shape.
    ///
    /// # Errors
    ///
    /// Theirs.
    pub(super) fn run(
        &self,
        shape: Shape,
        place: impl Fn() -> Result<Tensor, TchError>,
        put: impl Fn(&Tensor) -> Result<(), TchError>,
        network: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let mut shapes = self.shapes.borrow_mut();
        let known = shapes.iter().position(|(known, _)| *known == shape).map(|index| shapes.remove(index).1);
        let pass = match known {
            None => Pass::Done,
            Some(Pass::Done) => {
                let held: usize = shapes.iter().map(|(_, pass)| pass.bytes()).sum();
                self.record(held, &place, &network).unwrap_or_else(|error| {
                    let reason = first_line(&error);
                    tracing::warn!("the GPU is slower than it could be: forward passes are not recorded ({reason})");
                    self.recorder.take();
                    Pass::Done
                })
            }
            Some(recorded) => recorded,
        };
        if shapes.len() >= MOST_SHAPES {
            // libtorch gives the memory that recorded passes share up with the last of them.
            let oldest = shapes.iter().position(|(_, pass)| matches!(pass, Pass::Done)).unwrap_or(0);
            shapes.remove(oldest);
        }
        shapes.push((shape, pass));
        match shapes.last_mut() {
            Some((_, Pass::Recorded { graph, input, output })) => {
                put(input)?;
                graph.play()?;
                // The next pass puts its own there.
                let mut copy = output.f_empty_like()?;
                copy.f_copy_(output)?;
                Ok(copy)
            }
            _ => {
                let input = place()?;
                put(&input)?;
                network(&input)
            }
        }
    }

    fn record(
        &self,
        held: usize,
        place: impl Fn() -> Result<Tensor, TchError>,
        network: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Pass, TchError> {
        let recorder = self.recorder.borrow();
        let Some(recorder) = &*recorder else { return Ok(Pass::Done) };
        let input = place()?;
        if held + bytes(&input) > MOST_BYTES {
            return Ok(Pass::Done);
        }
        let (graph, output) = recorder.record(|| network(&input))?;
        Ok(Pass::Recorded { graph, input, output })
    }
}

impl Pass {
    fn bytes(&self) -> usize {
        match self {
            Self::Done => 0,
            Self::Recorded { input, output, .. } => bytes(input) + bytes(output),
        }
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}
