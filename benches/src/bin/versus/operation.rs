//! The operations: what each is called and asks.

use std::fmt;
use std::str::FromStr;

/// An operation, as the peers number them; with a `b` the same for rows that are
/// borrowed, not copied, and of which the ids and labels are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9m,
    R9h,
    R10,
    R10b,
    R11,
    R11b,
    R12,
    R13,
    R14,
    R15,
    R16,
    R17,
    R18,
    R19,
    R20,
}

impl Operation {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 23] = [
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9m,
        Self::R9h,
        Self::R10,
        Self::R10b,
        Self::R11,
        Self::R11b,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
        Self::R16,
        Self::R17,
        Self::R18,
        Self::R19,
        Self::R20,
    ];

    /// What it asks.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::R1 => "aggregate, no filter",
            Self::R2 => "aggregate, one user",
            Self::R3 => "aggregate, 10% time range",
            Self::R4 => "aggregate, one user in 10% time range",
            Self::R5 => "aggregate, status >= 500",
            Self::R6 => "aggregate, one model and status = 429",
            Self::R7 => "group by model",
            Self::R8 => "top 10 users by sum(metric)",
            Self::R9m => "group by minute",
            Self::R9h => "group by hour",
            Self::R10 => "newest 100 rows",
            Self::R10b => "newest 100 borrowed: numbers and dims",
            Self::R11 => "newest 1000 rows",
            Self::R11b => "newest 1000 borrowed: numbers and dims",
            Self::R12 => "newest 100 rows of one user",
            Self::R13 => "newest 100 rows of a rare user",
            Self::R14 => "point lookup by id, hit",
            Self::R15 => "point lookup by id, miss",
            Self::R16 => "p50/p95/p99 latency_ms of one model",
            Self::R17 => "distinct users in 10% time range",
            Self::R18 => "tokens > 4000 and latency_ms > 4500",
            Self::R19 => "point lookup by label, hit",
            Self::R20 => "point lookup by label, miss",
        }
    }

    /// The operation whose answer it has.
    pub(crate) fn of_peers(self) -> Self {
        match self {
            Self::R10b => Self::R10,
            Self::R11b => Self::R11,
            other => other,
        }
    }

    /// Whether there is something in it that can be drawn: a user, a range, an id.
    pub(crate) fn has_constants(self) -> bool {
        !matches!(
            self.of_peers(),
            Self::R1 | Self::R7 | Self::R8 | Self::R9m | Self::R9h | Self::R10 | Self::R11
        )
    }

    /// Whether it adds up rows, so that it can be answered by a scan.
    pub(crate) fn can_scan(self) -> bool {
        self <= Self::R9h
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of the variants are the peers' names.
        out.pad(&format!("{self:?}"))
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|operation| operation.to_string() == name);
        found.ok_or_else(|| format!("there is no operation {name}"))
    }
}
