//! The command line: what is asked, which part does it, how failures are told.
//!
//! Exit code 0: done; 1: it failed; 2: the command line, the configuration or a key file is wrong.

mod arguments;
mod release;
mod render;
mod status;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use console::Style;
use wackamole_protocol::config::NodeDefinition;

use crate::config::{Config, ConfigError, DEFAULT_FILE, Machine, key};
use crate::control::Client;
use crate::{daemon, guardian, telemetry};
use arguments::{
    Arguments, CheckArguments, Command, ConfigCommand, ForcePrimaryArguments, GenkeyArguments,
    GuardianArguments, RunArguments,
};

/// Does what the process's arguments say.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::ForcePrimary(arguments) => force_primary(&arguments),
        Command::Release(arguments) => release::run(&arguments),
        Command::Genkey(arguments) => genkey(&arguments),
        Command::Config { command: ConfigCommand::Default } => print(DEFAULT_FILE),
        Command::Guardian(arguments) => guard(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let colour = io::stderr().is_terminal() && colour_wanted();
            let error = Style::new().red().bold().force_styling(colour).apply_to("error:");
            // If standard error is gone, the exit code has to do.
            let _ = writeln!(io::stderr(), "{error} {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// What went wrong, and the exit code for it.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// The user must change something: the command line, the configuration, a file.
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            // Some errors tell their cause themselves.
            if told.is_empty() {
                told = cause;
            } else if !told.contains(&cause) {
                told = format!("{told}: {cause}");
            }
        }
        f.write_str(&told)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

impl From<daemon::DaemonError> for Failure {
    fn from(error: daemon::DaemonError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(match error {
            ConfigError::Unreadable { ref source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                anyhow::anyhow!(
                    "{error}: {source}\n = `wackamole config default` prints one to start from"
                )
            }
            ConfigError::Invalid(report) if report.count() > 1 => {
                anyhow::anyhow!("{} problems in the configuration\n\n{report}", report.count())
            }
            error => error.into(),
        })
    }
}

impl From<key::KeyError> for Failure {
    fn from(error: key::KeyError) -> Self {
        let remedy = error.remedy();
        Self::usage(anyhow::anyhow!("{error}\n = {remedy}"))
    }
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let (config, me) = load(&arguments.config, arguments.node.as_deref())?;
    let key = config.key()?;
    let _guard = telemetry::init(arguments.log.format, arguments.log.filter.clone());
    let guardian = guardian::Program::this(arguments.log.to_words());
    daemon::run(&config, &me, key, guardian, arguments.recording().as_ref())?;
    Ok(())
}

fn guard(arguments: &GuardianArguments) -> Result<(), Failure> {
    // Before the log has a thread, which would hear the signals.
    guardian::prepare();
    let _guard = telemetry::init(arguments.log.format, arguments.log.filter.clone());
    guardian::run().map_err(|error| match error {
        guardian::GuardError::NoOrders(_) => Failure::usage(error),
        error => anyhow::Error::from(error).into(),
    })
}

fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let config;
    let mut place = String::new();
    if arguments.file_only {
        config = Config::load(&arguments.config)?;
    } else {
        let me;
        (config, me) = load(&arguments.config, arguments.node.as_deref())?;
        config.key()?;
        place = format!("; this machine is node {}", me.name);
    }
    let vips = config.vips();
    let addresses: usize = vips.iter().map(|vip| vip.vip.addresses().len()).sum();
    print(&format!(
        "{} is good: cluster {}, {}, {} with {}{place}\n",
        arguments.config.display(),
        config.cluster(),
        count(config.nodes().len(), "node", "nodes"),
        count(vips.len(), "VIP", "VIPs"),
        count(addresses, "address", "addresses"),
    ))
}

/// The configuration, and which of its nodes this machine is, whose interfaces it fits.
fn load(file: &Path, named: Option<&str>) -> Result<(Config, NodeDefinition), Failure> {
    let config = Config::load(file)?;
    let machine = Machine::observe()
        .map_err(|error| anyhow::anyhow!("cannot look at this machine's interfaces: {error}"))?;
    let me = config.identify(named, &machine)?.clone();
    config.check_interfaces(&machine.interfaces)?;
    Ok((config, me))
}

fn force_primary(arguments: &ForcePrimaryArguments) -> Result<(), Failure> {
    if !arguments.others_are_down {
        return Err(Failure::usage(anyhow::anyhow!(
            "nothing is forced: a part of the cluster that this node does not hear may hold VIPs, and they would be on two \
             machines\n = make sure that it holds none (that its machines are off, say), then repeat with --others-are-down"
        )));
    }
    let socket = match &arguments.config {
        Some(file) => Config::load(file)?.control_socket().to_owned(),
        None => arguments.socket.clone(),
    };
    Client::connect(&socket)
        .and_then(|mut client| client.force_primary())
        .map_err(anyhow::Error::from)?;
    print("this node is the primary part of the cluster; the others join it\n")
}

fn genkey(arguments: &GenkeyArguments) -> Result<(), Failure> {
    let key = key::generate()?;
    if arguments.file == Path::new("-") {
        return print(&key::text(&key));
    }
    key::write(&arguments.file, &key, arguments.force)?;
    print(&format!(
        "made {}; copy it to every node of the cluster, and keep it secret\n",
        arguments.file.display()
    ))
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot write to standard output: {error}").into())
        }
        _ => Ok(()),
    }
}

/// Nobody has asked for plain text: <https://no-color.org>.
fn colour_wanted() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_colour && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}
