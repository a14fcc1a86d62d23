//! Figures beside their targets.

use std::time::Duration;

/// What was measured, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<[String; 4]>);

impl Figures {
    /// Notes a figure that has no target.
    pub(crate) fn told(&mut self, what: &str, value: f64) {
        self.0.push([what.to_owned(), shown(value), String::new(), String::new()]);
    }

    pub(crate) fn at_most(&mut self, what: &str, value: f64, target: f64) {
        self.note(what, value, format!("at most {}", shown(target)), value <= target);
    }

    pub(crate) fn at_least(&mut self, what: &str, value: f64, target: f64) {
        self.note(what, value, format!("at least {}", shown(target)), value >= target);
    }

    fn note(&mut self, what: &str, value: f64, target: String, is_met: bool) {
        let met = if is_met { "met" } else { "missed" };
        eprintln!("{what}: {} ({target}: {met})", shown(value));
        self.0.push([what.to_owned(), shown(value), target, met.to_owned()]);
    }

    /// Prints a table as docs/performance.md has it.
    pub(crate) fn print(&self) {
        println!("| | measured | target | |\n| --- | --- | --- | --- |");
        for [what, value, target, met] in &self.0 {
            println!("| {what} | {value} | {target} | {met} |");
        }
    }
}

fn shown(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The median of samples; 0 of none.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
