//! `odradek topic create`: creates a diskless topic with a CreateTopics request.
//!
//! The stock `kafka-topics` rejects the config `diskless.enable` before it sends a request.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;

use crate::app::kafka_login;
use crate::cli::TopicCreateArgs;
use crate::config::Settings;
use crate::entropy::Entropy;
use crate::proxy::upstream::connection::BrokerConnection;

const VERSION: i16 = 7;
const TIMEOUT_MS: i32 = 10_000;

/// Creates the topic through a running replica.
///
/// # Errors
/// No replica responds at the configured address, or the request is rejected.
pub(super) async fn create(settings: Settings, create: TopicCreateArgs) -> anyhow::Result<()> {
    let listeners = &settings.listeners;
    let address = format!("{}:{}", listeners.advertised_host, listeners.bootstrap_port);
    let enable = [("diskless.enable".to_owned(), "true".to_owned())];
    let config = |(name, value): (String, String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name))
            .with_value(Some(StrBytes::from_string(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(StrBytes::from_string(create.name.clone()).into())
        .with_num_partitions(create.partitions.unwrap_or(-1))
        .with_replication_factor(create.replication_factor.unwrap_or(-1))
        .with_configs(create.configs.into_iter().chain(enable).map(config).collect());
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    // If the listeners require SASL, the command authenticates as the replica's user.
    let login = kafka_login(&settings, &Arc::new(Entropy::from_os()));
    let mut connection =
        BrokerConnection::open(&address, login.as_ref()).await.with_context(|| {
            format!("cannot connect to a replica at {address}; is `odradek serve` running?")
        })?;
    let response = connection.call(&request, VERSION).await?;
    let Some(result) = response.topics.first() else {
        bail!("the response of the replica names no topic")
    };
    if result.error_code != 0 {
        let message = result.error_message.as_deref().unwrap_or("no message");
        bail!("topic {} was not created: {message} (error {})", create.name, result.error_code);
    }
    let partitions = result.num_partitions;
    writeln!(
        std::io::stdout(),
        "created diskless topic {} ({partitions} partitions)",
        create.name
    )?;
    Ok(())
}
