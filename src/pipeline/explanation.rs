//! The explanation stage: waits for the network's answers, reads maps from them, finds boxes, and passes all on in its order.

use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::Problem;
use super::inference::Submitted;
use super::stages::{Analysed, Captured};
use crate::analyse::Completion;
use crate::gate::{Gate, Verdict};
use crate::shutdown::Shutdown;

/// Completes batches until inference ends, and says of each that it is.
pub(super) fn explain(
    batches: &Receiver<Submitted>,
    mut completion: Completion,
    gate: &Mutex<Gate>,
    shutdown: &Shutdown,
    output: &Sender<Analysed>,
    explained: &Sender<()>,
) -> Option<Problem> {
    let gate = || gate.lock().unwrap_or_else(PoisonError::into_inner);
    for Submitted { messages, pending } in batches {
        let mut analyses = completion.complete(pending).into_iter();
        for (captured, verdict) in messages {
            let message = match captured {
                Captured::Closed { source, error } => {
                    completion.forget(source);
                    gate().forget(source);
                    Analysed::Closed { source, error }
                }
                Captured::State { source, state } => {
                    if !state.delivers() {
                        gate().forget(source);
                    }
                    Analysed::State { source, state }
                }
                Captured::Frame { source, info, policy, frame } => {
                    let analysis = match verdict.expect("a verdict on each frame") {
                        Verdict::Same(analysis) => *analysis,
                        Verdict::Changed(appearance) => {
                            match analyses.next().expect("an answer for each frame, in their order") {
                                Ok(analysis) => {
                                    gate().keep(source, frame.pts, appearance, &analysis);
                                    analysis
                                }
                                Err(error) => {
                                    // A network that fails on one frame fails on the next.
                                    shutdown.request();
                                    let (origin, frame) = (info.name.clone(), frame.index);
                                    return Some(Problem::Analyse { origin, frame, error });
                                }
                            }
                        }
                    };
                    Analysed::Frame { source, info, policy, frame, analysis }
                }
            };
            if output.send(message).is_err() {
                return None;
            }
        }
        // Inference may have ended.
        let _ = explained.send(());
    }
    None
}
