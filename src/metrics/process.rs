//! Standard `process_*` metrics, read from `/proc` at each scrape, and the tasks of the runtime.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Clock ticks per second in `/proc`: 100 on every architecture of Linux that the operator is built
/// for.
const TICKS: f64 = 100.0;

/// Collector of the metrics of this process. It omits metrics that cannot be read.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let (name, help) = ("process_cpu", "CPU time in user and kernel mode");
            let unit = Some(&Unit::Seconds);
            let descriptor =
                encoder.encode_descriptor(name, help, unit, EncodeMetric::metric_type(&counter))?;
            counter.encode(descriptor)?;
        }
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Resident memory size",
                Some(Unit::Bytes),
                kilobytes(&status, "VmRSS:"),
            ),
            (
                "process_virtual_memory",
                "Virtual memory size",
                Some(Unit::Bytes),
                kilobytes(&status, "VmSize:"),
            ),
            (
                "process_start_time",
                "Start time of the process since the Unix epoch",
                Some(Unit::Seconds),
                start_time(&stat, &machine),
            ),
            (
                "process_open_fds",
                "Number of open file descriptors",
                None,
                open_files(),
            ),
            (
                "process_max_fds",
                "Maximum number of open file descriptors",
                None,
                word(&limits, "Max open files"),
            ),
            (
                "process_threads",
                "Number of threads of the process",
                None,
                word(&status, "Threads:"),
            ),
            (
                "tokio_alive_tasks",
                "Number of running asynchronous tasks",
                None,
                tasks(),
            ),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let type_ = EncodeMetric::metric_type(&gauge);
                let descriptor = encoder.encode_descriptor(name, help, unit.as_ref(), type_)?;
                gauge.encode(descriptor)?;
            }
        }
        Ok(())
    }
}

/// Returns the field of `/proc/self/stat` with this number, counted as in `man 5 proc`. The second
/// one, the name of the program, may contain spaces; fields are counted from its end.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let index = number.checked_sub(3)?;
    rest.split_whitespace().nth(index)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn start_time(stat: &str, machine: &str) -> Option<f64> {
    Some(word(machine, "btime")? + field(stat, 22)? / TICKS)
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    Some(word(status, name)? * 1024.0)
}

/// Returns the number after `name`, on the line that starts with it.
fn word(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(f64::from(u32::try_from(count).ok()?))
}

fn tasks() -> Option<f64> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let count = runtime.metrics().num_alive_tasks();
    Some(f64::from(u32::try_from(count).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 600 1 2";

    #[test]
    fn the_name_of_the_program_does_not_shift_the_fields() {
        assert_eq!(cpu_seconds(STAT), Some(3.0));
        assert_eq!(start_time(STAT, "cpu 1 2\nbtime 1000\n"), Some(1006.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(
            kilobytes("VmSize:\t  10 kB\nVmRSS:\t 4 kB\n", "VmRSS:"),
            Some(4096.0)
        );
    }

    #[test]
    fn every_metric_can_be_read_on_this_machine() {
        let text = crate::metrics::Metrics::new().text();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
            "acs_identity_operator_build_info{version=",
            "acs_identity_operator_abandoned_total{kind=\"AcsToken\"} 0",
        ] {
            let found = text.lines().any(|line| line.starts_with(name));
            assert!(found, "{name} is missing in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
