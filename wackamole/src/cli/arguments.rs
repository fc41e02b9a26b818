//! What the command line accepts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tracing_subscriber::filter::Targets;

use crate::config::{DEFAULT_CONFIG_FILE, defaults};
use crate::daemon::Recording;
use crate::telemetry::{self, LogFormat};

/// Keeps virtual IP addresses (VIPs) up on a LAN cluster: each answered by exactly one live machine.
#[derive(Debug, Parser)]
#[command(name = "wackamole", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the daemon in the foreground until SIGTERM or SIGINT, then hands its VIPs over and leaves
    Run(RunArguments),
    /// Checks the configuration: the file, this machine's interfaces, the key file
    Check(CheckArguments),
    /// Shows what the running daemon knows: nodes, view, who owns and who holds each VIP and why
    Status(StatusArguments),
    /// With partition = "quorum": declares this node alone to be the primary part of the cluster, from which the others join
    ForcePrimary(ForcePrimaryArguments),
    /// Removes everything of ours from this machine when no daemon runs, such as after it was killed
    Release(ReleaseArguments),
    /// Makes a cluster key: the same file belongs on every node
    Genkey(GenkeyArguments),
    /// Prints configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Stands behind a daemon, which starts it
    #[command(hide = true)]
    Guardian(GuardianArguments),
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_FILE)]
    pub(super) config: PathBuf,
    /// Which node of the configuration this machine is; otherwise the one called like the host, or the one whose
    /// address is here
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Records everything that the daemon is told into a new file in this directory, all of the cluster's talk included but
    /// not its key, so that `cargo xtask simulate replay` can do it all again; see docs/recording.md
    #[arg(long, value_name = "DIR")]
    pub(super) record: Option<PathBuf>,
    /// How large this node's records in that directory may become together, such as 500MiB; the oldest ones are removed at a
    /// start, and a record that reaches the limit ends there
    #[arg(long, value_name = "SIZE", requires = "record", default_value = "1GiB", value_parser = size)]
    pub(super) record_limit: u64,
    #[command(flatten)]
    pub(super) log: LogArguments,
}

impl RunArguments {
    /// Where to record, if at all.
    pub(super) fn recording(&self) -> Option<Recording> {
        let directory = self.record.clone()?;
        Some(Recording { directory, limit: self.record_limit })
    }
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let bytes = UNITS.iter().find_map(|(unit, bytes)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes)
    });
    let bytes = bytes.filter(|&bytes| bytes >= RECORD_LIMIT_MIN);
    bytes.ok_or_else(|| {
        "accepted is a whole number with KiB, MiB, GiB or TiB, at least 64KiB, such as 500MiB"
            .into()
    })
}

/// Less would hold little more than the configuration.
const RECORD_LIMIT_MIN: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// How log lines look, on standard error
    #[arg(long = "log-format", value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or targets such as warn,wackamole::driver=trace
    #[arg(long = "log", value_name = "LEVEL", default_value = "info", value_parser = telemetry::filter)]
    pub(super) filter: Targets,
}

impl LogArguments {
    /// The same, for another process.
    pub(super) fn to_words(&self) -> [OsString; 4] {
        let format = self.format.to_possible_value();
        let format = format.as_ref().map(PossibleValue::get_name).unwrap_or_default();
        let filter = self.filter.to_string();
        ["--log-format", format, "--log", &filter].map(OsString::from)
    }
}

#[derive(Debug, Args)]
pub(super) struct GuardianArguments {
    #[command(flatten)]
    pub(super) log: LogArguments,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_FILE)]
    pub(super) config: PathBuf,
    /// Which node of the configuration this machine is; makes no difference, but `run` may need it
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Goes on although a daemon runs, which puts back what it thinks it holds
    #[arg(long)]
    pub(super) force: bool,
    /// Prints JSON for programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_FILE)]
    pub(super) config: PathBuf,
    /// Which node of the configuration this machine is; otherwise the one called like the host, or the one whose
    /// address is here
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Looks at nothing but the file, which may be meant for other machines
    #[arg(long, conflicts_with = "node")]
    pub(super) file_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Takes the daemon's control socket from this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", default_value = defaults::CONTROL_SOCKET)]
    pub(super) socket: PathBuf,
    /// Prints JSON for programs
    #[arg(long)]
    pub(super) json: bool,
    /// Shows it again every second until interrupted
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct ForcePrimaryArguments {
    /// Takes the daemon's control socket from this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", default_value = defaults::CONTROL_SOCKET)]
    pub(super) socket: PathBuf,
    /// I have made sure that no other node of this cluster holds VIPs
    #[arg(long)]
    pub(super) others_are_down: bool,
}

#[derive(Debug, Args)]
pub(super) struct GenkeyArguments {
    /// Where to put it; - prints it
    #[arg(value_name = "FILE", default_value = defaults::KEY_FILE)]
    pub(super) file: PathBuf,
    /// Replaces a key that is there
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Prints a whole configuration with every key explained, to start from
    Default,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_limit_with_a_unit() {
        let limit = |text: &str| {
            let words = ["wackamole", "run", "--record", "somewhere", "--record-limit", text];
            let Command::Run(run) = Arguments::try_parse_from(words).ok()?.command else {
                return None;
            };
            run.recording().map(|recording| recording.limit)
        };
        assert_eq!(limit("64KiB"), Some(65_536));
        assert_eq!(limit("3 GiB"), Some(3 << 30));
        for bad in ["63KiB", "1GB", "1.5GiB", "-1MiB", "99999999999999TiB", "", "MiB", "100000000"]
        {
            assert_eq!(limit(bad), None, "{bad}");
        }
        let words = ["wackamole", "run", "--record-limit", "1GiB"];
        assert!(Arguments::try_parse_from(words).is_err(), "of what?");
    }

    #[test]
    fn a_guardian_logs_as_its_daemon_does() {
        for (format, filter) in [
            ("text", "info"),
            ("json", "off"),
            ("text", "warn,wackamole::driver=trace"),
            ("json", "debug"),
        ] {
            let words = ["wackamole", "run", "--log-format", format, "--log", filter];
            let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command else {
                panic!("another command")
            };
            let passed = run.log.to_words();
            let words = ["wackamole", "guardian"].map(OsString::from).into_iter().chain(passed);
            let Command::Guardian(guardian) = Arguments::try_parse_from(words).unwrap().command
            else {
                panic!("another command")
            };
            assert_eq!(guardian.log.filter, run.log.filter, "{filter}");
            assert_eq!(guardian.log.format, run.log.format);
        }
    }
}
