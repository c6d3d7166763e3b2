//! Parses the command line, sets up logging, runs the command, and turns what came of it into an exit code.

use maskwatch::cli::{self, Command};
use maskwatch::exit_code::ExitCode;
use maskwatch::pipeline::panic_message;
use maskwatch::shutdown::Shutdown;
use maskwatch::{blas, capture, commands, telemetry};

/// For Rust, and for the C and C++ libraries as well, whose `malloc` it replaces: frames, activations and pictures of many sizes
/// come and go on many threads. Under two cameras that were restarted each minute glibc's heaps grew in steps of up to 24 MB; with
/// this one, all memory grew by 5 % in half an hour.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads as it starts: two heaps, where it would have four a core, and what is free goes back to the system after
/// a second rather than ten.
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 47] = b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let concealed = cli::conceal_credentials(&arguments);
    // SAFETY: the program has started no thread yet, and those that libraries start when they are loaded (OpenBLAS does)
    // only wait for work: they touch neither the environment nor OpenBLAS's kernels.
    unsafe {
        blas::choose_kernels();
        capture::silence_backends();
    }
    let cli = cli::parse(arguments);
    telemetry::init(cli.as_ref().map_or(0, |cli| cli.verbose));
    let cli = cli.unwrap_or_else(|error| {
        tracing::error!("{error}");
        std::process::exit(commands::exit_code_of(&error.into()).into());
    });
    if let Err(error) = concealed {
        tracing::warn!(
            "the password of an address stays in the list of processes ({error}); use env:VARIABLE or --config"
        );
    }
    let code = std::panic::catch_unwind(|| run(&cli.command)).unwrap_or_else(|panic| {
        tracing::error!("a defect of maskwatch stopped it, please report it: {}", panic_message(&*panic));
        ExitCode::Failed
    });
    std::process::exit(code.into());
}

fn run(command: &Command) -> ExitCode {
    // Signals end a decoder at once: its files are those of others.
    let result = if let Command::CaptureSource = command {
        commands::capture_source::run()
    } else {
        Shutdown::on_signals().map_err(anyhow::Error::from).and_then(|shutdown| run_with(command, &shutdown))
    };
    result.unwrap_or_else(|error| {
        tracing::error!("{error}");
        commands::exit_code_of(&error)
    })
}

fn run_with(command: &Command, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => commands::run::run(args, shutdown),
        Command::Train(args) => commands::train::run(args, shutdown),
        Command::Evaluate(args) => commands::evaluate::run(args, shutdown),
        Command::Explain(args) => commands::explain::run(args, shutdown),
        Command::Bench(args) => commands::bench::run(args, shutdown),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Completions { shell } => commands::completions::run(*shell),
        Command::Man => commands::man::run(),
        Command::CaptureSource => commands::capture_source::run(),
    }
}
