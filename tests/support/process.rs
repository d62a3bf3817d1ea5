//! Program under test: its output is recorded, and it is killed at the end of its test.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::PATIENCE;

/// Running program.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts the program; its stdout and stderr are recorded line by line.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        let lines = Arc::default();
        keep(child.stdout.take().expect("piped"), &lines);
        keep(child.stderr.take().expect("piped"), &lines);
        Self { child, lines }
    }

    /// Returns all lines so far.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line for which `find` returns a value.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self
                .lines
                .lock()
                .unwrap()
                .iter()
                .find_map(|line| find(line))
            {
                return found;
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(
                ended.is_none(),
                "{what}: the program ended: {ended:?}\n{}",
                self.output()
            );
            assert!(
                Instant::now() < deadline,
                "{what}: timed out\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process (SIGKILL) and waits until it has exited.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends the process a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Terminates the process (SIGTERM) and waits until it has exited.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("a child can be waited for")
    }

    /// Waits until the process has exited by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let child = Mutex::new(&mut self.child);
        super::eventually("the program ends", || async {
            let mut child = child.lock().unwrap();
            child.try_wait().expect("a child can be asked")
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(60).collect();
            eprintln!("--- last lines of a program of the failed test ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn keep(from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    });
}
