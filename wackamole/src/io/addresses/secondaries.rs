//! Keeps the addresses of a subnet when its first one goes.
//!
//! Of the IPv4 addresses of one subnet on one interface the kernel calls the first primary, and when that goes it takes
//! the others with it, the machine's own among them, unless `promote_secondaries` is set (ip-sysctl: net.ipv4.conf.*). It is
//! on most distributions, but not by default. VIPs of `/32` are no matter; wider ones are.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Has the kernel promote another address of a subnet on `interface` when the first one goes. Says whether that had to
/// be set.
pub(super) fn keep_on(interface: &str) -> io::Result<bool> {
    if is_set("all")? || is_set(interface)? {
        return Ok(false);
    }
    fs::write(setting(interface), "1")?;
    Ok(true)
}

fn is_set(interface: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(setting(interface))?.trim() != "0")
}

fn setting(interface: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries"))
}
