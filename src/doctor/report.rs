//! Findings, and how they are printed.

use std::io::{self, Write};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, and may cost records, money or sleep.
    Doubtful,
    /// A replica cannot serve so.
    Wrong,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Of whom: `kafka`, `listeners`, `store`, `coordinator`, `topics`, `zones`, `configuration`.
    pub subject: &'static str,
    /// What was found.
    pub what: String,
    /// Why it matters; empty when it is fine.
    pub why: String,
    /// What to do; empty when it is fine.
    pub fix: String,
}

impl Finding {
    /// As it should be.
    pub fn fine(subject: &'static str, what: impl Into<String>) -> Self {
        let (level, why, fix) = (Level::Fine, String::new(), String::new());
        Self { level, subject, what: what.into(), why, fix }
    }

    /// Doubtful, and why.
    pub fn doubtful(
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { level: Level::Doubtful, why: why.into(), ..Self::fine(subject, what) }
    }

    /// Wrong, and why.
    pub fn wrong(subject: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { level: Level::Wrong, why: why.into(), ..Self::fine(subject, what) }
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// All findings.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// How bad the worst of it is.
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine)
    }

    /// For people.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { level, subject, what, why, fix } in &self.0 {
            let mark = match level {
                Level::Fine => "ok",
                Level::Doubtful => "DOUBT",
                Level::Wrong => "WRONG",
            };
            writeln!(out, "{mark:<6} {subject:<14} {what}")?;
            for (label, text) in [("why", why), ("fix", fix)] {
                if !text.is_empty() {
                    writeln!(out, "       {label:>14} {text}")?;
                }
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (wrong, doubtful) = (count(Level::Wrong), count(Level::Doubtful));
        writeln!(out, "{wrong} wrong, {doubtful} doubtful, {} as it should be", count(Level::Fine))
    }

    /// For programs: an array of objects with `level`, `subject`, `what`, `why` and `fix`.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.0)?;
        writeln!(out)
    }
}
