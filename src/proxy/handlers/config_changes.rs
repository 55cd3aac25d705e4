//! Changes of topic configs: what AlterConfigs and IncrementalAlterConfigs have in common.
//!
//! The proxy applies `diskless.enable`. The brokers apply every other config and decide which
//! client may alter what. A resource with the flag is first sent to the broker without the flag,
//! over the client's own connection and to be validated only. What the broker rejects is rejected,
//! and the topic is left unchanged.

use std::collections::HashMap;

use kafka_protocol::protocol::{Request as ApiRequest, StrBytes};

use super::topic_configs::{RESOURCE_TOPIC, is_compaction, is_diskless_flag, parse_diskless_flag};
use crate::proxy::audit::{AuditEvent, AuditOutcome};
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::topics::{MakeDisklessError, MigrationMode};

/// `AlterConfigOp.OpType`.
pub(super) const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;

/// A change of one config.
pub(super) struct Change<'a> {
    pub(super) name: &'a str,
    pub(super) operation: i8,
    pub(super) value: Option<&'a str>,
}

impl Change<'_> {
    fn compacts(&self) -> bool {
        matches!(self.operation, OP_SET | OP_APPEND) && is_compaction(self.name, self.value)
    }
}

/// Reason that a topic is left unchanged: a code and a message, of the proxy or of the broker.
type ConfigError = (ErrorCode, Option<StrBytes>);

fn config_error(code: ErrorCode, message: String) -> ConfigError {
    (code, Some(StrBytes::from_string(message)))
}

/// A resource of a request.
pub(super) trait Resource: Clone {
    fn resource_type(&self) -> i8;
    fn name(&self) -> &StrBytes;
    fn changes(&self) -> Vec<Change<'_>>;
    /// Removes the diskless flag, which the brokers do not know.
    fn remove_flag(&mut self);
    /// Returns whether nothing is left for the broker to do.
    fn is_done(&self) -> bool;
}

/// The result of one resource.
pub(super) struct ResourceResult {
    pub(super) resource_type: i8,
    pub(super) name: StrBytes,
    pub(super) code: ErrorCode,
    pub(super) message: Option<StrBytes>,
}

/// A request that alters configs.
pub(super) trait AlterRequest:
    ApiRequest<Response: Default + Send + 'static> + Clone
{
    type Resource: Resource;

    fn resources(&mut self) -> &mut Vec<Self::Resource>;
    fn validate_only(&mut self) -> &mut bool;
    /// Returns the broker's results.
    fn results(response: &Self::Response) -> Vec<ResourceResult>;
    /// Adds results to the broker's; `order` are the resources of the request.
    fn add_results(
        response: &mut Self::Response,
        results: Vec<ResourceResult>,
        order: &[(i8, StrBytes)],
    );
}

/// The topics that the broker rejected, each with its first error.
struct BrokerVerdicts(HashMap<StrBytes, ConfigError>);

impl BrokerVerdicts {
    fn new(results: Vec<ResourceResult>) -> Self {
        let mut errors = HashMap::new();
        for result in results.into_iter().filter(|result| result.code != ErrorCode::NONE) {
            errors.entry(result.name).or_insert((result.code, result.message));
        }
        Self(errors)
    }

