//! Free loopback ports, from the cursor that all test beds and scripts of this machine share.

use crate::process::run;
use crate::script;

/// Returns the first of `count` consecutive free ports.
pub fn free_ports(count: u16) -> u16 {
    let printed = run(script("free-ports.sh").arg(count.to_string()));
    printed.trim().parse().expect("free-ports.sh prints a port")
}
