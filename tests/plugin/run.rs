//! Runs of the program.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::world::World;

/// Result of a command.
#[derive(Debug)]
pub struct Output {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Returns a command that runs the program with a cluster, without the home of the user who runs
/// the tests.
pub fn program(kubeconfig: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-acs"));
    command
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

/// Returns a command that runs `kubectl acs` in the namespace of a world, on the terminal of
/// `script`, which passes on its input, output and exit code.
pub fn on_a_terminal(world: &World, arguments: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_kubectl-acs");
    let line = format!("{binary} {arguments} -n {}", world.namespace);
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("KUBECONFIG", &world.cluster.kubeconfig)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command
}

/// Runs a command and waits for its end.
pub fn end(command: &mut Command) -> Output {
    let output = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Output {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs a command with `input` on its stdin.
pub fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that refuses its arguments does not read its stdin.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    Output {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Runs `kubectl acs` in the namespace of a world.
pub fn acs(world: &World, arguments: &[&str]) -> Output {
    let mut command = program(&world.cluster.kubeconfig);
    command.args(arguments).args(["-n", &world.namespace]);
    end(&mut command)
}

impl Output {
    /// Returns the standard output of a command that succeeded.
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Returns the standard output of a command that succeeded, as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.fine()).expect("JSON")
    }

    /// Returns the standard error of a command that failed with `code`.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }
}

/// Asserts that `text` contains all of `parts`, in this order.
#[track_caller]
pub fn says(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("`{part}` is missing, or not in its place, in:\n{text}");
        };
        rest = &rest[at + part.len()..];
    }
}
