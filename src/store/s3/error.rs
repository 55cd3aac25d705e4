//! What S3's answers mean to us.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use s3::error::S3Error;

use super::{Certainty, StoreError, StoreErrorKind};

/// Stands at the head of the detail of a conflict between conditional PUTs.
const CONFLICT: &str = "ConditionalRequestConflict";

/// How much of a store's message is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 200;

/// An answer that says no. `text` is its body: XML, or anything.
pub(super) fn from_status(
    operation: &'static str,
    key: &str,
    status: u16,
    text: &str,
) -> StoreError {
    let (code, message) = (element(text, "Code"), element(text, "Message"));
    let (kind, certainty) = classify(operation, status, code);
    // Never the whole text: some stores repeat there what was signed.
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let detail = match (code, message.as_str()) {
        ("", _) => format!("HTTP {status}"),
        (code, "") => format!("{code} (HTTP {status})"),
        (code, message) => format!("{code} (HTTP {status}): {message}"),
    };
    StoreError { kind, certainty, operation, key: key.to_owned(), detail }
}

/// Whether two conditional PUTs met, so that neither is known to have won.
pub(super) fn is_conflict(error: &StoreError) -> bool {
    error.kind == StoreErrorKind::Unavailable && error.detail.starts_with(CONFLICT)
}

/// Whether the store found that what arrived is not what its checksum says.
pub(super) fn is_checksum_mismatch(error: &StoreError) -> bool {
    let codes = ["BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"];
    codes.iter().any(|code| error.detail.starts_with(code))
}

/// A request that got no answer, or only the beginning of one.
pub(super) fn from_transport(
    operation: &'static str,
    key: &str,
    error: reqwest::Error,
) -> StoreError {
    let sent = !error.is_connect() && !error.is_builder();
    let certainty = if sent { certainty_once_sent(operation) } else { Certainty::Determinate };
    let kind =
        if error.is_builder() { StoreErrorKind::Denied } else { StoreErrorKind::Unavailable };
    let detail = describe_transport(error);
    StoreError { kind, certainty, operation, key: key.to_owned(), detail }
}

/// A call that the signer sent itself: a read.
pub(super) fn from_signer(operation: &'static str, key: &str, error: S3Error) -> StoreError {
    match error {
        S3Error::HttpFailWithBody(status, text) => StoreError {
            certainty: Certainty::Determinate,
            ..from_status(operation, key, status, &text)
        },
        S3Error::Reqwest(error) => StoreError {
            certainty: Certainty::Determinate,
            ..from_transport(operation, key, error)
        },
        error => from_signing(operation, key, error),
    }
}

/// A request that was never sent, because it could not be signed.
pub(super) fn from_signing(operation: &'static str, key: &str, error: S3Error) -> StoreError {
    // Credentials that cannot be renewed now may be renewed later.
    StoreError::determinate(StoreErrorKind::Unavailable, operation, key, describe(error))
}

/// What the signer says went wrong, without URLs.
pub(super) fn describe(error: S3Error) -> String {
    match error {
        S3Error::Reqwest(error) => describe_transport(error),
        error => error.to_string(),
    }
}

/// A presigned URL is good for whoever reads it in a log: it is left out. The causes are kept,
/// since the error itself says no more than "error sending request".
fn describe_transport(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        detail.push_str(": ");
        detail.push_str(&error.to_string());
        cause = error.source();
    }
    detail
}

