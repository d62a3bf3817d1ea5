//! Disturbances of processes and networks.

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::LazyLock};

use fastrand::Rng;
use serde_json::json;

use crate::{
    Timeline,
    support::{
        eventually,
        proxy::{Network, Proxy, api_server},
        temporary,
        world::{Operator, World},
    },
};

/// Processes, and the networks between them.
pub struct Surroundings {
    /// Namespace and emulator.
    pub world: World,
    kubeconfig: std::path::PathBuf,
    /// Proxy between the operator and the API server.
    cluster: Proxy,
    /// Proxy between the operator and ACS.
    acs: Proxy,
    /// Last log lines of former operator processes.
    logs: Vec<String>,
    /// Number of times that each disturbance was started.
    begun: BTreeMap<Disturbance, usize>,
}

/// Returns the emulator's arguments, which keep its state across restarts.
pub fn emulator_arguments() -> [&'static str; 2] {
    static STATE: LazyLock<String> = LazyLock::new(|| {
        let folder = temporary::folder().join("acs");
        folder.display().to_string()
    });
    ["--state-dir", &STATE]
}

/// Disturbance that lasts until it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    OperatorKilled,
    OperatorFrozen,
    ApiServerFrozen,
    ApiServerKilled,
    EtcdFrozen,
    EtcdKilled,
    AcsFrozen,
    AcsKilled,
    ClusterSilent,
    ClusterRefuses,
    AcsSilent,
    AcsRefuses,
    AcsLosesAnswers,
    AcsFails,
    AcsLimits,
    AcsHangs,
    WrongKey,
    NoKey,
}

use Disturbance as D;

const ALL: [D; 18] = [
    D::OperatorKilled,
    D::OperatorFrozen,
    D::ApiServerFrozen,
    D::ApiServerKilled,
    D::EtcdFrozen,
    D::EtcdKilled,
    D::AcsFrozen,
    D::AcsKilled,
    D::ClusterSilent,
    D::ClusterRefuses,
    D::AcsSilent,
    D::AcsRefuses,
    D::AcsLosesAnswers,
    D::AcsFails,
    D::AcsLimits,
    D::AcsHangs,
    D::WrongKey,
    D::NoKey,
];

impl Disturbance {
    /// Whether users can reach the API server during the disturbance.
    pub fn leaves_the_api(self) -> bool {
        ![
            D::ApiServerFrozen,
            D::ApiServerKilled,
            D::EtcdFrozen,
            D::EtcdKilled,
        ]
        .contains(&self)
    }
}

impl Surroundings {
    pub async fn new(mut world: World) -> Self {
        let (cluster, kubeconfig) = api_server(world.cluster, &world.namespace).await;
        let emulator = world.emulator.url.trim_start_matches("http://");
        let acs = Proxy::start(emulator.parse().expect("an address")).await;
        let proxy = format!("http://{}", acs.address);
        world.environment.push(("HTTP_PROXY".to_owned(), proxy));
        world
            .environment
            .push(("NO_PROXY".to_owned(), String::new()));
        world
            .environment
            .push(("no_proxy".to_owned(), String::new()));
        let mut surroundings = Self {
            world,
            kubeconfig,
            cluster,
            acs,
            logs: Vec::new(),
            begun: BTreeMap::new(),
        };
        surroundings.start_operator();
        surroundings
    }

    fn start_operator(&mut self) {
        let mut command = self.world.operator_command(&self.kubeconfig);
        command.arg("--no-leader-elect");
        self.world.operator = Some(Operator::start_unready(&mut command));
    }

