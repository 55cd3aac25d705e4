//! AlterConfigs (33), IncrementalAlterConfigs (44): `diskless.enable` is ours, every other config
//! is the broker's, and so is the word on who may alter what.
//!
//! What concerns us is first put to the broker as a question, without our flag: in the client's
//! name, over the client's connection, to be validated only. What the broker refuses is refused,
//! and the topic stays as it was.

use std::collections::HashMap;

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as WholeResource, AlterableConfig as WholeChange,
};
use kafka_protocol::messages::alter_configs_response as whole;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{RESOURCE_TOPIC, is_diskless_flag, parse_diskless_flag};
use super::{Action, Request};
use crate::proxy::Proxy;
use crate::proxy::connection::BrokerLink;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::response::CloseReason;
use crate::proxy::topics::{MakeDisklessError, MigrationMode};

/// `AlterConfigOp.OpType`.
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;

/// A change of a config, whichever request it came in.
struct Change<'a> {
    name: &'a str,
    operation: i8,
    value: Option<&'a str>,
}

impl<'a> From<&'a AlterableConfig> for Change<'a> {
    fn from(c: &'a AlterableConfig) -> Self {
        Self { name: &c.name, operation: c.config_operation, value: c.value.as_deref() }
    }
}

impl<'a> From<&'a WholeChange> for Change<'a> {
    fn from(c: &'a WholeChange) -> Self {
        Self { name: &c.name, operation: OP_SET, value: c.value.as_deref() }
    }
}

impl Change<'_> {
    fn compacts(&self) -> bool {
        self.name == "cleanup.policy"
            && matches!(self.operation, OP_SET | OP_APPEND)
            && self.value.is_some_and(|v| v.split(',').any(|p| p.trim() == "compact"))
    }
}

/// Why a topic stays as it is: a code and a message, ours or the broker's.
type ConfigError = (ErrorCode, Option<StrBytes>);

fn refusal(code: ErrorCode, message: String) -> ConfigError {
    (code, Some(StrBytes::from_string(message)))
}

