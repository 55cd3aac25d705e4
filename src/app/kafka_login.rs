//! The SASL login of the replica's own connections to brokers.

use std::sync::Arc;

use crate::config::Settings;
use crate::entropy::Entropy;
use crate::proxy::upstream::sasl::SaslCredentials;

/// Returns the credentials with which the replica and the commands of `odradek` authenticate to
/// brokers; `None` if the configuration has no `kafka.sasl`.
pub(crate) fn kafka_login(settings: &Settings, entropy: &Arc<Entropy>) -> Option<SaslCredentials> {
    let sasl = settings.kafka.sasl.as_ref()?;
    let (username, password) = (sasl.username.clone(), sasl.password.expose().to_owned());
    Some(SaslCredentials::new(sasl.mechanism, username, password, Arc::clone(entropy)))
}
