//! Findings, and their output as text and JSON.

use std::io::{self, Write};

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The check succeeded.
    Ok,
    /// A replica works, with a risk of data loss, cost or downtime.
    Warn,
    /// A replica cannot serve with this.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity.
    pub level: Level,
    /// One of `kafka`, `listeners`, `store`, `coordinator`, `topics`, `zones`, `configuration`.
    pub subject: &'static str,
    /// The result in one line.
    pub summary: String,
    /// The impact; empty for [`Level::Ok`].
    pub impact: String,
    /// The remedy; empty for [`Level::Ok`].
    pub remedy: String,
}

impl Finding {
    /// Creates the finding of a check that succeeded.
    pub fn ok(subject: &'static str, summary: impl Into<String>) -> Self {
        let (level, impact, remedy) = (Level::Ok, String::new(), String::new());
        Self { level, subject, summary: summary.into(), impact, remedy }
    }

    /// Creates a warning and its impact.
    pub fn warn(
        subject: &'static str,
        summary: impl Into<String>,
        impact: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, impact: impact.into(), ..Self::ok(subject, summary) }
    }

    /// Creates a failure and its impact.
    pub fn fail(
        subject: &'static str,
        summary: impl Into<String>,
        impact: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, impact: impact.into(), ..Self::ok(subject, summary) }
    }

    /// Sets the remedy.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// The findings of all checks.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Returns the highest severity.
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// Writes the findings as text.
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
            for (label, text) in [("impact", impact), ("remedy", remedy)] {
                if !text.is_empty() {
                    writeln!(out, "       {label:>14} {text}")?;
                }
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (fail, warn) = (count(Level::Fail), count(Level::Warn));
        writeln!(out, "{fail} wrong, {warn} doubtful, {} as it should be", count(Level::Ok))
    }

    /// Writes the findings as a JSON array of objects with `level`, `subject`, `summary`, `impact`
    /// and `remedy`.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.0)?;
        writeln!(out)
    }
}
