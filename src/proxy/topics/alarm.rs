//! Looks after the placeholders on the brokers: they are to hold nothing, ever.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use super::{Topics, placeholder};
use crate::log::ids::TopicId;

/// Topics that one look asks the brokers about; the next look goes on behind them.
const TOPICS_PER_LOOK: usize = 16;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Alarm(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The name of the topic that was looked at last.
    last: Option<String>,
    /// Topics whose placeholders hold records.
    written: BTreeSet<TopicId>,
}

impl Topics {
    /// Looks at the placeholders of some diskless topics, and says how many hold records: a client
    /// wrote to a broker directly, and nobody who reads the diskless topic will see it. All topics
    /// have their turn.
    pub async fn written_placeholders(&self) -> usize {
        let topics = self.diskless();
        let last = self.alarm.lock().last.clone();
        let first = last.map_or(0, |last| topics.partition_point(|topic| topic.name <= last));
        let in_turn = topics[first..].iter().chain(&topics[..first]).take(TOPICS_PER_LOOK);
        for topic in in_turn {
            let is_written = placeholder::is_written(&self.cluster, &topic.name, topic.id).await;
            let mut state = self.alarm.lock();
            state.last = Some(topic.name.clone());
            if is_written && state.written.insert(topic.id) {
                tracing::error!(
                    topic = topic.name,
                    "the placeholder on the brokers holds records: a client writes to the brokers \
                     directly, past Odradek, and no consumer of the diskless topic sees what it \
                     writes; point it at Odradek"
                );
            }
        }
        let mut state = self.alarm.lock();
        state.written.retain(|id| topics.iter().any(|topic| topic.id == *id));
        state.written.len()
    }
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}
