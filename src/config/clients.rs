//! The section `clients`: in which zones they are.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::ClientZoneSettings;
use super::raw::{Node, Reader, join};
use super::units::parse_duration;
use super::values::{is_name, port};

const TELEMETRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

impl Reader {
    pub(super) fn clients(&mut self, node: Option<&Node>) -> Vec<ClientZoneSettings> {
        let section = self.section("clients", node);
        let list = self.list("clients.zones", section.find("zones"));
        let mut zones: Vec<ClientZoneSettings> = Vec::new();
        for (index, node) in list.unwrap_or_default().iter().enumerate() {
            let path = format!("clients.zones[{index}]");
            let clients = self.client_zone(&path, node);
            for cidr in &clients.cidrs {
                let other = zones.iter().find(|other| other.cidrs.contains(cidr));
                if let Some(other) = other.filter(|other| other.zone != clients.zone) {
                    let message = format!(
                        "`{cidr}` is a network of zone `{}` already; delete one of the two",
                        other.zone
                    );
                    self.problems.push(join(&path, "cidrs"), message);
                }
            }
            zones.push(clients);
        }
        zones
    }

    /// The other key of the section.
    pub(super) fn telemetry(&mut self, node: Option<&Node>) -> Option<Duration> {
        let Some(Node::Map(entries)) = node else { return None };
        let is_it = |(key, _): &&(Node, Node)| matches!(key, Node::Text(key) if key == "telemetry");
        let found = entries.iter().find(is_it).map(|(_, value)| value);
        self.word("clients.telemetry", found, |text| {
            let interval = parse_duration(text).filter(|time| TELEMETRY.contains(time));
            interval.ok_or_else(|| "is no interval; write 1s to 1h, as `1m`".to_owned())
        })
    }

    fn client_zone(&mut self, path: &str, node: &Node) -> ClientZoneSettings {
        let section = self.section(path, Some(node));
        let (zone, at, cidrs) = (section.find("zone"), section.find("port"), section.find("cidrs"));
        if zone.is_none() && matches!(node, Node::Map(_) | Node::Null) {
            self.problems.push(join(path, "zone"), "is required; write the name of a zone");
        }
        if zone.is_some() && at.is_none() && cidrs.is_none() {
            let message = "says nothing of clients; add `port: 9193` or `cidrs: [10.2.0.0/16]`";
            self.problems.push(path, message);
        }
        let zone = self.text(&join(path, "zone"), zone, |text| match is_name(text) {
            true => Ok(text.to_owned()),
            false => Err("is no zone; write the `zone` of other replicas".to_owned()),
        });
        let at = self.word(&join(path, "port"), at, port);
        let (list_path, mut networks) = (join(path, "cidrs"), Vec::new());
        for (index, node) in self.list(&list_path, cidrs).unwrap_or_default().iter().enumerate() {
            networks.extend(self.text(&format!("{list_path}[{index}]"), Some(node), cidr));
        }
        // A zone that could not be read keeps its place: others are named by theirs.
        let zone = Arc::from(zone.unwrap_or_default());
        ClientZoneSettings { zone, port: at, cidrs: networks }
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let remedy = "is no network; write one such as `10.2.0.0/16` or `fd00:2::/32`";
    let network: IpNet = text.parse().map_err(|_not_one| remedy.to_owned())?;
    match network == network.trunc() {
        true => Ok(network),
        false => Err(format!("has bits behind its prefix; write `{}`", network.trunc())),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{check, parse_with};

    const KAFKA: &str = "kafka: {bootstrapServers: [k:9092]}\n";

    #[test]
    fn zones_of_clients_are_read() {
        let text = format!(
            "{KAFKA}clients:\n  zones:\n    - {{zone: b, port: 9193, cidrs: [10.2.0.0/16, \
             \"fd00:2::/32\"]}}\n    - {{zone: c, cidrs: [10.3.0.0/16]}}\n"
        );
        let zones = parse_with(&text, &[]).unwrap().client_zones;
        let shown: Vec<_> =
            zones.iter().map(|z| (&*z.zone, z.port, format!("{:?}", z.cidrs))).collect();
        let (b, c) = ("[10.2.0.0/16, fd00:2::/32]".to_owned(), "[10.3.0.0/16]".to_owned());
        assert_eq!(shown, [("b", Some(9193), b), ("c", None, c)]);
    }

    #[test]
    fn what_is_wrong_with_them_is_said() {
        check(
            "clients: {zones: [{port: 9193}, {zone: b}, {zone: c, cidrs: [10.2.0.0/33]}, \
             {zone: d, cidrs: [10.2.0.1/16]}, {zone: e, cidrs: [10.9.0.0/16]}, \
             {zone: f, cidrs: [10.9.0.0/16]}, {zone: g, port: 9092}]}",
            &[
                "clients.zones[0].zone: is required; write the name of a zone",
                "clients.zones[1]: says nothing of clients; add `port: 9193` or \
                 `cidrs: [10.2.0.0/16]`",
                "clients.zones[2].cidrs[0]: `10.2.0.0/33` is no network; write one such as \
                 `10.2.0.0/16` or `fd00:2::/32`",
                "clients.zones[3].cidrs[0]: `10.2.0.1/16` has bits behind its prefix; write \
                 `10.2.0.0/16`",
                "clients.zones[5].cidrs: `10.9.0.0/16` is a network of zone `e` already; delete \
                 one of the two",
                "clients.zones[6].port: takes 9092, and `listeners.bootstrapPort` takes 9092; \
                 move one of them",
            ],
        );
    }

    #[test]
    fn without_a_writer() {
        for off in ["off", "false"] {
            let redis = "coordinator: redis://redis:6379/0\nlisteners: {nodePorts: 9105}\n";
            let settings = parse_with(&format!("{KAFKA}writer: {off}\n{redis}"), &[]).unwrap();
            assert!(!settings.writer, "and its node ports are nobody's");
        }
        assert!(parse_with(KAFKA, &[]).unwrap().writer);
        check("writer: never", &["writer: `never` is neither; write `on` or `off`"]);
        check(
            "writer: off\npeers: {bind: \"127.0.0.1:9190\"}",
            &[
                "writer: is `off`, and `coordinator` is `embedded`, which is inside the replica \
                 that writes; name the Redis of the zone's replicas, or delete `writer`",
                "peers: is for replicas with a writer; delete this section, or `writer`",
            ],
        );
    }
}
