//! Counts the connections of each client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The bits of an IPv6 address that identify a client: a host has all addresses of a /64 network.
const IPV6_CLIENT_BITS: u32 = 64;

/// Returns what identifies a client for limits: its IPv4 address, or its IPv6 network.
pub(super) fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !(u128::MAX >> IPV6_CLIENT_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

/// The open connections by client address.
#[derive(Debug)]
pub(super) struct ClientAddresses {
    connections_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection {
    addresses: Arc<ClientAddresses>,
    key: IpAddr,
}

impl ClientAddresses {
    /// Allows `connections_max` connections for each address.
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, open: Mutex::default() })
    }

    /// Counts a connection; `None` if the address already has as many as it may have.
    pub(super) fn open(self: &Arc<Self>, address: IpAddr) -> Option<CountedConnection> {
        let key = client_key(address);
        let mut open = self.open.lock();
        let connections = open.entry(key).or_default();
        if *connections >= self.connections_max {
            return None;
        }
        *connections += 1;
        Some(CountedConnection { addresses: Arc::clone(self), key })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(connections) = open.get_mut(&self.key) {
            *connections -= 1;
            if *connections == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_a_limit_and_closed_connections_do_not_count() {
        let addresses = ClientAddresses::new(2);
        let first = addresses.open(address("10.0.0.1"));
        let second = addresses.open(address("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(addresses.open(address("10.0.0.1")).is_none());
        assert!(addresses.open(address("10.0.0.2")).is_some());
        drop(first);
        assert!(addresses.open(address("10.0.0.1")).is_some());
        drop(second);
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn ipv6_clients_are_counted_by_network() {
        let key = |text| client_key(address(text));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::"));
        assert_eq!(key("2001:db8:1:2:ffff::1"), key("2001:db8:1:2::"));
        assert_ne!(key("2001:db8:1:3::1"), key("2001:db8:1:2::1"));
    }
}
