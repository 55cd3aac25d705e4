//! The SASL login of the replica's own connections to brokers.

use std::sync::Arc;

use crate::config::{SaslMechanism, Settings};
use crate::entropy::Entropy;
use crate::proxy::upstream::sasl::{Mechanism, SaslCredentials};

/// Returns the credentials with which the replica and the commands of `odradek` authenticate to
/// brokers; `None` if the configuration has no `kafka.sasl`.
pub(crate) fn kafka_login(settings: &Settings, entropy: &Arc<Entropy>) -> Option<SaslCredentials> {
    let sasl = settings.kafka.sasl.as_ref()?;
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
    };
    let entropy = Arc::clone(entropy);
    Some(SaslCredentials::new(mechanism, sasl.username.clone(), sasl.password.clone(), entropy))
}
