//! DeleteTopics (20).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::requested_topics::topic_id;
use crate::log::ids::TopicId;
use crate::proxy::audit::{AuditEvent, AuditOutcome, Auditor};
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::tasks;

pub(super) fn edit(request: Request, auditor: Auditor) -> Result<Action, CloseReason> {
    let delete: DeleteTopicsRequest = request.decode()?;
    // Before version 6 the response has no ids, so they are looked up before the topics are
    // deleted.
    let mut ids = HashMap::new();
    let named = delete.topics.iter().filter_map(|topic| topic.name.as_ref());
    for name in delete.topic_names.iter().chain(named) {
        if let Some(topic) = request.proxy.topics.registry.by_name(name.as_str()) {
            ids.insert(topic.name.clone(), topic.id);
        }
    }
    Ok(request.forward::<DeleteTopicsRequest, _>(move |proxy, response| async move {
        audit(&auditor, &response);
        for result in response.responses.iter().filter(|result| result.error_code == 0) {
            let returned = topic_id(&result.topic_id);
            let previous = result.name.as_ref().and_then(|name| ids.get(name.as_str())).copied();
            if let Some(id) = Some(returned).filter(|id| !id.is_zero()).or(previous) {
                delete_topic(&proxy, id).await;
            }
        }
        response
    }))
}

fn audit(auditor: &Auditor, response: &DeleteTopicsResponse) {
    for result in &response.responses {
        let topic_id = Some(result.topic_id).filter(|id| !id.is_nil()).map(|id| id.to_string());
        auditor.record(&AuditEvent::DeleteTopic {
            topic: result.name.as_ref().map(|name| name.as_str()),
            topic_id: topic_id.as_deref(),
            outcome: AuditOutcome::of(ErrorCode(result.error_code)),
        });
    }
}

/// Deletes the topic's metadata at once if possible, otherwise as soon as the coordinator is
/// available: the topic no longer exists on the brokers.
async fn delete_topic(proxy: &Arc<Proxy>, id: TopicId) {
    let Err(error) = proxy.topics.delete(id).await else { return };
    tracing::warn!(%id, %error, "metadata of a deleted topic could not be removed; retrying");
    let topics = Arc::clone(&proxy.topics);
    tasks::spawn("delete-topic", async move {
        for attempt in 0_u64..1000 {
            tokio::time::sleep(Duration::from_millis(500 * (attempt + 1).min(60))).await;
            if topics.delete(id).await.is_ok() {
                return;
            }
        }
        tracing::error!(%id, "metadata of a deleted topic was not removed; its records remain stored");
    });
}
