//! A network namespace for every process, joined by a bridge in one more. All of them are removed
//! with the test; those of a test that was killed are removed by the next one.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use testbed::process::run;

const PREFIX: &str = "odradek-chaos-";
const HUB: &str = "hub";

/// Which packets a host drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    Both,
}

/// The network; dropping it removes everything.
#[derive(Debug)]
pub(crate) struct Network {
    hosts: Vec<String>,
}

fn ip(arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    command
}

/// Returns why no network can be created here.
pub(crate) fn missing() -> Option<String> {
    for (tool, argument) in [("ip", "-V"), ("nft", "--version"), ("setpriv", "--version")] {
        let found = Command::new(tool).arg(argument).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Some(format!("{tool} is missing; run: make setup"));
        }
    }
    clean();
    let made = ip(&format!("netns add {PREFIX}probe")).output().expect("it was found");
    clean();
    let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
    (!made.status.success()).then(|| format!("no network namespaces (root has them): {said}"))
}

fn clean() {
    let list = run(&mut ip("netns list"));
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        if name.starts_with(PREFIX) {
            run(&mut ip(&format!("netns delete {name}")));
        }
    }
}

impl Network {
    pub(crate) fn new(hosts: &[&str]) -> Self {
        clean();
        run(&mut ip(&format!("netns add {PREFIX}{HUB}")));
        let hub = |arguments: &str| run(&mut ip(&format!("-n {PREFIX}{HUB} {arguments}")));
        hub("link add br0 type bridge");
        hub("link set br0 up");
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let net = Self { hosts };
        for (index, host) in net.hosts.iter().enumerate() {
            let space = format!("{PREFIX}{host}");
            run(&mut ip(&format!("netns add {space}")));
            run(&mut ip(&format!(
                "link add v{index} netns {space} type veth peer name p{index} netns {PREFIX}{HUB}"
            )));
            hub(&format!("link set p{index} master br0 up"));
            let own = |arguments: &str| run(&mut ip(&format!("-n {space} {arguments}")));
            own(&format!("addr add {}/24 dev v{index}", net.address(host)));
            own(&format!("link set v{index} up"));
            own("link set lo up");
            for rule in [
                "add table inet chaos",
                "add chain inet chaos input { type filter hook input priority 0 ; }",
                "add chain inet chaos output { type filter hook output priority 0 ; }",
            ] {
                net.nft(host, rule);
            }
        }
        net
    }

    pub(crate) fn address(&self, host: &str) -> Ipv4Addr {
        let index = self.hosts.iter().position(|name| name == host);
        let index = index.unwrap_or_else(|| panic!("unknown host `{host}`"));
        Ipv4Addr::new(10, 77, 0, 1 + index as u8)
    }

    /// Returns a command that runs on a host.
    pub(crate) fn on(&self, host: &str, program: &str) -> Command {
        let _known = self.address(host);
        ip(&format!("netns exec {PREFIX}{host} {program}"))
    }

    fn nft(&self, host: &str, rule: &str) {
        let mut command = self.on(host, "nft");
        run(command.args(rule.split_whitespace()));
    }

    /// Drops the packets that `host` receives from `other`, that it sends to `other`, or both.
    pub(crate) fn cut(&self, host: &str, other: &str, way: Direction) {
        let address = self.address(other);
        if way != Direction::Out {
            self.nft(host, &format!("add rule inet chaos input ip saddr {address} drop"));
        }
        if way != Direction::In {
            self.nft(host, &format!("add rule inet chaos output ip daddr {address} drop"));
        }
    }

    /// Drops this percentage of the packets that `host` receives.
    pub(crate) fn lose(&self, host: &str, percent: u32) {
        let lost = format!("add rule inet chaos input numgen random mod 100 < {percent} drop");
        self.nft(host, &lost);
    }

    /// Limits what `host` sends to a rate, with a queue before it.
    pub(crate) fn slow(&self, host: &str, rate: &str) {
        let index = self.address(host).octets()[3] - 1;
        let shaped =
            format!("qdisc add dev v{index} root tbf rate {rate} burst 16kb latency 500ms");
        run(self.on(host, "tc").args(shaped.split_whitespace()));
    }

    /// Removes the limit of [`Network::slow`].
    pub(crate) fn restore_rate(&self, host: &str) {
        let index = self.address(host).octets()[3] - 1;
        run(self.on(host, "tc").args(["qdisc", "del", "dev", &format!("v{index}"), "root"]));
    }

    /// Lets all packets pass again.
    pub(crate) fn restore(&self, host: &str) {
        self.nft(host, "flush table inet chaos");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        clean();
    }
}
