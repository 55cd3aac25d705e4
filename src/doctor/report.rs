//! Findings, and how they are printed.

use std::io::{self, Write};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may cost records, money or sleep.
    Warn,
    /// A replica cannot serve so.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Of whom: `kafka`, `listeners`, `store`, `coordinator`, `topics`, `zones`, `configuration`.
    pub subject: &'static str,
    /// What was found.
    pub summary: String,
    /// Why it matters; empty when it is fine.
    pub impact: String,
    /// What to do; empty when it is fine.
    pub remedy: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(subject: &'static str, summary: impl Into<String>) -> Self {
        let (level, impact, remedy) = (Level::Ok, String::new(), String::new());
        Self { level, subject, summary: summary.into(), impact, remedy }
    }

    /// Doubtful, and why.
    pub fn warn(
        subject: &'static str,
        summary: impl Into<String>,
        impact: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, impact: impact.into(), ..Self::ok(subject, summary) }
    }

    /// Wrong, and why.
    pub fn fail(
        subject: &'static str,
        summary: impl Into<String>,
        impact: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, impact: impact.into(), ..Self::ok(subject, summary) }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// All findings.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// How bad the worst of it is.
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// For people.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { level, subject, summary, impact, remedy } in &self.0 {
            let mark = match level {
                Level::Ok => "ok",
                Level::Warn => "WARN",
                Level::Fail => "FAIL",
            };
            writeln!(out, "{mark:<6} {subject:<14} {summary}")?;
            for (label, text) in [("why", impact), ("fix", remedy)] {
                if !text.is_empty() {
                    writeln!(out, "       {label:>14} {text}")?;
                }
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (fail, warn) = (count(Level::Fail), count(Level::Warn));
        writeln!(out, "{fail} wrong, {warn} doubtful, {} as it should be", count(Level::Ok))
    }

    /// For programs: an array of objects with `level`, `subject`, `summary`, `impact` and `remedy`.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.0)?;
        writeln!(out)
    }
}
