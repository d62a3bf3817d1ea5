//! Resource usage of the operator: calls, CPU, memory.

use std::{collections::BTreeMap, time::Duration};

use kube::Client;

use crate::support::{emulator::Emulator, world::Operator};

/// Resource usage so far.
pub struct Cost {
    /// Calls to the API server, by verb and resource.
    pub calls: BTreeMap<String, u64>,
    acs: usize,
    pub cpu: Duration,
    pub memory_mib: f64,
}

/// Reads a file in the process's /proc directory.
fn proc(operator: &Operator, file: &str) -> String {
    let path = format!("/proc/{}/{file}", operator.process.id());
    std::fs::read_to_string(path).expect("a running operator")
}

fn status(operator: &Operator, name: &str) -> f64 {
    let status = proc(operator, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let text = line.expect("a line of that name").trim();
    let kib: f64 = text.trim_end_matches(" kB").parse().expect("kB");
    kib / 1024.0
}

/// Returns the resident memory, in MiB.
pub fn memory(operator: &Operator) -> f64 {
    status(operator, "VmRSS:")
}

/// Returns the peak of the resident memory since `forget_peak`, in MiB.
pub fn peak(operator: &Operator) -> f64 {
    status(operator, "VmHWM:")
}

/// Resets the peak.
pub fn forget_peak(operator: &Operator) {
    let path = format!("/proc/{}/clear_refs", operator.process.id());
    std::fs::write(path, "5").expect("writable");
}

/// Returns the CPU time.
pub fn cpu(operator: &Operator) -> Duration {
    let stat = proc(operator, "stat");
    let fields = stat.rsplit(')').next().expect("fields");
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // utime and stime, in ticks of 10 ms.
    Duration::from_millis((fields[11] + fields[12]) * 10)
}

impl Cost {
    pub async fn now(client: &Client, emulators: &[Emulator], operator: &Operator) -> Self {
        Self {
            cpu: cpu(operator),
            memory_mib: memory(operator),
            ..Self::now_without(client, emulators).await
        }
    }

    /// Returns the resource usage while no operator runs.
    pub async fn now_without(client: &Client, emulators: &[Emulator]) -> Self {
        let request = http::Request::get("/metrics")
            .body(Vec::new())
            .expect("a request");
        let text = client.request_text(request).await;
        let text = text.expect("metrics of the API server");
        let mut calls = BTreeMap::new();
        for (call, count) in text.lines().filter_map(call_of_operator) {
            *calls.entry(call).or_default() += count;
        }
        let mut acs = 0;
        for emulator in emulators {
            acs += emulator.requests().await.len();
        }
        Self {
            calls,
            acs,
            cpu: Duration::ZERO,
            memory_mib: 0.0,
        }
    }

    /// Returns the number of calls since `before`: reads, and all others.
    pub fn calls_since(&self, before: &Self) -> (u64, u64) {
        let (mut reads, mut writes) = (0, 0);
        for (call, count) in &self.calls {
            let new = count - before.calls.get(call).copied().unwrap_or(0);
            *if call.starts_with("GET") {
                &mut reads
            } else {
                &mut writes
            } += new;
        }
        (reads, writes)
    }

    pub fn print_since(&self, before: &Self, n: usize, what: &str) {
        let per = |count: u64| {
            f64::from(u32::try_from(count).unwrap_or(u32::MAX))
                / f64::from(u32::try_from(n).unwrap_or(1))
        };
        for (call, count) in &self.calls {
            let new = count - before.calls.get(call).copied().unwrap_or(0);
            if new > 0 {
                println!("  {:<28} {:.2} per {what}", call.trim(), per(new));
            }
        }
        let acs = (self.acs - before.acs) as u64;
        println!("  {:<28} {:.2} per {what}", "calls to ACS", per(acs));
        println!(
            "  {:<28} {:.2} ms per {what}",
            "CPU of the operator",
            millis_each(self.cpu.saturating_sub(before.cpu), n)
        );
    }
}

/// Returns the CPU time per item of `n`, in milliseconds.
pub fn millis_each(cpu: Duration, n: usize) -> f64 {
    cpu.as_secs_f64() * 1000.0 / f64::from(u32::try_from(n).unwrap_or(1))
}

/// Parses a line of the API server's metrics, if it counts calls of the operator: the calls of the
/// benchmark itself (POST of the operator's kinds, LIST) are excluded.
fn call_of_operator(line: &str) -> Option<(String, u64)> {
    let line = line.strip_prefix("apiserver_request_total{")?;
    let label = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let (verb, resource) = (label("verb")?, label("resource")?);
    let is_operators = matches!(
        (verb, resource),
        ("POST" | "PUT" | "GET" | "DELETE", "secrets")
            | ("PATCH" | "PUT" | "GET", "acstokens" | "acsidentities")
            | ("POST" | "PATCH", "events")
    );
    let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let count = count as u64;
    let subresource = label("subresource").unwrap_or("");
    is_operators.then(|| (format!("{verb} {resource} {subresource}"), count))
}
