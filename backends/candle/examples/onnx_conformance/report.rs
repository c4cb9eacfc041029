//! Counts outcomes, prints them, and compares them with the recorded counts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::{fs, io};

use crate::case::{Case, Outcome, Place, Suite};

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
    place: Place,
}

impl<'a> Report<'a> {
    pub fn new(suite: &'a Suite, cases: &'a [Case], place: Place) -> Self {
        let subset = Counts::of(cases.iter().filter(|case| case.f32_subset));
        Self { suite, cases, all: Counts::of(cases.iter()), subset, place }
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
        if self.place != Place::Host {
            let _ = writeln!(lines, "device alone passed {}", self.device_alone());
        }
        lines
    }

    /// Cases that passed on the device alone.
    fn device_alone(&self) -> usize {
        let alone = |case: &&Case| case.verdict.outcome == Outcome::Passed && case.verdict.device_alone;
        self.cases.iter().filter(alone).count()
    }

    fn record_file(&self) -> &'static str {
        match self.place {
            Place::Host => self.suite.record,
            Place::Device | Place::Gpu => self.suite.device_record,
        }
    }

    /// Records the counts for [`check`](Self::check).
    pub fn record(&self) -> io::Result<()> {
        fs::write(self.record_file(), self.lines())
    }

    /// Whether no result is wrong, no case panicked, and at least as many cases passed as are recorded.
    pub fn check(&self) -> io::Result<bool> {
        let recorded = fs::read_to_string(self.record_file())?;
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
        if self.place != Place::Host && self.device_alone() < recorded("device alone").unwrap_or(0) {
            fine = false;
            println!("{}: only {} cases pass on the device alone", self.suite.name, self.device_alone());
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
        if self.place != Place::Host {
            writeln!(f, "passed on the device alone: {}", self.device_alone())?;
        }
        for case in self.cases.iter().filter(|case| case.verdict.outcome == Outcome::Disputed) {
            writeln!(f, "disputed: {}: {}", case.name, case.verdict.why)?;
        }
        Ok(())
    }
}
