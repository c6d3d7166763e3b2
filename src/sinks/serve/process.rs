//! What the process costs, from Linux's `/proc/self` (proc(5)).

use std::fs;

/// Of the clock in `/proc/self/stat`: the same on every Linux that programs are built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProcessFigures {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    pub(super) threads: u64,
}

impl ProcessFigures {
    /// The figures now; nothing where `/proc` does not tell.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        // Behind the name of the program, which may hold anything, comes field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            resident_bytes: line("VmRSS:")? * 1024,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            threads: line("Threads:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_follow_the_process() {
        let before = ProcessFigures::read().unwrap();
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = ProcessFigures::read().unwrap();
        assert!(after.open_files >= before.open_files.max(20), "{before:?} {after:?}");
        assert!(after.threads >= 2 && after.resident_bytes > 1 << 20 && after.cpu_seconds >= before.cpu_seconds);
        drop(files);
    }
}
