//! Finds records and the key that they were recorded under.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use wackamole::config::key;
use wackamole::record::{EXTENSION, Header, Record};
use wackamole_protocol::config::ClusterKey;

use crate::world::KEY;

/// A key beside the records, under this name, is found by itself.
pub const KEY_FILE: &str = "cluster.key";

/// Reads records: files, or all in a folder. In order of their starts by the wall clock.
///
/// # Errors
/// There is none, one cannot be read, or the key is another cluster's.
pub fn load(
    places: &[PathBuf],
    key_file: Option<&Path>,
) -> anyhow::Result<(Vec<Record>, ClusterKey)> {
    let mut files = Vec::new();
    for place in places {
        if !place.is_dir() {
            files.push(place.clone());
            continue;
        }
        let found = files.len();
        let listed =
            place.read_dir().with_context(|| format!("cannot read {}", place.display()))?;
        for entry in listed {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push(path);
            }
        }
        ensure!(
            files.len() > found,
            "{} has no records: expected are files whose names end with .{EXTENSION}, as `wackamole run --record` writes them",
            place.display()
        );
    }
    files.sort();
    files.dedup();
    let records = files.iter().map(|file| Record::open(file));
    let mut records: Vec<Record> = records.collect::<Result<_, _>>()?;
    records.sort_by_key(|record| record.header.wall_clock);
    let beside = || places.iter().map(|place| place.join(KEY_FILE)).find(|file| file.exists());
    let Some(key_file) = key_file.map(Path::to_owned).or_else(beside) else {
        bail!(
            "records do not have the cluster's key, without which no datagram can be opened: name its file with --key-file, or \
             put it beside the records as {KEY_FILE}"
        );
    };
    let key = key::read(&key_file).map_err(|error| {
        let remedy = error.remedy();
        anyhow::anyhow!("{error}\n = {remedy}")
    })?;
    if let Some(other) = records.iter().find(|record| !record.header.is_key(&key)) {
        bail!(
            "{} is not the key that the cluster had when {} was recorded",
            key_file.display(),
            other.file().display()
        );
    }
    Ok((records, key))
}

/// Writes the records of a simulated run, with the key of simulated clusters.
///
/// # Errors
/// The folder has records already, or cannot be written.
pub fn save(directory: &Path, records: &[Vec<u8>]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for bytes in records {
        let file = directory.join("record");
        let Header { node, incarnation, .. } = Record::parse(&file, bytes.clone())?.header;
        let file = directory.join(format!("{node}-{incarnation}.{EXTENSION}"));
        ensure!(!file.exists(), "{} exists; choose another folder", file.display());
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    }
    key::write(&directory.join(KEY_FILE), &ClusterKey(KEY), true)?;
    Ok(())
}
