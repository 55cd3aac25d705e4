//! `odradek docs DOCUMENT`: prints a document that is generated from the code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli::Document;

/// Prints the document to standard output.
pub(super) fn run(document: Document) -> ExitCode {
    let text = match document {
        Document::Protocol => crate::proxy::apis::protocol_markdown(),
        Document::Configuration => crate::config::reference(),
        Document::Schema => crate::config::schema(),
        Document::Metrics => crate::metrics::reference(),
    };
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
