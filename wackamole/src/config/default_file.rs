//! The commented configuration that `wackamole config default` prints.

/// Every key with what it does, how to choose it, its limits and its default. A test reads it back and compares.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, defaults};

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let config = Config::parse(Path::new("/etc/wackamole/wackamole.toml"), DEFAULT_FILE)
            .unwrap_or_else(|error| panic!("{error}"));

        assert_eq!(config.timing(), defaults::TIMING);
        assert_eq!(config.balance(), defaults::BALANCE);
        assert_eq!(config.key_file(), Path::new(defaults::KEY_FILE));
        assert_eq!(config.state_dir(), Path::new(defaults::STATE_DIR));
        assert_eq!(config.control_socket(), Path::new(defaults::CONTROL_SOCKET));
        assert_eq!(config.multicast(), None);
        for node in config.nodes() {
            assert_eq!(node.weight, defaults::WEIGHT);
            assert!(node.addresses.iter().all(|address| address.port() == defaults::PORT));
        }
        for key in ["heartbeat", "failure_timeout", "mature", "moves_per_round", "interval"]
            .into_iter()
            .chain(["port", "key_file", "state_dir", "control_socket", "weight"])
        {
            let written = DEFAULT_FILE.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(written, "{key} is not written out");
        }
    }

    #[test]
    fn what_the_default_file_comments_out_would_be_accepted() {
        // Text behind "# " is prose, text right behind "#" is configuration.
        let uncommented: String = DEFAULT_FILE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        // `must_reach` means something under one policy only.
        let uncommented = uncommented.replace("partition = \"lan\"", "partition = \"quorum\"");

        let config = Config::parse(Path::new("all.toml"), &uncommented)
            .unwrap_or_else(|error| panic!("{error}"));

        assert_ne!(uncommented, DEFAULT_FILE);
        assert!(config.multicast().is_some() && !config.must_reach().is_empty());
        assert!(config.vips().iter().any(|vip| !vip.prefer.is_empty()));
    }
}