/// Whether we have a say in changes of this topic.
fn is_handled_here(proxy: &Proxy, topic: &str, changes: &[Change<'_>]) -> bool {
    let diskless = || proxy.topics.by_name(topic).is_some_and(|topic| topic.is_diskless());
    changes.iter().any(|change| is_diskless_flag(change.name))
        || (changes.iter().any(Change::compacts) && diskless())
}

/// Obeys the changes of one topic that concern us; `Err` when the topic is to stay as it is.
async fn apply_changes(
    proxy: &Proxy,
    topic: &str,
    changes: &[Change<'_>],
    validate_only: bool,
) -> Result<(), ConfigError> {
    let invalid = |message: String| refusal(ErrorCode::INVALID_CONFIG, message);
    let mut enable = None;
    for change in changes.iter().filter(|change| is_diskless_flag(change.name)) {
        enable = Some(match change.operation {
            OP_SET => parse_diskless_flag(change.name, change.value).map_err(invalid)?,
            OP_DELETE => false,
            _ => {
                return Err(invalid(format!(
                    "{} takes --add-config or --delete-config",
                    change.name
                )));
            }
        });
    }
    let diskless = proxy.topics.by_name(topic).is_some_and(|topic| topic.is_diskless());
    if enable == Some(false) && diskless {
        return Err(invalid(format!(
            "topic {topic} is diskless and cannot become classic again; create a new topic and \
             copy its records"
        )));
    }
    // Before anything is done: what is refused in part is refused whole.
    if (diskless || enable == Some(true)) && changes.iter().any(Change::compacts) {
        return Err(invalid(format!(
            "topic {topic}: cleanup.policy=compact is not supported on diskless topics; use delete"
        )));
    }
    if let Some(true) = enable {
        let check = if validate_only { MigrationMode::ValidateOnly } else { MigrationMode::Apply };
        let made = proxy.topics.make_diskless(topic, check).await;
        made.map_err(|error| refusal(code_of(&error), error.to_string()))?;
    }
    Ok(())
}

fn code_of(error: &MakeDisklessError) -> ErrorCode {
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

/// What a request sets for topics: a name, and configs with their values.
type Set = Vec<(String, Vec<(String, String)>)>;

fn set<'a>(
    name: &str,
    changes: impl Iterator<Item = Change<'a>>,
) -> (String, Vec<(String, String)>) {
    let set = changes.filter(|change| change.operation == OP_SET);
    let pair = |change: Change<'_>| Some((change.name.to_owned(), change.value?.to_owned()));
    (name.to_owned(), set.filter_map(pair).collect())
}

/// Configs of diskless topics may have changed: what was set, and not refused, holds from the
/// answer on.
async fn await_config_change(proxy: &Proxy, set: Set, refused: &[StrBytes]) {
    let obeyed = |(topic, _): &&(String, _)| !refused.iter().any(|name| name.as_str() == topic);
    for (topic, set) in set.iter().filter(obeyed) {
        proxy.topics.await_config_change(topic, set).await;
    }
}

/// What the broker said of topics when asked; of each, the first refusal.
struct BrokerVerdicts(HashMap<StrBytes, ConfigError>);

impl BrokerVerdicts {
    fn new(rows: impl Iterator<Item = (StrBytes, i16, Option<StrBytes>)>) -> Self {
        let mut refusals = HashMap::new();
        for (topic, code, message) in rows.filter(|(_, code, _)| *code != 0) {
            refusals.entry(topic).or_insert((ErrorCode(code), message));
        }
        Self(refusals)
    }

    fn of(&self, topic: &StrBytes) -> Result<(), ConfigError> {
        self.0.get(topic).map_or(Ok(()), |refusal| Err(refusal.clone()))
    }
}

pub(super) async fn edit_incremental_alter(
    request: &Request,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    let mut asked: IncrementalAlterConfigsRequest = request.decode()?;
    let order: Vec<_> =
        asked.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let (proxy, validate_only) = (&request.proxy, asked.validate_only);
    let concerns = |resource: &AlterConfigsResource| {
        let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
        resource.resource_type == RESOURCE_TOPIC
            && is_handled_here(proxy, &resource.resource_name, &changes)
    };
    if !asked.resources.iter().any(concerns) {
        return forward_incremental(request, &asked, (Vec::new(), order));
    }
    let mut question = asked.clone().with_validate_only(true);
    question.resources.retain(concerns);
    for resource in &mut question.resources {
        resource.configs.retain(|config| !is_diskless_flag(&config.name));
    }
    let said = broker.call(&question, request.version()).await?;
    let said = said.responses.into_iter();
    let verdicts =
        BrokerVerdicts::new(said.map(|r| (r.resource_name, r.error_code, r.error_message)));

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for mut resource in std::mem::take(&mut asked.resources) {
        if !concerns(&resource) {
            theirs.push(resource);
            continue;
        }
        let name = resource.resource_name.clone();
        let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
        let obeyed = match verdicts.of(&name) {
            Ok(()) => apply_changes(proxy, &name, &changes, validate_only).await,
            Err(refusal) => Err(refusal),
        };
        resource.configs.retain(|config| !is_diskless_flag(&config.name));
        if obeyed.is_ok() && !resource.configs.is_empty() {
            theirs.push(resource);
            continue;
        }
        let (code, message) = obeyed.err().unwrap_or((ErrorCode::NONE, None));
        ours.push(
            AlterConfigsResourceResponse::default()
                .with_resource_type(RESOURCE_TOPIC)
                .with_resource_name(name)
                .with_error_code(code.0)
                .with_error_message(message),
        );
    }
    asked.resources = theirs;
    forward_incremental(request, &asked, (ours, order))
}

fn forward_incremental(
    request: &Request,
    asked: &IncrementalAlterConfigsRequest,
    (mut ours, order): (Vec<AlterConfigsResourceResponse>, Vec<(i8, StrBytes)>),
) -> Result<Action, CloseReason> {
    if asked.resources.is_empty() && !ours.is_empty() {
        return request.answer(&IncrementalAlterConfigsResponse::default().with_responses(ours));
    }
    let topics = asked.resources.iter().filter(|r| r.resource_type == RESOURCE_TOPIC);
    let topics = topics.filter(|_| !asked.validate_only);
    let set = topics.map(|r| set(&r.resource_name, r.configs.iter().map(Change::from))).collect();
    request.forward_as(asked, request.version(), move |proxy, mut response| async move {
        let refused = response.responses.iter().filter(|row| row.error_code != 0);
        let refused: Vec<_> = refused.map(|row| row.resource_name.clone()).collect();
        await_config_change(&proxy, set, &refused).await;
        response.responses.append(&mut ours);
        response.responses.sort_by_key(|row| {
            order.iter().position(|(t, n)| (*t, n) == (row.resource_type, &row.resource_name))
        });
        response
    })
}

/// The older request sets all configs of a resource at once: what it leaves out goes back to its
/// default, but for our flag, which is not a broker's and stays.
pub(super) async fn edit_alter(
    request: &Request,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    let mut asked: AlterConfigsRequest = request.decode()?;
    let (proxy, validate_only) = (&request.proxy, asked.validate_only);
    let concerns = |resource: &WholeResource| {
        let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
        resource.resource_type == RESOURCE_TOPIC
            && is_handled_here(proxy, &resource.resource_name, &changes)
    };
    if !asked.resources.iter().any(concerns) {
        return forward_whole(request, &asked, Vec::new());
    }
    let mut question = asked.clone().with_validate_only(true);
    question.resources.retain(concerns);
    for resource in &mut question.resources {
        resource.configs.retain(|config| !is_diskless_flag(&config.name));
    }
    let said = broker.call(&question, request.version()).await?;
    let said = said.responses.into_iter();
    let verdicts =
        BrokerVerdicts::new(said.map(|r| (r.resource_name, r.error_code, r.error_message)));

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for mut resource in std::mem::take(&mut asked.resources) {
        if concerns(&resource) {
            let name = resource.resource_name.clone();
            let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
            let obeyed = match verdicts.of(&name) {
                Ok(()) => apply_changes(proxy, &name, &changes, validate_only).await,
                Err(refusal) => Err(refusal),
            };
            if let Err((code, message)) = obeyed {
                ours.push(
                    whole::AlterConfigsResourceResponse::default()
                        .with_resource_type(RESOURCE_TOPIC)
                        .with_resource_name(name)
                        .with_error_code(code.0)
                        .with_error_message(message),
                );
                continue;
            }
            resource.configs.retain(|config| !is_diskless_flag(&config.name));
        }
        theirs.push(resource);
    }
    asked.resources = theirs;
    forward_whole(request, &asked, ours)
}

fn forward_whole(
    request: &Request,
    asked: &AlterConfigsRequest,
    mut ours: Vec<whole::AlterConfigsResourceResponse>,
) -> Result<Action, CloseReason> {
    if asked.resources.is_empty() && !ours.is_empty() {
        return request.answer(&AlterConfigsResponse::default().with_responses(ours));
    }
    let topics = asked.resources.iter().filter(|r| r.resource_type == RESOURCE_TOPIC);
    let topics = topics.filter(|_| !asked.validate_only);
    let set = topics.map(|r| set(&r.resource_name, r.configs.iter().map(Change::from))).collect();
    request.forward_as(asked, request.version(), move |proxy, mut response| async move {
        let refused = response.responses.iter().filter(|row| row.error_code != 0);
        let refused: Vec<_> = refused.map(|row| row.resource_name.clone()).collect();
        await_config_change(&proxy, set, &refused).await;
        response.responses.append(&mut ours);
        response
    })
}
