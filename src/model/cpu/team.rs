//! Threads that go through the steps of a forward pass side by side.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::model::ModelError;

/// Looks at a step before the processor is offered to somebody else, about ten microseconds: steps take hundreds, and
/// waking a thread tens.
const SPINS: usize = 400;

/// The threads: the caller, and others that sleep between two walks.
#[derive(Debug)]
pub(super) struct Team {
    /// None where the caller is alone.
    others: Option<ThreadPool>,
}

/// How far a step is.
struct Progress {
    tasks: usize,
    /// Taken so far, and attempts to take one more.
    next: AtomicUsize,
    done: AtomicUsize,
}

/// Another thread panicked; the scope of all passes that on.
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
        let others = threads.saturating_sub(1);
        let pool = ThreadPoolBuilder::new().num_threads(others).thread_name(|number| format!("forward-{}", number + 1));
        let pool = (others > 0).then(|| pool.build()).transpose();
        Ok(Self { others: pool.map_err(|error| ModelError::Threads(error.to_string()))? })
    }

    pub(super) fn threads(&self) -> usize {
        1 + self.others.as_ref().map_or(0, ThreadPool::current_num_threads)
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
        let steps: Vec<Progress> = tasks.iter().map(|&tasks| Progress::of(tasks)).collect();
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
        match &self.others {
            None => walk(0),
            Some(others) => others.in_place_scope(|scope| {
                scope.spawn_broadcast(|_, context| walk(context.index() + 1));
                walk(0);
            }),
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