    /// Starts a random disturbance.
    pub async fn disturb(&mut self, random: &mut Rng, timeline: &mut Timeline) -> Disturbance {
        let disturbance = ALL[random.usize(..ALL.len())];
        timeline.note(format!("{disturbance:?}"));
        *self.begun.entry(disturbance).or_default() += 1;
        match disturbance {
            D::OperatorKilled => {
                self.logs.push(self.world.operator().process.output());
                self.world.kill_operator();
            }
            D::OperatorFrozen => self.world.operator().process.signal("STOP"),
            D::ApiServerFrozen => self.signal("kube-apiserver", "STOP"),
            D::ApiServerKilled => self.signal("kube-apiserver", "KILL"),
            D::EtcdFrozen => self.signal("etcd", "STOP"),
            D::EtcdKilled => self.signal("etcd", "KILL"),
            D::AcsKilled => self.world.emulator.process.kill(),
            D::AcsFrozen => self.world.emulator.process.signal("STOP"),
            D::ClusterSilent => self.cluster.set(Network::Silent),
            D::ClusterRefuses => self.cluster.set(Network::Refuses),
            D::AcsSilent => self.acs.set(Network::Silent),
            D::AcsRefuses => self.acs.set(Network::Refuses),
            D::AcsLosesAnswers => {
                self.fault(json!({"effect": "reset", "when": "after"}))
                    .await
            }
            D::AcsFails => self.fault(json!({"effect": "status", "status": 503})).await,
            D::AcsLimits => self.fault(json!({"effect": "status", "status": 429})).await,
            D::AcsHangs => self.fault(json!({"effect": "hang"})).await,
            D::WrongKey => {
                let right = &self.world.emulator.connection_string;
                let key = self.world.emulator.access_key();
                self.world
                    .connect("default", &right.replace(key, "d3Jvbmc="));
            }
            D::NoKey => {
                let delete = [
                    "delete",
                    "secret",
                    "default-acs",
                    "-n",
                    &self.world.namespace,
                ];
                self.world.cluster.kubectl(&delete);
            }
        }
        disturbance
    }

    /// Injects a fault into half of all calls.
    async fn fault(&self, mut fault: serde_json::Value) {
        fault["probability"] = json!(0.5);
        let operations = [
            "createIdentity",
            "issueToken",
            "revokeTokens",
            "deleteIdentity",
        ];
        let faults = operations.map(|operation| {
            let mut fault = fault.clone();
            fault["operation"] = json!(operation);
            fault
        });
        self.world.emulator.faults(json!(faults)).await;
    }

    /// Ends a disturbance.
    pub async fn end(&mut self, disturbance: Disturbance, timeline: &mut Timeline) {
        timeline.note(format!("{disturbance:?} ends"));
        match disturbance {
            D::OperatorKilled => self.start_operator(),
            D::OperatorFrozen => self.world.operator().process.signal("CONT"),
            D::ApiServerFrozen => self.signal("kube-apiserver", "CONT"),
            D::EtcdFrozen => self.signal("etcd", "CONT"),
            D::ApiServerKilled | D::EtcdKilled => self.works().await,
            D::AcsFrozen => self.world.emulator.process.signal("CONT"),
            D::AcsKilled => self.world.emulator.begin_again(&emulator_arguments()),
            D::ClusterSilent | D::ClusterRefuses => self.cluster.set(Network::Works),
            D::AcsSilent | D::AcsRefuses => self.acs.set(Network::Works),
            D::AcsLosesAnswers | D::AcsFails | D::AcsLimits | D::AcsHangs => {
                self.world.emulator.heal().await;
            }
            D::WrongKey | D::NoKey => {
                let right = self.world.emulator.connection_string.clone();
                self.world.connect("default", &right);
            }
        }
    }

    /// Waits until the cluster answers.
    async fn works(&self) {
        eventually("the API server is ready", || async {
            let ready = self.world.cluster.pipe(&["get", "--raw", "/readyz"], "");
            ready.0.then_some(())
        })
        .await;
    }

    /// Ends all disturbances; fails if the operator has exited by itself.
    pub async fn heal(&mut self, timeline: &mut Timeline) {
        timeline.note("all works again".to_owned());
        let (status, _) = self.world.operator().get("/livez").await;
        assert_eq!(status, 200, "the operator lives");
    }

    /// Sends a signal to a program of the control plane.
    fn signal(&self, program: &str, signal: &str) {
        let folder = self.world.cluster.kubeconfig.parent().expect("a folder");
        let id = process(program, folder);
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Returns a summary of the disturbances.
    pub fn sum(&self) -> String {
        format!("{:?}", self.begun)
    }

    /// Returns the last log lines of the operator.
    pub fn log(&mut self) -> String {
        self.logs.push(self.world.operator().process.output());
        let all = self.logs.join("\n--- killed\n");
        let lines: Vec<_> = all
            .lines()
            .filter(|line| !line.contains("step=Rest"))
            .collect();
        lines[lines.len().saturating_sub(300)..].join("\n")
    }
}

/// Returns the process of a program whose arguments contain a directory.
fn process(program: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let processes = fs::read_dir("/proc").expect("Linux");
    let found = processes.flatten().find(|process| {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let first = line.split('\0').next().unwrap_or_default();
        first.ends_with(&format!("/{program}")) && line.contains(&folder)
    });
    let found = found.unwrap_or_else(|| panic!("{program} runs"));
    found.file_name().into_string().expect("a number")
}
