//! DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44): `diskless.enable` is
//! ours, every other config is the broker's.

use kafka_protocol::messages::alter_configs_request::AlterableConfig as WholeChange;
use kafka_protocol::messages::alter_configs_response as alter;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig as IncrementalChange;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Request, Step};
use crate::proxy::Proxy;
use crate::proxy::error_reply::ErrorCode;
use crate::proxy::reply::Close;
use crate::proxy::session::Endpoint;
use crate::proxy::topics::{Check, MakeDisklessError};

/// The config that makes a topic diskless.
pub(super) const DISKLESS_ENABLE: &str = "diskless.enable";
/// The name that it has with Inkless.
const INKLESS_ENABLE: &str = "inkless.enable";

/// `ConfigSource` of a topic's own config and of a node's own file.
pub(super) const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
/// `ConfigType`.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
/// `ConfigResource.Type`.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
/// `AlterConfigOp.OpType`.
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;

/// Whether a config is ours.
pub(super) fn is_flag(name: &str) -> bool {
    matches!(name, DISKLESS_ENABLE | INKLESS_ENABLE)
}

/// Reads the flag's value as Kafka reads booleans.
pub(super) fn parse_flag(name: &str, value: Option<&str>) -> Result<bool, String> {
    let value = value.unwrap_or_default().trim();
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name}={value} is neither true nor false")),
    }
}

pub(super) async fn edit_describe(request: &Request) -> Result<Step, Close> {
    let mut describe: DescribeConfigsRequest = request.decode()?;
    let own_id = match request.endpoint {
        Endpoint::Node(k) => Some(request.proxy.settings.node_id(k).to_string()),
        Endpoint::Bootstrap | Endpoint::Broker(_) => None,
    };
    let order = describe.resources.clone();
    let is_own = |resource: &DescribeConfigsResource| {
        resource.resource_type == RESOURCE_BROKER
            && own_id.as_deref() == Some(resource.resource_name.as_str())
    };
    let own = describe.resources.iter().find(|r| is_own(r)).map(|r| own_configs(&request.proxy, r));
    describe.resources.retain(|resource| !is_own(resource));
    if let (Some(own), true) = (&own, describe.resources.is_empty()) {
        return request.answer(&DescribeConfigsResponse::default().with_results(vec![own.clone()]));
    }
    request.forward_as(&describe, request.version(), move |proxy, mut response| async move {
        response.results.extend(own);
        for result in response.results.iter_mut().filter(|result| result.error_code == 0) {
            let asked = order.iter().find(|asked| {
                (asked.resource_type, &asked.resource_name)
                    == (result.resource_type, &result.resource_name)
            });
            show_flag(&proxy, asked, result);
        }
        response
    })
}

fn show_flag(
    proxy: &Proxy,
    asked: Option<&DescribeConfigsResource>,
    result: &mut DescribeConfigsResult,
) {
    let wanted = match asked.and_then(|asked| asked.configuration_keys.as_ref()) {
        Some(keys) => keys.iter().any(|key| key.as_str() == DISKLESS_ENABLE),
        None => true,
    };
    let topic = proxy.topics.by_name(result.resource_name.as_str());
    if wanted && result.resource_type == RESOURCE_TOPIC && topic.is_some_and(|t| t.is_diskless()) {
        result.configs.push(
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(DISKLESS_ENABLE))
                .with_value(Some(StrBytes::from_static_str("true")))
                .with_config_source(SOURCE_TOPIC)
                .with_config_type(TYPE_BOOLEAN),
        );
    }
}

/// What a diskless node says of itself.
fn own_configs(proxy: &Proxy, asked: &DescribeConfigsResource) -> DescribeConfigsResult {
    let settings = [
        ("odradek.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("odradek.zone", proxy.settings.zone.clone()),
        ("odradek.store", proxy.settings.store_name.clone()),
    ];
    let wanted = |name: &str| match &asked.configuration_keys {
        Some(keys) => keys.iter().any(|key| key.as_str() == name),
        None => true,
    };
    let config = |(name, value): (&'static str, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_read_only(true)
            .with_config_source(SOURCE_STATIC_BROKER)
            .with_config_type(TYPE_STRING)
    };
    DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone())
        .with_configs(settings.into_iter().filter(|(name, _)| wanted(name)).map(config).collect())
}

/// A change of a config, whichever request it came in.
struct Change<'a> {
    name: &'a str,
    operation: i8,
    value: Option<&'a str>,
}

impl<'a> From<&'a IncrementalChange> for Change<'a> {
    fn from(c: &'a IncrementalChange) -> Self {
        Self { name: &c.name, operation: c.config_operation, value: c.value.as_deref() }
    }
}

impl<'a> From<&'a WholeChange> for Change<'a> {
    fn from(c: &'a WholeChange) -> Self {
        Self { name: &c.name, operation: OP_SET, value: c.value.as_deref() }
    }
}

type Refusal = (ErrorCode, String);

