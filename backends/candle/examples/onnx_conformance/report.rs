//! Counts outcomes, prints them, and compares them with the recorded counts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::{fs, io};

use crate::case::{Case, Outcome, Suite};

/// The number of cases for each outcome.
#[derive(Default)]
struct Counts([usize; Outcome::ALL.len()]);

impl Counts {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let mut counts = Self::default();
        cases.for_each(|case| counts.0[case.verdict.outcome as usize] += 1);
        counts
    }

    fn get(&self, outcome: Outcome) -> usize {
        self.0[outcome as usize]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}", self.0.iter().sum::<usize>())?;
        self.0.iter().try_for_each(|count| write!(f, "{count:>12}"))
    }
}

/// The outcomes of a run.
pub struct Report<'a> {
    suite: &'a Suite,
    cases: &'a [Case],
    all: Counts,
    subset: Counts,
}

impl<'a> Report<'a> {
    pub fn new(suite: &'a Suite, cases: &'a [Case]) -> Self {
        let subset = Counts::of(cases.iter().filter(|case| case.f32_subset));
        Self { suite, cases, all: Counts::of(cases.iter()), subset }
    }

    /// Prints each case that did not pass.
    pub fn list(&self) {
        for case in self.cases.iter().filter(|case| case.verdict.outcome != Outcome::Passed) {
            println!("{}: {}", case.name, case.verdict);
        }
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        for (name, counts) in [("all", &self.all), ("f32", &self.subset)] {
            for outcome in Outcome::ALL {
                // Writing to a string can't fail.
                let _ = writeln!(lines, "{name} {} {}", outcome.name(), counts.get(outcome));
            }
        }
        lines
    }

    /// Records the counts for [`check`](Self::check).
    pub fn record(&self) -> io::Result<()> {
        fs::write(self.suite.record, self.lines())
    }

    /// Whether no result is wrong, no case panicked, and at least as many cases passed as are recorded.
    pub fn check(&self) -> io::Result<bool> {
        let recorded = fs::read_to_string(self.suite.record)?;
        let recorded = |name: &str| {
            let start = format!("{name} passed ");
            recorded.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<usize>().ok())
        };
        let mut fine = true;
        for (name, counts) in [("all", &self.all), ("f32", &self.subset)] {
            let wanted = recorded(name).ok_or_else(|| io::Error::other("the record has no such line"))?;
            let bad = counts.get(Outcome::Wrong) + counts.get(Outcome::Panicked);
            if bad > 0 || counts.get(Outcome::Passed) < wanted {
                fine = false;
                let passed = counts.get(Outcome::Passed);
                println!(
                    "{}, {name}: {bad} wrong or panicked, {passed} passed where {wanted} are recorded",
                    self.suite.name
                );
            }
        }
        Ok(fine)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<36}{:>5}", self.suite.name, "cases")?;
        Outcome::ALL.iter().try_for_each(|outcome| write!(f, "{:>12}", outcome.name()))?;
        writeln!(f)?;
        let mut operators: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
        for case in self.cases {
            operators.entry(&case.operator).or_default().push(case);
        }
        for (operator, cases) in operators {
            writeln!(f, "{operator:<36.35}{}", Counts::of(cases.into_iter()))?;
        }
        writeln!(f)?;
        writeln!(f, "{:<36}{}", "all", self.all)?;
        writeln!(f, "{:<36}{}", "f32 subset", self.subset)?;
        for (name, passed, wrong) in self.suite.others {
            writeln!(f, "{:<36}{:>5}{passed:>12}{:>12}{:>12}{wrong:>12}", format!("  {name}, recorded"), 924, "", "")?;
        }
        for case in self.cases.iter().filter(|case| case.verdict.outcome == Outcome::Disputed) {
            writeln!(f, "disputed: {}: {}", case.name, case.verdict.why)?;
        }
        Ok(())
    }
}
