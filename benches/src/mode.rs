//! Whether a bench measures, or only shows that it works.

/// Whether this process is to run each bench once: as Criterion decides it, when it was not started by `cargo bench`, or
/// with `--test`.
pub fn is_test_run() -> bool {
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    !given("--bench") || given("--test")
}

/// `measured` when benches measure, `tested` when they only run once.
pub fn scale<T>(measured: T, tested: T) -> T {
    if is_test_run() { tested } else { measured }
}
