//! One round of questions, and how long each took.

use std::time::{Duration, Instant};

use anyhow::Result;
use keplordb_examples::human;

use super::answers::Answers;

/// All questions, asked once.
pub(crate) struct Round {
    pub(crate) answers: Answers,
    pub(crate) times: Vec<Time>,
}

/// How long one question took.
pub(crate) struct Time {
    question: &'static str,
    /// What it cost: `16 aggregates`.
    calls: String,
    took: Duration,
}

/// Collects times.
#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) times: Vec<Time>,
}

impl Clock {
    /// Asks and notes how long the answer took.
    pub(crate) fn time<T>(
        &mut self,
        question: &'static str,
        calls: &str,
        ask: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let answer = ask()?;
        self.times.push(Time { question, calls: calls.to_owned(), took: started.elapsed() });
        Ok(answer)
    }
}

/// Prints a line per question and a column per round.
pub(crate) fn show_times(rounds: &[(&str, &Round)]) {
    print!("\n{:<26}{:<16}", "how long it took", "");
    for (name, _) in rounds {
        print!("{name:>11}");
    }
    println!();
    let Some((_, first)) = rounds.first() else { return };
    for (place, Time { question, calls, .. }) in first.times.iter().enumerate() {
        print!("  {question:<24}{calls:<16}");
        for (_, round) in rounds {
            print!("{:>11}", human::duration(round.times[place].took));
        }
        println!();
    }
}
