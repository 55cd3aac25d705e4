//! `odradek validate FILE`: checks a configuration file.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{CoordinatorSettings, Settings};

/// The exit code for a configuration that is not valid (`EX_CONFIG` of sysexits.h).
pub(super) const EXIT_CONFIG: u8 = 78;

/// Checks the file at `path`; prints a summary of it, or every problem.
pub(super) fn run(path: &Path) -> ExitCode {
    let status = validate(path, &mut io::stdout().lock(), &mut io::stderr().lock());
    // A closed output leaves only the exit code.
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Writes the result of the check to `out` and `err`, and returns the exit code.
fn validate(path: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let settings = match Settings::load(path) {
        Ok(settings) => settings,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(EXIT_CONFIG);
        }
    };
    for warning in settings.warnings() {
        writeln!(err, "warning: {warning}")?;
    }
    writeln!(out, "configuration ok")?;
    write!(out, "{}", summary(&settings))?;
    Ok(0)
}

/// Returns the settings that matter most, with defaults and variables applied and without secrets.
fn summary(settings: &Settings) -> String {
    let listeners = &settings.listeners;
    let host = &listeners.advertised_host;
    let servers: Vec<_> =
        settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    let coordinator = match &settings.coordinator {
        CoordinatorSettings::Embedded => "embedded".to_owned(),
        CoordinatorSettings::Redis { url, replicas: 0, .. } => url.to_string(),
        CoordinatorSettings::Redis { url, replicas, .. } => {
            format!("{url}, acknowledged by {replicas} of its replicas")
        }
    };
    let last_node =
        u32::from(listeners.node_ports) + u32::from(settings.diskless.nodes_per_zone) - 1;
    [
        ("replica", format!("{} of zone {}", settings.replica, settings.zone)),
        ("kafka", servers.join(", ")),
        ("clients", format!("start at {host}:{}", listeners.bootstrap_port)),
        ("brokers", format!("{host}:{} + broker id", listeners.broker_ports)),
        ("nodes", format!("{host}:{}-{last_node}", listeners.node_ports)),
        ("topics", format!("{} rules", settings.diskless.topics.len())),
        ("store", settings.objects_url().to_string()),
        ("coordinator", coordinator),
        ("admin", settings.admin.bind.to_string()),
    ]
    .map(|(name, value)| format!("  {name:<12} {value}\n"))
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(text: &str) -> (u8, String, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = validate(file.path(), &mut out, &mut err).unwrap();
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_valid_file_is_summarised() {
        let text = "kafka: {bootstrapServers: [k:9092]}\nreplica: r1\nzone: a\n\
                    coordinator: redis://u:secret@redis:6379/0\nstore: s3://bucket\n";
        let (status, out, err) = validated(text);
        assert_eq!((status, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "configuration ok\n  replica      r1 of zone a\n  kafka        k:9092\n  \
             clients      start at 127.0.0.1:9092\n  brokers      127.0.0.1:9100 + broker id\n  \
             nodes        127.0.0.1:9300-9303\n  topics       0 rules\n  \
             store        s3://bucket/odradek\n  coordinator  redis://***@redis:6379/0\n  \
             admin        127.0.0.1:8180\n"
        );
    }

    #[test]
    fn every_problem_is_reported_with_exit_code_78() {
        let (status, out, err) = validated("zone: 1\nzoned: a\n");
        assert_eq!((status, out.as_str()), (78, ""));
        assert_eq!(err.lines().count(), 3, "{err}");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let missing = validate(Path::new("/no/such/file"), &mut out, &mut err).unwrap();
        assert_eq!(missing, 78);
    }
}
