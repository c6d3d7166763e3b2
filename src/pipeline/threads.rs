//! The threads of a run: how they start, tell what happens, and end.
//!
//! Capture, inference, explanation and findings wait for nothing that has no end of its own, and are joined. A sink may hang in a disk or
//! a network that never answers; such a thread is left behind when the time after a signal is over, and ends with the
//! process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::delivery::{DRAIN, Driver};
use super::report::{Ending, Report};
use super::summary::Summary;
use super::{Observer, Problem, panic_message};
use crate::shutdown::Shutdown;
use crate::stats::RunStats;

/// How often the thread that waits for reports looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// How long this thread waits for a message to its sink before it looks at the reports.
const MOMENT: Duration = Duration::from_millis(10);

/// The threads of a run.
pub(super) struct Threads<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    reports: Sender<Report>,
    stats: Arc<RunStats>,
    shutdown: &'scope Shutdown,
    /// Names of those under way, by number; none once they have ended.
    names: Vec<Option<String>>,
    problems: Vec<Problem>,
}

impl<'scope, 'env> Threads<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        reports: Sender<Report>,
        stats: Arc<RunStats>,
        shutdown: &'scope Shutdown,
    ) -> Self {
        Self { scope, reports, stats, shutdown, names: Vec::new(), problems: Vec::new() }
    }

    /// Starts a stage that the run waits for whatever happens.
    pub(super) fn spawn(&mut self, stage: String, work: impl FnOnce() -> Ending + Send + 'scope) {
        let work = self.reporting(work);
        let started = std::thread::Builder::new().name(stage.clone()).spawn_scoped(self.scope, work);
        self.note(stage, started.err());
    }

    /// Starts a stage that is left behind if it does not end in time.
    pub(super) fn spawn_detached(&mut self, stage: String, work: impl FnOnce() -> Ending + Send + 'static) {
        let work = self.reporting(work);
        let started = std::thread::Builder::new().name(stage.clone()).spawn(work);
        self.note(stage, started.err());
    }

    fn reporting<F: FnOnce() -> Ending>(&self, work: F) -> impl FnOnce() + use<F> {
        let (thread, reports) = (self.names.len(), self.reports.clone());
        move || {
            let ending =
                catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Ending::Panic(panic_message(&*panic)));
            // Without a listener the run is over.
            let _ = reports.send(Report::Ended { thread, ending });
        }
    }

    fn note(&mut self, stage: String, error: Option<std::io::Error>) {
        match error {
            None => self.names.push(Some(stage)),
            Some(error) => {
                self.names.push(None);
                self.shutdown.request();
                self.problems.push(Problem::Thread { stage, error });
            }
        }
    }

    /// Passes on what the stages tell until all have ended, driving the sink that needs this thread meanwhile.
    pub(super) fn serve(
        mut self,
        reports: Receiver<Report>,
        on_main_thread: Option<Driver>,
        observer: &mut dyn Observer,
    ) -> Summary {
        let mut summary = Summary::default();
        for problem in std::mem::take(&mut self.problems) {
            self.tell(problem, &mut summary, observer);
        }
        let mut driver = on_main_thread;
        while driver.is_some() || self.names.iter().any(Option::is_some) {
            let patience = if driver.is_some() { Duration::ZERO } else { TICK };
            driver = driver.and_then(|driver| self.drive(driver, &mut summary, observer));
            match reports.recv_timeout(patience) {
                Ok(report) => {
                    for report in std::iter::once(report).chain(reports.try_iter()) {
                        self.heed(report, &mut summary, observer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.shutdown.since_signal().is_some_and(|since| since > DRAIN) {
                break;
            }
        }
        for stage in std::mem::take(&mut self.names).into_iter().flatten() {
            self.tell(Problem::Stuck { stage }, &mut summary, observer);
        }
        summary
    }

    /// Tells of a problem, once. A sink that it ended, which could not say so itself, is known to have failed.
    fn tell(&self, problem: Problem, summary: &mut Summary, observer: &mut dyn Observer) {
        if let Problem::Panic { stage, .. } | Problem::Stuck { stage } | Problem::Thread { stage, .. } = &problem {
            self.stats.sink_failed(stage, &problem);
        }
        observer.problem(&problem);
        summary.problems.push(problem);
    }

    /// Serves the sink of this thread for a moment; gives it back unless it has ended.
    fn drive(&self, mut driver: Driver, summary: &mut Summary, observer: &mut dyn Observer) -> Option<Driver> {
        let stage = driver.name();
        let step =
            catch_unwind(AssertUnwindSafe(|| if driver.step(MOMENT) { Ok(driver) } else { Err(driver.finish()) }));
        match step {
            Ok(Ok(driver)) => return Some(driver),
            Ok(Err(times)) => summary.times.add_sink(times),
            Err(panic) => {
                self.shutdown.request();
                let problem = Problem::Panic { stage: stage.to_owned(), message: panic_message(&*panic) };
                self.tell(problem, summary, observer);
            }
        }
        None
    }

    fn heed(&mut self, report: Report, summary: &mut Summary, observer: &mut dyn Observer) {
        let problem = match report {
            Report::Opened { source, info } => {
                observer.opened(source, &info);
                None
            }
            Report::Frame { source, frames_done } => {
                observer.frame(source, frames_done);
                None
            }
            Report::State { source, state } => {
                observer.state(source, &state);
                None
            }
            Report::Closed { source } => {
                observer.closed(source);
                None
            }
            Report::Problem(problem) => Some(problem),
            Report::Written(written) => {
                summary.written.push(written);
                None
            }
            Report::Ended { thread, ending } => {
                let stage = self.names[thread].take().unwrap_or_default();
                match ending {
                    Ending::Stage(problem) => problem,
                    Ending::Findings(times) => {
                        summary.times.add_all(&times);
                        // Nothing comes any more, also where a stage in between has failed: capture need not go on.
                        self.shutdown.request();
                        None
                    }
                    Ending::Sink(times) => {
                        summary.times.add_sink(times);
                        None
                    }
                    Ending::Panic(message) => {
                        self.shutdown.request();
                        Some(Problem::Panic { stage, message })
                    }
                }
            }
        };
        if let Some(problem) = problem {
            self.tell(problem, summary, observer);
        }
    }
}
