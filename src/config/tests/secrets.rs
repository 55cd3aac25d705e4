//! Credentials of S3 and Kafka.

use super::*;
use crate::sasl::SaslMechanism;
use crate::store::s3::S3Credentials;

#[test]
fn s3_credentials_are_read_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush\n").unwrap();
    let path = file.path().display();
    let s3 = |keys: &str| format!("store: s3://bucket\ns3: {{{keys}}}");
    let settings = parse(&s3(&format!("accessKeyId: me, secretAccessKeyFile: {path}"))).unwrap();
    let S3Credentials::Keys { access_key_id, secret_access_key } =
        &settings.s3_options().credentials
    else {
        panic!("a key pair was given")
    };
    assert_eq!((access_key_id.as_str(), secret_access_key.as_str()), ("me", "hush"));
    assert!(!format!("{settings:?}").contains("hush"));

    std::fs::write(file.path(), "  \n").unwrap();
    check(
        &s3(&format!("accessKeyId: me, secretAccessKeyFile: {path}")),
        &["s3.secretAccessKeyFile: invalid secret: expected a file with one word"],
    );
    std::fs::write(file.path(), "hush\n").unwrap();
    check(
        &s3("accessKeyId: me"),
        &[
            "s3.secretAccessKeyFile: missing key: required by `s3.accessKeyId`; expected the path of a file",
        ],
    );
    check(
        &s3(&format!("secretAccessKeyFile: {path}")),
        &[
            "s3.accessKeyId: missing key: required by `s3.secretAccessKeyFile`; expected the id of its key",
        ],
    );
    check(
        &s3("accessKeyId: me, secretAccessKeyFile: /no/file"),
        &[
            "s3.secretAccessKeyFile: invalid secret file `/no/file`: No such file or directory (os error 2); expected a file that this user can read",
        ],
    );
    check(
        &s3("endpoint: minio:9000"),
        &[
            "s3.endpoint: invalid endpoint `minio:9000`: expected `http://host:port` or `https://host`, without a path",
        ],
    );
    assert_eq!(parse(&s3("")).unwrap().s3_options().credentials, S3Credentials::Chain);
    let vars = [("AWS_REGION", "eu-central-1")];
    let text = format!("{KAFKA}store: s3://bucket");
    let s3 = parse_with(&text, &vars).unwrap().s3_options();
    assert_eq!((s3.region.as_str(), s3.path_style), ("eu-central-1", false));
}

#[test]
fn sasl_keys_are_required_together_and_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "swordfish and chips\n").unwrap();
    let file = file.display().to_string();
    let sasl = |inner: &str| format!("kafka: {{bootstrapServers: [k:9092], sasl: {{{inner}}}}}\n");

    let text = sasl(&format!("mechanism: SCRAM-SHA-512, username: odradek, passwordFile: {file}"));
    let settings = parse_with(&text, &[]).unwrap();
    let given = settings.kafka.sasl.clone().unwrap();
    assert_eq!(given.mechanism, SaslMechanism::ScramSha512);
    assert_eq!(
        (given.username.as_str(), given.password.expose()),
        ("odradek", "swordfish and chips")
    );
    assert!(!format!("{settings:?}").contains("swordfish"));
    assert!(parse_with(KAFKA, &[]).unwrap().kafka.sasl.is_none());

    let wrong = |text: &str| parse_with(text, &[]).unwrap_err().to_string();
    assert_eq!(
        wrong(&sasl(&format!("mechanism: GSSAPI, username: odradek, passwordFile: {file}"))),
        "kafka.sasl.mechanism: invalid value `GSSAPI`: expected `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`"
    );
    let missing = wrong(&sasl("mechanism: PLAIN"));
    assert!(
        missing.contains("kafka.sasl.username: missing key: expected at least one character"),
        "{missing}"
    );
    assert!(
        missing.contains("kafka.sasl.passwordFile: missing key: expected the path of a file"),
        "{missing}"
    );
    let unreadable = wrong(&sasl("mechanism: PLAIN, username: u, passwordFile: /no/file"));
    assert!(unreadable.contains("kafka.sasl.passwordFile"), "{unreadable}");
}
