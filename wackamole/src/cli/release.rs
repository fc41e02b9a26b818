//! `wackamole release`: takes everything of ours off this machine when no daemon does it, such as from `ExecStopPost=`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::arguments::ReleaseArguments;
use super::{Failure, count, print};
use crate::config::Config;
use crate::guardian;
use crate::io::gate;
use crate::io::store::{StateDirectory, StoreError, stored_addresses, stored_gate};

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Report {
    /// `10.0.0.1/32 on eth0`
    removed: Vec<String>,
    /// A guardian was at work and was waited for.
    waited: bool,
}

pub(super) fn run(arguments: &ReleaseArguments) -> Result<(), Failure> {
    // Interfaces and key may be gone, and do not matter here.
    let config = Config::load(&arguments.config)?;
    if let Some(name) = &arguments.node
        && !config.nodes().iter().any(|node| node.name == *name)
    {
        return Err(Failure::usage(anyhow!(
            "there is no node \"{name}\" in {}",
            arguments.config.display()
        )));
    }
    let own: BTreeSet<IpAddr> = config
        .vips()
        .iter()
        .flat_map(|vip| vip.vip.addresses())
        .map(|address| address.address)
        .collect();
    let directory = config.state_dir();
    // Kept until the end: no daemon starts meanwhile.
    let (store, forced) = lock(directory, arguments.force)?;
    let mut waited = false;
    if store.is_some() {
        guardian::await_former(directory, guardian::FORMER_MAX, |_| waited = true)
            .map_err(anyhow::Error::from)?;
    }
    let mut may = stored_addresses(directory).map_err(anyhow::Error::from)?;
    may.extend(&own);
    let gate = gate::table_name(config.cluster());
    let released = guardian::fences::release(Some(&gate), &may).map_err(anyhow::Error::from)?;
    if !forced {
        guardian::fences::clear_away(Some(&gate));
        // The cluster may have had another name.
        let former = stored_gate(directory).map_err(anyhow::Error::from)?;
        guardian::fences::clear_away(former.filter(|former| *former != gate).as_deref());
    }
    if let Some(store) = store {
        store.cleaned_up(&own).map_err(anyhow::Error::from)?;
    }
    show(&Report { removed: released.addresses, waited }, arguments.json)
}

/// The state directory, if there is one: otherwise no daemon has run yet. And whether a daemon runs, which shall not matter.
fn lock(directory: &Path, force: bool) -> Result<(Option<StateDirectory>, bool), Failure> {
    if !directory.exists() {
        return Ok((None, false));
    }
    match StateDirectory::open(directory) {
        Ok(store) => Ok((Some(store), false)),
        Err(StoreError::InUse { .. }) if force => Ok((None, true)),
        Err(StoreError::InUse { path }) => Err(anyhow!(
            "a wackamole daemon runs ({} is locked), and releases by itself when it is stopped; with --force its addresses \
             are removed all the same, and it puts them back",
            path.display()
        )
        .into()),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string_pretty(report).context("cannot show this as JSON")?;
        return print(&format!("{json}\n"));
    }
    let mut text = String::new();
    if report.waited {
        text.push_str("a guardian was at work and is done\n");
    }
    match report.removed.len() {
        0 => text.push_str("nothing of ours is on this machine\n"),
        number => {
            text.push_str(&format!("removed {}:\n", count(number, "address", "addresses")));
            for address in &report.removed {
                text.push_str(&format!("  {address}\n"));
            }
        }
    }
    print(&text)
}
