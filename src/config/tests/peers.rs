//! The section `peers`.

use super::*;

#[test]
fn peers_require_a_reachable_address() {
    let none = parse("").unwrap();
    assert_eq!(none.peers, None);
    let specific = parse("peers: {bind: \"[::1]:8190\"}").unwrap().peers.expect("it is there");
    assert_eq!(specific.address(), "[::1]:8190");
    let named = parse("peers: {bind: \"0.0.0.0:8190\", advertisedHost: pod-0.odradek}").unwrap();
    assert_eq!(named.peers.expect("it is there").address(), "pod-0.odradek:8190");
    check(
        "peers: {bind: \"0.0.0.0:8190\"}",
        &[
            "peers.advertisedHost: missing key: required because `peers.bind` is `0.0.0.0:8190`; expected the host at which the other replicas of the zone reach this one",
        ],
    );
    check(
        "peers: {advertisedHost: a}",
        &["peers.bind: missing key: expected `address:port`, such as `127.0.0.1:8180`"],
    );
    check(
        "peers: {bind: \"0.0.0.0:0\", advertisedHost: a}",
        &["peers.bind: invalid port in `0.0.0.0:0`: expected 1–65535"],
    );
}