/// Obeys the changes of one topic that concern us; `Err` when the topic is to stay as it is.
async fn obey(
    proxy: &Proxy,
    topic: &str,
    changes: &[Change<'_>],
    validate_only: bool,
) -> Result<(), Refusal> {
    let invalid = |message: String| (ErrorCode::INVALID_CONFIG, message);
    let mut enable = None;
    for change in changes.iter().filter(|change| is_flag(change.name)) {
        enable = Some(match change.operation {
            OP_SET => parse_flag(change.name, change.value).map_err(invalid)?,
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
    let compacts = |change: &Change<'_>| {
        change.name == "cleanup.policy"
            && matches!(change.operation, OP_SET | OP_APPEND)
            && change.value.is_some_and(|v| v.split(',').any(|p| p.trim() == "compact"))
    };
    // Before anything is done: what is refused in part is refused whole.
    if (diskless || enable == Some(true)) && changes.iter().any(compacts) {
        return Err(invalid(format!(
            "topic {topic}: cleanup.policy=compact is not supported on diskless topics; use delete"
        )));
    }
    if let Some(true) = enable {
        let check = if validate_only { Check::Only } else { Check::ThenDo };
        let made = proxy.topics.make_diskless(topic, check).await;
        made.map_err(|error| (code_of(&error), error.to_string()))?;
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

/// What a request sets for a topic, by the topic's name.
type Set = Vec<(String, Vec<(String, String)>)>;

fn sets<'a>(
    name: &str,
    changes: impl Iterator<Item = Change<'a>>,
) -> (String, Vec<(String, String)>) {
    let set = changes.filter(|change| change.operation == OP_SET);
    let pair = |change: Change<'_>| Some((change.name.to_owned(), change.value?.to_owned()));
    (name.to_owned(), set.filter_map(pair).collect())
}

/// Configs of a diskless topic may have changed: what was set holds from the answer on.
async fn refresh_configs(proxy: &Proxy, set: Set) {
    for (topic, set) in set {
        proxy.topics.follow_configs(&topic, &set).await;
    }
}

pub(super) async fn edit_incremental_alter(request: &Request) -> Result<Step, Close> {
    let mut asked: IncrementalAlterConfigsRequest = request.decode()?;
    let order: Vec<_> =
        asked.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for mut resource in std::mem::take(&mut asked.resources) {
        let mut settled = None;
        if resource.resource_type == RESOURCE_TOPIC {
            let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
            let had_ours = changes.iter().any(|change| is_flag(change.name));
            let obeyed =
                obey(&request.proxy, &resource.resource_name, &changes, asked.validate_only).await;
            resource.configs.retain(|config| !is_flag(&config.name));
            settled = match obeyed {
                Err(refusal) => Some(Err(refusal)),
                Ok(()) if had_ours && resource.configs.is_empty() => Some(Ok(())),
                Ok(()) => None,
            };
        }
        match settled {
            Some(outcome) => {
                let row = AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name);
                ours.push(match outcome {
                    Ok(()) => row,
                    Err((code, message)) => row
                        .with_error_code(code.0)
                        .with_error_message(Some(StrBytes::from_string(message))),
                });
            }
            None => theirs.push(resource),
        }
    }
    if theirs.is_empty() && !ours.is_empty() {
        return request.answer(&IncrementalAlterConfigsResponse::default().with_responses(ours));
    }
    let topics =
        theirs.iter().filter(|r| r.resource_type == RESOURCE_TOPIC && !asked.validate_only);
    let set = topics.map(|r| sets(&r.resource_name, r.configs.iter().map(Change::from)));
    let mut set: Set = set.collect();
    asked.resources = theirs;
    request.forward_as(&asked, request.version(), move |proxy, mut response| async move {
        let failed = |name: &str| {
            response.responses.iter().any(|r| r.error_code != 0 && r.resource_name.as_str() == name)
        };
        set.retain(|(name, _)| !failed(name));
        response.responses.append(&mut ours);
        response.responses.sort_by_key(|row| {
            order.iter().position(|(t, n)| (*t, n) == (row.resource_type, &row.resource_name))
        });
        refresh_configs(&proxy, set).await;
        response
    })
}

/// The older request sets all configs of a resource at once: what it leaves out goes back to its
/// default, but for our flag, which is not a broker's and stays.
pub(super) async fn edit_alter(request: &Request) -> Result<Step, Close> {
    let mut asked: AlterConfigsRequest = request.decode()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for mut resource in std::mem::take(&mut asked.resources) {
        if resource.resource_type == RESOURCE_TOPIC {
            let changes: Vec<_> = resource.configs.iter().map(Change::from).collect();
            let obeyed =
                obey(&request.proxy, &resource.resource_name, &changes, asked.validate_only).await;
            if let Err((code, message)) = obeyed {
                ours.push(
                    alter::AlterConfigsResourceResponse::default()
                        .with_resource_type(resource.resource_type)
                        .with_resource_name(resource.resource_name)
                        .with_error_code(code.0)
                        .with_error_message(Some(StrBytes::from_string(message))),
                );
                continue;
            }
            resource.configs.retain(|config| !is_flag(&config.name));
        }
        theirs.push(resource);
    }
    if theirs.is_empty() && !ours.is_empty() {
        return request.answer(&AlterConfigsResponse::default().with_responses(ours));
    }
    let topics =
        theirs.iter().filter(|r| r.resource_type == RESOURCE_TOPIC && !asked.validate_only);
    let set = topics.map(|r| sets(&r.resource_name, r.configs.iter().map(Change::from)));
    let mut set: Set = set.collect();
    asked.resources = theirs;
    request.forward_as(&asked, request.version(), move |proxy, mut response| async move {
        let failed = |name: &str| {
            response.responses.iter().any(|r| r.error_code != 0 && r.resource_name.as_str() == name)
        };
        set.retain(|(name, _)| !failed(name));
        response.responses.append(&mut ours);
        refresh_configs(&proxy, set).await;
        response
    })
}
