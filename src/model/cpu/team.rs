//! Threads that go through the steps of a forward pass side by side.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use smallvec::SmallVec;

use crate::model::ModelError;

/// One for each step of a pass, of which there are 27 with one picture, 76 with eight, and 7 more with each further one; no memory is
/// asked for as long as there are no more than this.
pub(super) type OfSteps<T> = SmallVec<[T; 96]>;

/// Looks at a step before the processor is offered to somebody else, about ten microseconds: steps take hundreds, and
/// waking a thread tens.
const SPINS: usize = 400;

/// The threads: the caller, and others that sleep between two walks.
#[derive(Debug)]
pub(super) struct Team {
    /// One walk at a time.
    others: Mutex<Others>,
    threads: usize,
}

/// Threads that live as long as this does. (A pool of rayon's would ask for memory with each walk.)
#[derive(Debug)]
struct Others {
    /// One for each thread.
    jobs: Vec<Sender<Job>>,
    done: Receiver<Outcome>,
    threads: Vec<JoinHandle<()>>,
}

/// What a thread is to do; its argument is the thread's number.
type Job = &'static (dyn Fn(usize) + Sync);

/// How it ended: with a panic, perhaps.
type Outcome = Result<(), Box<dyn Any + Send>>;

/// How far a step is.
struct Progress {
    tasks: usize,
    /// Taken so far, and attempts to take one more.
    next: AtomicUsize,
    done: AtomicUsize,
}

/// Another thread panicked, which the caller will hear of.
struct Broken;

/// Says that a thread panicked, whose task will never be done.
struct Breaker<'a>(&'a AtomicBool);

impl Team {
    /// So many threads, the caller among them.
    ///
    /// # Errors
    ///
    /// When the system has no threads left.
    pub(super) fn new(threads: usize) -> Result<Self, ModelError> {
        let others = Others::new(threads.max(1) - 1).map_err(|error| ModelError::Threads(error.to_string()))?;
        Ok(Self { others: Mutex::new(others), threads: threads.max(1) })
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Does the tasks of each step, `work(step, task, thread)`, those of one step at the same time and in any order, and none
    /// before the step before it is done.
    ///
    /// The caller is the first of the threads. Would it sleep meanwhile, the system might wake two of them on one processor,
    /// as its own still counts as busy, and leave one waiting there for milliseconds.
    ///
    /// # Panics
    ///
    /// When a task does.
    pub(super) fn walk(&self, tasks: &[usize], work: impl Fn(usize, usize, usize) + Sync) {
        let steps: OfSteps<Progress> = tasks.iter().map(|&tasks| Progress::of(tasks)).collect();
        let broken = AtomicBool::new(false);
        let walk = |thread| {
            let _breaker = Breaker(&broken);
            for (number, step) in steps.iter().enumerate() {
                while let Some(task) = step.take() {
                    work(number, task, thread);
                    step.done.fetch_add(1, Ordering::Release);
                }
                if step.wait(&broken).is_err() {
                    break;
                }
            }
        };
        self.others.lock().unwrap_or_else(PoisonError::into_inner).with_caller(&walk);
    }
}

impl Others {
    fn new(threads: usize) -> std::io::Result<Self> {
        let (to_caller, done) = bounded::<Outcome>(threads);
        let start = |number: usize| {
            let (sender, jobs) = bounded::<Job>(1);
            let done = to_caller.clone();
            let work = move || {
                for job in jobs {
                    // The caller waits for it.
                    let _ = done.send(catch_unwind(AssertUnwindSafe(|| job(number))));
                }
            };
            Ok((sender, thread::Builder::new().name(format!("forward-{number}")).spawn(work)?))
        };
        let (jobs, threads) = (1..=threads).map(start).collect::<std::io::Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Self { jobs, done, threads })
    }

    /// Does the same on all threads, of which the caller is number 0.
    ///
    /// # Panics
    ///
    /// When one does, once all have ended.
    fn with_caller(&mut self, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: what lives longer by this is not used any longer: before `work` goes, by returning or by a panic, each thread that
        // was sent it has said that it is done. Nobody else sends work meanwhile, as this is borrowed mutably.
        let job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(work) };
        let sent = self.jobs.iter().filter(|jobs| jobs.send(job).is_ok()).count();
        let by_caller = catch_unwind(AssertUnwindSafe(|| work(0)));
        let by_others = (0..sent).map(|_| self.done.recv().expect("threads outlive those who send them work"));
        if let Err(panic) = by_others.fold(by_caller, Result::and) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        // Without senders they end.
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            // Panics were handed to the caller.
            let _ = thread.join();
        }
    }
}

impl Progress {
    fn of(tasks: usize) -> Self {
        Self { tasks, next: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    /// A task that nobody has taken.
    fn take(&self) -> Option<usize> {
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        (task < self.tasks).then_some(task)
    }

    /// Waits until all tasks are done: not for all threads, one of which may have lost its processor to a decoder.
    fn wait(&self, broken: &AtomicBool) -> Result<(), Broken> {
        let mut spins = 0;
        while self.done.load(Ordering::Acquire) < self.tasks {
            if broken.load(Ordering::Relaxed) {
                return Err(Broken);
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

impl Drop for Breaker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_task_is_done_once_and_steps_follow_one_another() {
        for threads in [1, 2, 5] {
            let done = Mutex::new(Vec::new());
            Team::new(threads).unwrap().walk(&[3, 0, 40, 1], |step, task, thread| {
                assert!(thread < threads);
                done.lock().unwrap().push((step, task));
            });
            let done = done.into_inner().unwrap();
            assert!(done.is_sorted_by_key(|(step, _)| *step));
            let mut sorted = done;
            sorted.sort_unstable();
            let expected: Vec<_> = [(0, 3), (2, 40), (3, 1)]
                .into_iter()
                .flat_map(|(step, tasks)| (0..tasks).map(move |task| (step, task)))
                .collect();
            assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_as_it_is_and_leaves_nobody_waiting() {
        for threads in [1, 3] {
            let team = Team::new(threads).unwrap();
            for by_caller in [true, false].into_iter().filter(|by_caller| *by_caller || threads > 1) {
                let has_panicked = AtomicBool::new(false);
                let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    team.walk(&[8, 8], |step, _, thread| {
                        if step == 0 {
                            return;
                        }
                        assert!((thread == 0) != by_caller || has_panicked.swap(true, Ordering::Relaxed), "on purpose");
                        // Whoever is to panic gets a task.
                        while !has_panicked.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                        }
                    });
                }));
                let panic = walked.unwrap_err();
                assert_eq!(panic.downcast_ref(), Some(&"on purpose"), "{threads} threads, by the caller: {by_caller}");
                team.walk(&[1], |_, _, _| {});
            }
        }
    }
}
