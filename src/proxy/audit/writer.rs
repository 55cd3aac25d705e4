//! Writes the lines of the audit log.

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::logging::AuditOutput;
use crate::tasks;

/// A step of the writer.
#[derive(Debug)]
pub(super) enum Entry {
    /// Writes a line.
    Line(String),
    /// Reports that every line before is written.
    Flush(oneshot::Sender<()>),
}

/// Writes lines until the queue is closed.
pub(super) fn spawn(output: AuditOutput, lines: mpsc::Receiver<Entry>) {
    match output {
        AuditOutput::Stdout => drop(tasks::spawn("audit", write(tokio::io::stdout(), lines))),
        AuditOutput::Stderr => drop(tasks::spawn("audit", write(tokio::io::stderr(), lines))),
        AuditOutput::Off => {}
    }
}

async fn write(mut output: impl AsyncWrite + Unpin, mut entries: mpsc::Receiver<Entry>) {
    let mut is_lost = false;
    while let Some(entry) = entries.recv().await {
        let line = match entry {
            Entry::Line(line) => line,
            Entry::Flush(written) => {
                // The process may have stopped waiting.
                let _received = written.send(());
                continue;
            }
        };
        let written = async {
            output.write_all(line.as_bytes()).await?;
            output.flush().await
        };
        // Logged once: a closed stream stays closed.
        if let Err(error) = written.await
            && !std::mem::replace(&mut is_lost, true)
        {
            tracing::error!(%error, "cannot write the audit log");
        }
    }
}
