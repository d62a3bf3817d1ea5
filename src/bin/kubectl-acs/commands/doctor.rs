//! `doctor`: checks the prerequisites of the operator and its user.

use std::fmt::Write as _;

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, Auth, ConnectionStatus, OPERATOR,
};
use clap::Args;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::ResourceExt as _;
use serde::Deserialize;

use crate::{
    cluster::{
        leases,
        overview::{self, Overview},
        rights::{self, Right},
        session::{ClusterArgs, Session},
    },
    failure::{Exit, Failure},
    view::{
        output, span,
        standing::{HasConditions, State},
    },
};

/// Maximum tolerated clock difference: with a larger one, expiry times confuse users.
const CLOCK: SignedDuration = SignedDuration::from_secs(30);
/// Default audience of federated credentials in Entra ID.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// Check the API server, the operator, your permissions, the connections and the clocks
///
/// Prints one line per check, and the federated credential that Entra ID needs for each connection
/// with workload identity. Changes nothing. Exits with 0 if all checks pass, and with 3 if a person
/// must act.
#[derive(Clone, Debug, Args)]
pub struct Doctor {}

/// Results of the checks.
#[derive(Default)]
struct Findings {
    text: String,
    is_wrong: bool,
}

impl Findings {
    fn fine(&mut self, what: &str) {
        let _ = writeln!(self.text, "ok     {what}");
    }

    fn wrong(&mut self, what: &str) {
        self.is_wrong = true;
        let _ = writeln!(self.text, "WRONG  {what}");
    }

    /// Adds a line that is neither a success nor a problem.
    fn note(&mut self, what: &str) {
        let _ = writeln!(self.text, "note   {what}");
    }
}

/// Runs `doctor`.
pub async fn doctor(place: &ClusterArgs, _: &Doctor) -> Result<(), Failure> {
    let session = place.connect().await?;
    let mut findings = Findings::default();
    api_server(&session, &mut findings).await?;
    let leaders = operator(&session, &mut findings).await?;
    my_rights(&session, &mut findings).await?;
    match overview::load(&session, false).await {
        Ok(seen) => connections(&session, &seen, &leaders, &mut findings).await,
        Err(failure) if failure.exit == Exit::NotInstalled => {
            findings.wrong(
                "this cluster does not know the kinds of acs-identity.dev: install the operator \
                 (docs/install.md)",
            );
        }
        Err(failure) if failure.exit == Exit::Forbidden => {
            findings.note("connections: you are not allowed to list them");
        }
        Err(failure) => return Err(failure),
    }
    output::print(&findings.text);
    if findings.is_wrong {
        return Err(Failure::new(Exit::Stalled, ""));
    }
    Ok(())
}

/// Checks the API server, the user and the clock of this machine.
async fn api_server(session: &Session, findings: &mut Findings) -> Result<(), Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        git_version: String,
    }
    let began = Timestamp::now();
    let (head, version) = session.read::<Version>("/version").await?;
    let user = rights::user(session).await;
    let user = user.map(|user| format!("; you are {user}"));
    findings.fine(&format!(
        "API server {}, {}{}",
        session.server,
        version.git_version,
        user.unwrap_or_default()
    ));
    let date = head.headers.get(http::header::DATE);
    let date = date.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
    if let Some(date) = date {
        // `Date` has whole seconds, and was set at some time between request and answer.
        let off = began.duration_since(date.timestamp());
        let ahead = if off.is_negative() {
            "behind"
        } else {
            "ahead of"
        };
        let text = format!(
            "clock of this machine: {} {ahead} the clock of the API server",
            span::length(off)
        );
        if off.abs() > CLOCK {
            findings.wrong(&format!(
                "{text}: correct it, because displayed times depend on it"
            ));
        } else {
            findings.fine(&text);
        }
    }
    Ok(())
}

/// Checks the operators that are leaders, by their Leases: namespace and holder.
async fn operator(
    session: &Session,
    findings: &mut Findings,
) -> Result<Vec<(String, String)>, Failure> {
    let leases = match leases::held(session).await {
        Ok(leases) => leases,
        Err(failure) if failure.exit == Exit::Forbidden => {
            findings.note("operator: unknown, because you are not allowed to list Leases");
            return Ok(Vec::new());
        }
        Err(failure) => return Err(failure),
    };
    let is_alive = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        let life = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds?));
        let renewed = spec.renew_time.as_ref()?.0;
        Some(Timestamp::now().duration_since(renewed) < life + CLOCK)
    };
    let alive = leases
        .into_iter()
        .filter(|(lease, _)| is_alive(lease) == Some(true));
    let leaders: Vec<_> = alive
        .map(|(lease, holder)| (lease.namespace().unwrap_or_default(), holder))
        .collect();
    for (namespace, holder) in &leaders {
        findings.fine(&format!(
            "operator: {holder} in namespace {namespace} is the leader"
        ));
    }
    if leaders.is_empty() {
        findings.wrong(
            "operator: there is no leader, so no token is issued or renewed; check kubectl get \
             deployments -A -l app.kubernetes.io/name=acs-identity-operator",
        );
    }
    Ok(leaders)
}

