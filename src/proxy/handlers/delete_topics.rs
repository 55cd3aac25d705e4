//! DeleteTopics (20).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::DeleteTopicsRequest;

use super::requested_topics::topic_id;
use crate::log::ids::TopicId;
use crate::proxy::context::Proxy;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::tasks;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    let delete: DeleteTopicsRequest = request.decode()?;
    // Before version 6 the answer has no ids: whom the names meant is noted before they are gone.
    let mut ids = HashMap::new();
    let named = delete.topics.iter().filter_map(|topic| topic.name.as_ref());
    for name in delete.topic_names.iter().chain(named) {
        if let Some(topic) = request.proxy.topics.registry.by_name(name.as_str()) {
            ids.insert(name.clone(), topic.id);
        }
    }
    Ok(request.forward::<DeleteTopicsRequest, _>(move |proxy, response| async move {
        for result in response.responses.iter().filter(|result| result.error_code == 0) {
            let answered = topic_id(&result.topic_id);
            let noted = result.name.as_ref().and_then(|name| ids.get(name)).copied();
            if let Some(id) = Some(answered).filter(|id| !id.is_zero()).or(noted) {
                forget(&proxy, id).await;
            }
        }
        response
    }))
}

/// Forgets at once if possible, else as soon as the coordinator can be asked: the topic is gone
/// on the brokers whatever we do.
async fn forget(proxy: &Arc<Proxy>, id: TopicId) {
    let Err(error) = proxy.topics.delete(id).await else { return };
    tracing::warn!(%id, %error, "a deleted topic is not forgotten yet");
    let topics = Arc::clone(&proxy.topics);
    tasks::spawn("forget", async move {
        for attempt in 0_u64..1000 {
            tokio::time::sleep(Duration::from_millis(500 * (attempt + 1).min(60))).await;
            if topics.delete(id).await.is_ok() {
                return;
            }
        }
        tracing::error!(%id, "a deleted topic was never forgotten; its records stay stored");
    });
}