fn classify(operation: &'static str, status: u16, code: &str) -> (StoreErrorKind, Certainty) {
    use StoreErrorKind::{AlreadyExists, Denied, InvalidRange, NotFound, SlowDown, Unavailable};
    let certain = |kind| (kind, Certainty::Determinate);
    match (status, code) {
        (404, "NoSuchBucket") => certain(Denied),
        // Of an object that is not there; a PUT or a listing has no use for the answer.
        (404, _) if matches!(operation, "get" | "head" | "delete") => certain(NotFound),
        (404, _) => certain(Denied),
        (412, _) => certain(AlreadyExists),
        (416, _) => certain(InvalidRange),
        // Met another conditional PUT, or another change of the bucket: neither happened here.
        (409, _) => certain(Unavailable),
        // The body did not arrive, or not as it was sent; or the credentials want renewing.
        (400, "RequestTimeout" | "IncompleteBody" | "ExpiredToken")
        | (400, "BadDigest" | "XAmzContentChecksumMismatch" | "InvalidDigest") => {
            certain(Unavailable)
        }
        (429, _) | (503, "SlowDown") => certain(SlowDown),
        (503, _) => (SlowDown, certainty_once_sent(operation)),
        (501, _) => certain(Denied),
        (408 | 500..=599, _) => (Unavailable, certainty_once_sent(operation)),
        _ => certain(Denied),
    }
}

/// The certainty of a call that was sent and not answered: a read changes nothing.
fn certainty_once_sent(operation: &'static str) -> Certainty {
    match operation {
        "put" | "delete" => Certainty::Indeterminate,
        _ => Certainty::Determinate,
    }
}

/// The text of the first element of that name; empty when there is none.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = xml.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(code: &str) -> String {
        format!("<?xml?><Error><Code>{code}</Code><Message>m</Message><Key>k</Key></Error>")
    }

    #[test]
    fn every_status_has_its_meaning() {
        use Certainty::{Determinate, Indeterminate};
        use StoreErrorKind::{
            AlreadyExists, Denied, InvalidRange, NotFound, SlowDown, Unavailable,
        };
        let rows = [
            ("get", 404, "NoSuchKey", NotFound, Determinate),
            ("get", 404, "NoSuchBucket", Denied, Determinate),
            ("head", 404, "", NotFound, Determinate),
            ("put", 404, "NoSuchBucket", Denied, Determinate),
            ("put", 404, "", Denied, Determinate),
            ("delete", 404, "NoSuchKey", NotFound, Determinate),
            ("put", 412, "PreconditionFailed", AlreadyExists, Determinate),
            ("put", 409, CONFLICT, Unavailable, Determinate),
            ("get", 416, "InvalidRange", InvalidRange, Determinate),
            ("put", 403, "SignatureDoesNotMatch", Denied, Determinate),
            ("put", 403, "AccessDenied", Denied, Determinate),
            ("get", 401, "", Denied, Determinate),
            ("put", 301, "PermanentRedirect", Denied, Determinate),
            ("put", 400, "XAmzContentChecksumMismatch", Unavailable, Determinate),
            ("put", 400, "RequestTimeout", Unavailable, Determinate),
            ("put", 400, "InvalidArgument", Denied, Determinate),
            ("put", 429, "", SlowDown, Determinate),
            ("put", 408, "", Unavailable, Indeterminate),
            ("put", 500, "InternalError", Unavailable, Indeterminate),
            ("put", 501, "NotImplemented", Denied, Determinate),
            ("put", 503, "SlowDown", SlowDown, Determinate),
            ("put", 503, "", SlowDown, Indeterminate),
            ("delete", 504, "", Unavailable, Indeterminate),
            ("get", 503, "SlowDown", SlowDown, Determinate),
            ("list", 500, "", Unavailable, Determinate),
        ];
        for (operation, status, code, kind, certainty) in rows {
            let error = from_status(operation, "k", status, &xml(code));
            let row = format!("{operation} {status} {code}");
            assert_eq!((error.kind, error.certainty), (kind, certainty), "{row}");
            assert_eq!(is_conflict(&error), code == CONFLICT, "{row}");
        }
    }

    #[test]
    fn an_error_keeps_the_code_and_the_message_and_nothing_else() {
        let text = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>\
                    <StringToSign>secret</StringToSign></Error>";
        let error = from_status("put", "k", 403, text);
        assert_eq!(error.to_string(), "put k: SignatureDoesNotMatch (HTTP 403): no");
        assert_eq!(from_status("get", "k", 502, "<html>").to_string(), "get k: HTTP 502");
    }
}
