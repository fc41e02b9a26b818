//! What the command line accepts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::Targets;

use crate::config::{DEFAULT_CONFIG_FILE, defaults};
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
    /// Makes a cluster key: the same file belongs on every node
    Genkey(GenkeyArguments),
    /// Prints configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
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
    /// How log lines look, on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or targets such as warn,wackamole::driver=trace
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = telemetry::filter)]
    pub(super) log: Targets,
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
