//! What figures were measured on.

use serde::Serialize;

/// Facts about a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Model of the processor, if the system says it.
    pub processor: Option<String>,
    /// Threads that the process may use at once.
    pub threads: usize,
    /// Models of NVIDIA's GPUs.
    pub gpus: Vec<String>,
}

impl Machine {
    /// This one, whose process may use so many threads at once.
    pub fn this(threads: usize) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let gpus = glob::glob("/proc/driver/nvidia/gpus/*/information").into_iter().flatten().flatten();
        let gpu = |path| value(&std::fs::read_to_string(path).ok()?, "Model");
        Self { processor: value(&cpuinfo, "model name"), threads, gpus: gpus.filter_map(gpu).collect() }
    }
}

/// The first value of a key, in files of the system with a `key: value` a line.
fn value(text: &str, key: &str) -> Option<String> {
    let of_line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2.00GHz\n\nmodel name\t: Another\n";
        assert_eq!(value(cpuinfo, "model name").as_deref(), Some("Some CPU @ 2.00GHz"));
        let gpu = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 154\n";
        assert_eq!(value(gpu, "Model").as_deref(), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!((value("", "Model"), value("no colon", "no colon")), (None, None));
        assert_eq!(Machine::this(3).threads, 3);
    }
}
