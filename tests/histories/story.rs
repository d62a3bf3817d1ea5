//! Description of a history in words, for investigating a failure.

use acs_identity_operator::{
    crd::{Reason, is_ready, ready_reason},
    engine::Object,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::{
    cluster::Refused,
    service::{Request, Success},
    world::{ApiCall, Reply, State, text_in},
};

/// Describes a call to the API server.
pub fn of_call(call: &ApiCall) -> String {
    match call {
        ApiCall::ReadSecret(name) => format!("reads Secret {name}"),
        ApiCall::ReadIdentity(name) => format!("reads AcsIdentity {name}"),
        ApiCall::Reread(object) => format!("reads {} again", object.named()),
        ApiCall::ListIdentities => "lists AcsIdentities".to_owned(),
        ApiCall::ReadWorkload(name) => format!("reads workload {name}"),
        ApiCall::ListPods => "lists pods".to_owned(),
        ApiCall::Nudge(pod, at) => format!("nudges pod {} at {at}", pod.name_any()),
        ApiCall::Restart(name, version, at) => {
            format!("restarts workload {name} over version {version}, marked {at}")
        }
        ApiCall::CreateSecret(secret, _) | ApiCall::ReplaceSecret(secret, _) => {
            let text = text_in(secret, "token").unwrap_or_default();
            let version = secret.resource_version();
            let version = version.map_or("none".to_owned(), |version| format!("version {version}"));
            format!(
                "writes {text} into Secret {} over {version}",
                secret.name_any()
            )
        }
        ApiCall::DeleteSecret(name, uid) => format!("deletes Secret {name} of {uid:?}"),
        ApiCall::Status(Object::Identity(identity)) => {
            let status = identity.status.clone().unwrap_or_default();
            let pending = status.pending_revocation.map(|pending| {
                let until = pending.unsettled_until.map(|until| until.0);
                format!(
                    "{} since {}, unsettled until {until:?}",
                    pending.reason, pending.time.0
                )
            });
            let last = status.last_revocation.and_then(|last| last.unsettled_until);
            format!(
                "tells {}, id {:?}, creating {:?}, unknown {:?}, revoking {pending:?}, valid after {:?}, unsettled until {:?}, failed {:?}",
                of_conditions(&status.conditions),
                status.identity_id,
                status.pending_create.map(|pending| pending.0),
                status.unknown_creates,
                status.tokens_valid_after.map(|after| after.0),
                last.map(|until| until.0),
                status.failed_attempts,
            )
        }
        ApiCall::Status(Object::Token(token)) => {
            let status = token.status.clone().unwrap_or_default();
            format!(
                "tells {}, revision {:?}, issued {:?}, ends {:?}, failed {:?} {:?}, restarts {:?}",
                of_conditions(&status.conditions),
                status.revision,
                status.issued_at.map(|at| at.0),
                status.expires_at.map(|at| at.0),
                status.failed_attempts,
                status.last_failure.map(|failure| failure.reason),
                status
                    .rollout_restarts
                    .iter()
                    .map(|it| (&it.name, it.revision, it.pending.is_some(), &it.message))
                    .collect::<Vec<_>>(),
            )
        }
        ApiCall::Status(Object::Revocation(revocation)) => {
            let status = revocation.status.clone().unwrap_or_default();
            let open: Vec<_> = status.open_targets().map(|target| &target.name).collect();
            let told = of_conditions(&status.conditions);
            format!("tells {told}, revoked {:?}, open {open:?}", status.revoked)
        }
        ApiCall::Status(Object::Connection(connection)) => {
            let status = connection.status.clone().unwrap_or_default();
            let told = of_conditions(&status.conditions);
            format!(
                "tells {told}, credential {:?}, refused {:?}, tokens {:?}",
                status.credential, status.refused_credentials, status.tokens
            )
        }
        ApiCall::Status(Object::ClusterConnection(connection)) => {
            let status = connection.status.clone().unwrap_or_default();
            let told = of_conditions(&status.conditions);
            format!("tells {told}, tokens {:?}", status.tokens)
        }
        ApiCall::Status(object) => format!("writes {}", object.named()),
        ApiCall::Finalizers(_, left, why) => {
            format!("has the finalizers {left:?}, abandoned {why:?}")
        }
    }
}

fn of_conditions(conditions: &[Condition]) -> String {
    let ready = if is_ready(conditions) {
        "Ready"
    } else {
        "not Ready"
    };
    let reason = ready_reason(conditions).map_or("", Reason::as_str);
    format!("{ready} ({reason})")
}

/// Describes its result.
pub fn of_refusal(refused: Option<Refused>) -> String {
    refused.map_or("done".to_owned(), |refused| format!("{refused:?}"))
}

/// Describes a call to the service.
pub fn of_request(request: &Request) -> String {
    match request {
        Request::Create { custom_id, .. } => {
            format!("creates an identity, custom id {custom_id:?}")
        }
        Request::Issue {
            id,
            parameters,
            why,
            ..
        } => {
            format!(
                "issues {:?} for {} of {id} ({why})",
                parameters.scopes, parameters.expires_in
            )
        }
        Request::Revoke { id } => format!("revokes {id}"),
        Request::Delete { id } => format!("deletes {id}"),
    }
}

/// Describes a call to the service and its result.
pub fn of_exchange(request: &Request, state: &State) -> String {
    let what = of_request(request);
    let reply = match state {
        State::Answered(reply) => reply,
        State::Hung(..) => return format!("{what}: no answer"),
        State::Sent => return what,
    };
    let Reply::Acs(answer, date) = reply else {
        return what;
    };
    let answer = match answer {
        Ok(Success::Created(id)) => id.clone(),
        Ok(Success::Issued { text, .. }) => text.clone(),
        Ok(Success::Revoked {
            earlier_attempt_lost: true,
        }) => "done, an earlier attempt lost".into(),
        Ok(_) => "done".to_owned(),
        Err(failure) => format!("{:?}, {:?}", failure.kind, failure.outcome),
    };
    format!("{what}: {answer} (Date {date:?})")
}
