//! Forward passes that are recorded when a shape of batch comes for the second time, and from then on are told to the GPU by a
//! single call.

use std::cell::RefCell;
use std::sync::Arc;

use tch::{TchError, Tensor};

use super::cuda::Cuda;
use super::cuda::graph::{Graph, Recorder};

/// Shapes that are remembered at most. A run has two views of frames of a size or two, in batches of one to eight.
const MOST_SHAPES: usize = 32;

/// Pictures, rows and columns.
type Shape = [i64; 3];

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
            Some(Pass::Done) => self.record(&place, &network).unwrap_or_else(|error| {
                tracing::debug!("forward passes are no longer recorded: {error}");
                self.recorder.take();
                Pass::Done
            }),
            Some(recorded) => recorded,
        };
        if shapes.len() >= MOST_SHAPES {
            shapes.remove(0);
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
        place: impl Fn() -> Result<Tensor, TchError>,
        network: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Pass, TchError> {
        let recorder = self.recorder.borrow();
        let Some(recorder) = &*recorder else { return Ok(Pass::Done) };
        let input = place()?;
        let (graph, output) = recorder.record(|| network(&input))?;
        Ok(Pass::Recorded { graph, input, output })
    }
}
