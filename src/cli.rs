//! The arguments of the `odradek` command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// A Kafka proxy that makes topics diskless.
#[derive(Clone, Debug, Parser)]
#[command(name = "odradek", version = crate::VERSION, about)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a replica until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// Check a configuration file; print every problem and exit with 78 if there is one.
    Validate(ConfigFile),
    /// Check the brokers, store, Redis, addresses and topics that a configuration file names.
    Doctor(DoctorArgs),
    /// Print what diskless traffic costs and saves, as reported by running replicas.
    Cost(CostArgs),
    /// Manage topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Print the content of WAL objects from their footers.
    Objects {
        /// Files, such as those of a `file:` store.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print a completion script for a shell, as `odradek completions bash`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a document that is generated from the code.
    #[command(hide = true, subcommand)]
    Docs(Document),
}

/// A document that is generated from the code.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Document {
    /// `docs/protocol.md`.
    Protocol,
    /// `docs/configuration.md`.
    Configuration,
    /// `docs/metrics.md`.
    Metrics,
    /// `docs/odradek.schema.json`.
    Schema,
}

/// The configuration file.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    pub file: PathBuf,
}

/// The arguments of `odradek doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file.
    pub file: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Exit with 2 if there is a warning; a failed check exits with 1 in any case.
    #[arg(long)]
    pub strict: bool,
    /// Print only the permissions that the store requires, as an AWS IAM policy.
    #[arg(long)]
    pub policy: bool,
}

/// The arguments of `odradek cost`.
#[derive(Clone, Debug, Args)]
pub struct CostArgs {
    /// The configuration file.
    pub file: PathBuf,
    /// The URL of a replica's admin port, as http://10.0.0.7:8180; repeatable. Default: the admin
    /// port in the file.
    #[arg(long = "replica", value_name = "URL")]
    pub replicas: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The commands for topics.
#[derive(Clone, Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a diskless topic, regardless of the rules in the file.
    Create(TopicCreateArgs),
}

/// The arguments of `odradek topic create`.
#[derive(Clone, Debug, Args)]
pub struct TopicCreateArgs {
    /// The configuration file.
    pub file: PathBuf,
    /// The topic's name.
    pub name: String,
    /// The number of partitions; default: the brokers' default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// The replication factor of the placeholder on the brokers; default: the brokers' default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
    /// A config of the topic; repeatable.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub configs: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as `retention.ms=86400000`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_the_commit() {
        let shown = Cli::command().render_version();
        let commit = crate::VERSION.split_once('(').map(|(_, rest)| rest.trim_end_matches(')'));
        assert_eq!(shown, format!("odradek {}\n", crate::VERSION));
        assert!(commit.is_some_and(|commit| commit.len() >= 7), "{shown}");
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "odradek", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in ["serve", "validate", "doctor", "cost", "topic"] {
                assert!(text.contains(command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn a_topic_is_created_with_its_configs() {
        let words = "odradek topic create f.yaml clicks --partitions 12 --replication-factor 3 \
                     --config retention.ms=1000 --config a=b=c";
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Topic(TopicCommand::Create(create)) = cli.command else { panic!() };
        assert_eq!(create.name, "clicks");
        assert_eq!((create.partitions, create.replication_factor), (Some(12), Some(3)));
        let configs = [("retention.ms", "1000"), ("a", "b=c")];
        assert_eq!(create.configs, configs.map(|(k, v)| (k.to_owned(), v.to_owned())));
        for words in
            ["odradek topic create f n --config x", "odradek topic create f n --partitions 0"]
        {
            Cli::try_parse_from(words.split_whitespace()).unwrap_err();
        }
    }
}
