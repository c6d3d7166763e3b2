//! Lets the built programs find libtorch from any directory: its absolute path becomes their rpath. And compiles what calls its
//! C++ functions.

use std::path::PathBuf;

/// Calls of libtorch's C++ functions.
const CALLS: &str = "src/model/cuda/calls.cpp";

fn main() {
    println!("cargo::rerun-if-changed={CALLS}");
    cc::Build::new().cpp(true).std("c++17").file(CALLS).compile("maskwatch_calls");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=libtorch");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo::error=LIBTORCH is not set: build inside the repository, whose .cargo/config.toml sets it");
        return;
    };
    // Resolved, so that a program goes on working when the clone that built it is moved.
    match libtorch.join("lib").canonicalize() {
        // lib/cuda holds what is opened at run time where there is a GPU; it need not exist.
        Ok(lib) => println!("cargo::rustc-link-arg=-Wl,-rpath,{0}:{0}/cuda", lib.display()),
        Err(_) => println!("cargo::error=libtorch is missing: run scripts/setup first"),
    }
}
