//! The section `clients`, and sidecars.

use super::*;

#[test]
fn client_zones_are_read() {
    let text = format!(
        "{KAFKA}clients:\n  zones:\n    - {{zone: b, port: 9093, cidrs: [10.2.0.0/16, \
         \"fd00:2::/32\"]}}\n    - {{zone: c, cidrs: [10.3.0.0/16]}}\n"
    );
    let zones = parse_with(&text, &[]).unwrap().clients.zones;
    let shown: Vec<_> =
        zones.iter().map(|z| (z.zone.as_str(), z.port, format!("{:?}", z.cidrs))).collect();
    let (b, c) = ("[10.2.0.0/16, fd00:2::/32]".to_owned(), "[10.3.0.0/16]".to_owned());
    assert_eq!(shown, [("b", Some(9093), b), ("c", None, c)]);
}

#[test]
fn problems_of_client_zones_are_reported() {
    check(
        "clients: {zones: [{port: 9093}, {zone: b}, {zone: c, cidrs: [10.2.0.0/33]}, \
         {zone: d, cidrs: [10.2.0.1/16]}, {zone: e, cidrs: [10.9.0.0/16]}, \
         {zone: f, cidrs: [10.9.0.0/16]}, {zone: g, port: 9092}]}",
        &[
            "clients.zones[0].zone: missing key: expected 1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
            "clients.zones[2].cidrs[0]: invalid network `10.2.0.0/33`: expected CIDR notation, such as `10.2.0.0/16` or `fd00:2::/32`",
            "clients.zones[3].cidrs[0]: invalid network `10.2.0.1/16`: host bits are set; expected `10.2.0.0/16`",
            "clients.zones[1]: missing key: expected `port: 9093` or `cidrs: [10.2.0.0/16]`",
            "clients.zones[5].cidrs: `10.9.0.0/16` is already a network of zone `e`; delete one of the two",
            "clients.zones[6].port: uses 9092, and `listeners.bootstrapPort` uses 9092; change one of them",
        ],
    );
}

#[test]
fn sidecar_requires_redis_and_no_peers() {
    for off in ["off", "false"] {
        let redis = "coordinator: redis://redis:6379/0\nlisteners: {nodePorts: 9105}\n";
        let settings = parse_with(&format!("{KAFKA}writer: {off}\n{redis}"), &[]).unwrap();
        assert!(!settings.writer, "its node ports may overlap");
    }
    assert!(parse_with(KAFKA, &[]).unwrap().writer);
    check("writer: never", &["writer: invalid boolean `never`: expected `true` or `false`"]);
    check(
        "writer: off\npeers: {bind: \"127.0.0.1:8190\"}",
        &[
            "writer: `false` requires the Redis of the other replicas, but `coordinator` is `embedded`, which is inside the only replica; set the Redis URL there, or delete `writer`",
            "peers: requires `writer: true`; delete this section, or `writer`",
        ],
    );
}