/// Checks the permissions that the commands need in the namespace.
async fn my_rights(session: &Session, findings: &mut Findings) -> Result<(), Failure> {
    let namespace = session.namespace.as_str();
    let mut rights = Vec::new();
    for verb in ["list", "watch", "create", "patch", "delete"] {
        rights.push(Right::new::<AcsIdentity>(verb, namespace, None));
        rights.push(Right::new::<AcsToken>(verb, namespace, None));
    }
    rights.push(Right::new::<AcsConnection>("list", namespace, None));
    rights.push(Right::new::<AcsRevocation>("create", namespace, None));
    rights.push(Right::new::<Secret>("get", namespace, None));
    let missing = rights.iter().map(|right| right.missing(session));
    let missing: Vec<_> = futures::future::try_join_all(missing).await?;
    let missing: Vec<_> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        findings.fine(&format!(
            "permissions: all that a user needs in namespace {namespace}"
        ));
    } else {
        findings.note(&format!(
            "permissions: missing {}; docs/kubectl-acs.md contains a Role with them",
            missing.join(", ")
        ));
    }
    Ok(())
}

/// Checks the credential of each connection, and prints the required federated credentials.
async fn connections(
    session: &Session,
    seen: &Overview,
    leaders: &[(String, String)],
    findings: &mut Findings,
) {
    if seen.connections.is_empty() && seen.cluster_connections.iter().flatten().next().is_none() {
        findings.note(&format!(
            "connections: none is available in namespace {}",
            session.namespace
        ));
    }
    for connection in &seen.connections {
        let (spec, status) = (&connection.spec, connection.status.as_ref());
        stands(connection, status, findings);
        trust(session, &spec.auth, &session.namespace, findings).await;
    }
    let home = leaders
        .first()
        .map_or("NAMESPACE", |(namespace, _)| namespace);
    for connection in seen.cluster_connections.iter().flatten() {
        let (spec, status) = (&connection.spec, connection.status.as_ref());
        stands(connection, status, findings);
        trust(session, &spec.auth, home, findings).await;
    }
}

/// Reports the state of a connection, and the difference between the clocks of ACS and the
/// operator.
fn stands<K: HasConditions + kube::Resource<DynamicType = ()>>(
    connection: &K,
    status: Option<&ConnectionStatus>,
    findings: &mut Findings,
) {
    let (standing, name) = (connection.standing(), connection.name_any());
    let text = format!("{} {name}: {}", K::kind(&()), standing.why());
    match standing.state {
        State::Ready => findings.fine(&text),
        _ => findings.wrong(&text),
    }
    if let Some(offset) = status.and_then(|status| status.clock_offset.as_deref()) {
        findings.note(&format!(
            "{name}: the clock of ACS differs by {offset} from the clock of the operator, which \
             corrects for it"
        ));
    }
}

/// Prints the federated credential that Entra ID needs for workload identity.
async fn trust(session: &Session, auth: &Auth, namespace: &str, findings: &mut Findings) {
    #[derive(Deserialize)]
    struct Issuer {
        issuer: String,
    }
    let Auth::WorkloadIdentity(identity) = auth else {
        return;
    };
    let issuer = session
        .read::<Issuer>("/.well-known/openid-configuration")
        .await;
    let issuer = issuer.map_or_else(|_| "ISSUER".to_owned(), |(_, it)| it.issuer);
    let account = identity.service_account_ref.as_ref();
    let account = account.map_or(OPERATOR, |account| account.name.as_str());
    let subject = format!("system:serviceaccount:{namespace}:{account}");
    findings.note(&format!(
        "client {} in Entra ID needs a federated credential: issuer {issuer}, subject {subject}, \
         audience {AUDIENCE}\n\x20      az identity federated-credential create --name acs \
         --identity-name IDENTITY --resource-group GROUP --issuer {issuer} --subject {subject} \
         --audiences {AUDIENCE}",
        identity.client_id
    ));
}