    fn of(&self, topic: &StrBytes) -> Result<(), ConfigError> {
        self.0.get(topic).map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// Applies the diskless flag and forwards the rest of the request to the broker.
pub(super) async fn edit<A: AlterRequest>(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut alter: A = request.decode()?;
    let order: Vec<_> =
        alter.resources().iter().map(|r| (r.resource_type(), r.name().clone())).collect();
    let validate_only = *alter.validate_only();
    let is_ours = |resource: &A::Resource| is_handled_here(&request.proxy, resource);
    let mut decided = Vec::new();
    if alter.resources().iter().any(is_ours) {
        let mut question = alter.clone();
        *question.validate_only() = true;
        question.resources().retain(is_ours);
        question.resources().iter_mut().for_each(Resource::remove_flag);
        let response = broker.call(&question, request.version()).await?;
        let verdicts = BrokerVerdicts::new(A::results(&response));
        let mut forwarded = Vec::new();
        for mut resource in std::mem::take(alter.resources()) {
            if is_ours(&resource) {
                let applied = match verdicts.of(resource.name()) {
                    Ok(()) => apply_changes(&request.proxy, &resource, validate_only).await,
                    Err(error) => Err(error),
                };
                if !validate_only && enables_diskless(&resource) {
                    let code = applied.as_ref().err().map_or(ErrorCode::NONE, |(code, _)| *code);
                    let (topic, outcome) = (resource.name().as_str(), AuditOutcome::of(code));
                    broker.auditor().record(&AuditEvent::ChangeTopicType { topic, outcome });
                }
                resource.remove_flag();
                if applied.is_err() || resource.is_done() {
                    let (code, message) = applied.err().unwrap_or((ErrorCode::NONE, None));
                    let (resource_type, name) = (RESOURCE_TOPIC, resource.name().clone());
                    decided.push(ResourceResult { resource_type, name, code, message });
                    continue;
                }
            }
            forwarded.push(resource);
        }
        *alter.resources() = forwarded;
    }
    forward(request, alter, decided, order)
}

/// Forwards what is left of a request, and adds the results that are `decided` to the broker's.
fn forward<A: AlterRequest>(
    request: &Request,
    mut alter: A,
    decided: Vec<ResourceResult>,
    order: Vec<(i8, StrBytes)>,
) -> Result<Action, CloseReason> {
    if alter.resources().is_empty() && !decided.is_empty() {
        let mut response = A::Response::default();
        A::add_results(&mut response, decided, &order);
        return request.respond(&response);
    }
    let set = if *alter.validate_only() { Vec::new() } else { configs_set(alter.resources()) };
    request.forward_as(&alter, request.version(), move |proxy, mut response| async move {
        let verdicts = BrokerVerdicts::new(A::results(&response));
        // Configs of diskless topics that were set hold from the response on.
        for (topic, set) in set.iter().filter(|(topic, _)| verdicts.of(topic).is_ok()) {
            proxy.topics.configs.await_change(topic, set).await;
        }
        A::add_results(&mut response, decided, &order);
        response
    })
}

/// The configs that a request sets, by topic.
type ConfigsSet = Vec<(StrBytes, Vec<(String, String)>)>;

fn configs_set(resources: &[impl Resource]) -> ConfigsSet {
    let topics = resources.iter().filter(|resource| resource.resource_type() == RESOURCE_TOPIC);
    let set = |resource: &_| {
        let changes = Resource::changes(resource).into_iter();
        let pairs = changes
            .filter(|change| change.operation == OP_SET)
            .filter_map(|change| Some((change.name.to_owned(), change.value?.to_owned())));
        (Resource::name(resource).clone(), pairs.collect())
    };
    topics.map(set).collect()
}

/// Returns whether the proxy has to look at the changes of a resource.
fn is_handled_here(proxy: &Proxy, resource: &impl Resource) -> bool {
    let is_diskless =
        || proxy.topics.registry.by_name(resource.name()).is_some_and(|topic| topic.is_diskless());
    let changes = resource.changes();
    resource.resource_type() == RESOURCE_TOPIC
        && (changes.iter().any(|change| is_diskless_flag(change.name))
            || (changes.iter().any(Change::compacts) && is_diskless()))
}

/// Returns whether a resource asks to make its topic diskless.
fn enables_diskless(resource: &impl Resource) -> bool {
    let enables = |change: &Change<'_>| {
        change.operation == OP_SET
            && is_diskless_flag(change.name)
            && parse_diskless_flag(change.name, change.value) == Ok(true)
    };
    resource.changes().iter().any(enables)
}

/// Applies the changes of one topic that the proxy decides.
///
/// # Errors
/// Returns the error for the client if the topic has to be left unchanged.
async fn apply_changes(
    proxy: &Proxy,
    resource: &impl Resource,
    validate_only: bool,
) -> Result<(), ConfigError> {
    let (topic, changes) = (resource.name().as_str(), resource.changes());
    let invalid = |message: String| config_error(ErrorCode::INVALID_CONFIG, message);
    let mut enable = None;
    for change in changes.iter().filter(|change| is_diskless_flag(change.name)) {
        enable = Some(match change.operation {
            OP_SET => parse_diskless_flag(change.name, change.value).map_err(invalid)?,
            OP_DELETE => false,
            _ => {
                return Err(invalid(format!(
                    "invalid operation on {}: expected --add-config or --delete-config",
                    change.name
                )));
            }
        });
    }
    let diskless = proxy.topics.registry.by_name(topic).is_some_and(|topic| topic.is_diskless());
    if enable == Some(false) && diskless {
        return Err(invalid(format!(
            "topic {topic} is diskless and cannot become classic again; create a new topic and \
             copy its records"
        )));
    }
    // Checked before anything is done: a partly invalid alteration changes nothing.
    if (diskless || enable == Some(true)) && changes.iter().any(Change::compacts) {
        return Err(invalid(format!(
            "topic {topic}: cleanup.policy=compact is not supported on diskless topics; use delete"
        )));
    }
    if let Some(true) = enable {
        let check = if validate_only { MigrationMode::ValidateOnly } else { MigrationMode::Apply };
        let made = proxy.topics.migrator.make_diskless(topic, check).await;
        made.map_err(|error| config_error(error_code_of(&error), error.to_string()))?;
    }
    Ok(())
}

fn error_code_of(error: &MakeDisklessError) -> ErrorCode {
    match error {
        MakeDisklessError::HasRecords(_)
        | MakeDisklessError::Compacted(_)
        | MakeDisklessError::Internal(_) => ErrorCode::INVALID_CONFIG,
        MakeDisklessError::Unknown(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        MakeDisklessError::Upstream(_, _) | MakeDisklessError::Coordinator(_, _) => {
            ErrorCode::REQUEST_TIMED_OUT
        }
    }
}
