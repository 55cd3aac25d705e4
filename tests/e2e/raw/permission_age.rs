//! An allowed client is never told that it is not, however old a decision of a broker has become
//! meanwhile.

use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, ListOffsetsResponse};

use super::Topic;
use super::requests::{LATEST, fetch, list_offsets, topic_name};

const UNKNOWN_TOPIC: i16 = 3;
/// The time for which a decision of a broker is used.
const DECISION_TTL: Duration = Duration::from_secs(30);

fn codes(response: &ListOffsetsResponse) -> Vec<i16> {
    let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
    rows.map(|row| row.error_code).collect()
}

/// Returns a request for the ends of partition 0 of topics.
fn ends_of(topics: &[&Topic]) -> ListOffsetsRequest {
    let of = |topic: &&Topic| list_offsets(topic.partition(0), LATEST).topics.remove(0);
    list_offsets(topics[0].partition(0), LATEST).with_topics(topics.iter().map(of).collect())
}

#[test]
fn decision_that_is_old_on_arrival_denies_nothing() {
    let (busy, other) = (Topic::diskless("busy", 1), Topic::diskless("other", 1));
    let mut client = busy.client();
    let waiting = client.send(&fetch(busy.partition(0), 12, 0).with_max_wait_ms(31_000), 12);
    let behind = client.send(&ends_of(&[&other]), 7);
    client.receive_patiently::<FetchRequest>(waiting, 12);
    let response = client.receive_patiently::<ListOffsetsRequest>(behind, 7);
    assert_eq!(codes(&response), [0]);
}

#[test]
fn decision_that_ages_while_another_is_made_denies_nothing() {
    let (known, new) = (Topic::diskless("known", 1), Topic::diskless("new", 1));
    let mut clients: Vec<_> = (0..60).map(|_| (known.client(), Instant::now())).collect();
    for (client, known_since) in &mut clients {
        *known_since = Instant::now();
        assert_eq!(codes(&client.call(&ends_of(&[&known]), 7)), [0]);
    }
    // Each sends its second request a moment before the decision about the first topic expires.
    let mut sent = Vec::new();
    for (index, (client, known_since)) in clients.iter_mut().enumerate() {
        let before = Duration::from_micros(100) * (index as u32 % 30);
        let due = *known_since + DECISION_TTL - before;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.push(client.send(&ends_of(&[&known, &new]), 7));
    }
    let answers = clients.iter_mut().zip(sent);
    let answers = answers.map(|((client, _), id)| client.receive::<ListOffsetsRequest>(id, 7));
    let denied = answers.filter(|response| codes(response) != [0, 0]).count();
    assert_eq!(denied, 0, "of 60 requests");
}

/// More topics than a connection's decisions are cached for.
#[test]
fn request_of_many_topics_is_denied_none() {
    let known = Topic::diskless("among-many", 1);
    let mut request = ends_of(&[&known]);
    let partitions = request.topics[0].partitions.clone();
    request.topics.extend((0..10_500).map(|index| {
        let name = topic_name(&format!("{}-{index}", known.name));
        ListOffsetsTopic::default().with_name(name).with_partitions(partitions.clone())
    }));
    let mut client = known.client();
    let id = client.send(&request, 7);
    let codes = codes(&client.receive_patiently::<ListOffsetsRequest>(id, 7));
    assert_eq!(codes[0], 0);
    let others = codes[1..].iter().filter(|code| **code != UNKNOWN_TOPIC).count();
    assert_eq!(others, 0, "of {} unknown topics", codes.len() - 1);
}
