//! Maps responses of S3 to store errors.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use s3::error::S3Error;

use super::{Certainty, StoreError, StoreErrorKind};

/// The detail of a conflict between conditional PUTs starts with this code.
const CONFLICT: &str = "ConditionalRequestConflict";

/// The maximum number of characters of a store's message.
const MESSAGE_CHARS_MAX: usize = 200;

/// Maps an error response. `text` is its body: XML, or anything else.
pub(super) fn from_status(
    operation: &'static str,
    key: &str,
    status: u16,
    text: &str,
) -> StoreError {
    let (code, message) = (element(text, "Code"), element(text, "Message"));
    let (kind, certainty) = classify(operation, status, code);
    // Not the whole text: some stores repeat the signed request in it.
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let detail = match (code, message.as_str()) {
        ("", _) => format!("HTTP {status}"),
        (code, "") => format!("{code} (HTTP {status})"),
        (code, message) => format!("{code} (HTTP {status}): {message}"),
    };
    StoreError { kind, certainty, operation, key: key.to_owned(), detail }
}

/// Returns whether two conditional PUTs conflicted, so that neither is known to have succeeded.
pub(super) fn is_conflict(error: &StoreError) -> bool {
    error.kind == StoreErrorKind::Unavailable && error.detail.starts_with(CONFLICT)
}

/// Returns whether the store rejected a body that does not match its checksum.
pub(super) fn is_checksum_mismatch(error: &StoreError) -> bool {
    let codes = ["BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"];
    codes.iter().any(|code| error.detail.starts_with(code))
}

/// Maps the failure of a request without a complete response.
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

/// Maps the failure of a read that `rust-s3` sent itself.
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

/// Maps the failure to sign a request, which was not sent.
pub(super) fn from_signing(operation: &'static str, key: &str, error: S3Error) -> StoreError {
    // A later attempt may renew the credentials.
    StoreError::determinate(StoreErrorKind::Unavailable, operation, key, describe(error))
}

/// Describes an error of `rust-s3` without URLs.
pub(super) fn describe(error: S3Error) -> String {
    match error {
        S3Error::Reqwest(error) => describe_transport(error),
        error => error.to_string(),
    }
}

/// Describes a transport error. The URL is omitted, because a presigned URL in a log grants access.
/// The causes are included: the error itself reads "error sending request".
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
    use StoreErrorKind::{
        AlreadyExists, Denied, InvalidRange, NotFound, SlowDown, TooLarge, Unavailable,
    };
    let certain = |kind| (kind, Certainty::Determinate);
    match (status, code) {
        (404, "NoSuchBucket") => certain(Denied),
        // The object does not exist; for a PUT or a listing, the bucket does not.
        (404, _) if matches!(operation, "get" | "head" | "delete") => certain(NotFound),
        (404, _) => certain(Denied),
        (412, _) => certain(AlreadyExists),
        // A proxy in front of the store may have a lower limit than the store.
        (413, _) | (400, "EntityTooLarge") => certain(TooLarge),
        (416, _) => certain(InvalidRange),
        // A conflict with another conditional PUT or a change of the bucket; this call had no effect.
        (409, _) => certain(Unavailable),
        // The body was incomplete or corrupt, or the credentials must be renewed.
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

/// Returns the certainty of a call that was sent without a response: a read changes nothing.
fn certainty_once_sent(operation: &'static str) -> Certainty {
    match operation {
        "put" | "delete" => Certainty::Indeterminate,
        _ => Certainty::Determinate,
    }
}

/// Returns the text of the first element with that name; empty if there is none.
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
    fn statuses_map_to_kinds_and_certainty() {
        use Certainty::{Determinate, Indeterminate};
        use StoreErrorKind::{
            AlreadyExists, Denied, InvalidRange, NotFound, SlowDown, TooLarge, Unavailable,
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
            ("put", 413, "", TooLarge, Determinate),
            ("put", 400, "EntityTooLarge", TooLarge, Determinate),
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
    fn an_error_contains_only_the_code_and_the_message() {
        let text = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>\
                    <StringToSign>secret</StringToSign></Error>";
        let error = from_status("put", "k", 403, text);
        assert_eq!(error.to_string(), "put k: SignatureDoesNotMatch (HTTP 403): no");
        assert_eq!(from_status("get", "k", 502, "<html>").to_string(), "get k: HTTP 502");
    }
}
