use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde_json::json;

use super::{
    AcsAnswer, AcsCall, AcsOperation, ApiRequest, Claim, IdentityPage, IssueRequest, Object,
    Stored, World, pods, workload,
};
use crate::{
    acs::{self, AssertionSource, Endpoint, Service, Turn, Urgency},
    cluster::{
        Error, call, effect,
        event::Events,
        input::{Follower, Inputs, Presence},
        named, service_account,
    },
    crd::AcsIdentity,
};

/// Objects per page of a list, which is the number in memory at a time.
const PAGE: u32 = 250;

/// World of a process: the API server, ACS, and the clock of the machine. No effect begins without
/// the claim (K2); the ACS client checks it itself, before each attempt.
pub struct Live {
    client: Client,
    claim: Claim,
    acs: Service,
    events: Arc<Events>,
    inputs: Inputs,
}

impl Live {
    /// Returns the world that these clients reach.
    #[must_use]
    pub fn new(client: Client, claim: Claim, acs: Service, inputs: Inputs) -> Self {
        Self {
            claim,
            events: Arc::new(Events::new(client.clone())),
            client,
            acs,
            inputs,
        }
    }
}

impl Live {
    fn client_of(&self, call: &AcsCall) -> acs::Client {
        let via = &call.via;
        self.acs.client(&via.endpoint, &via.version, &via.key)
    }
}

impl World for Live {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn service_now(&self, endpoint: &Endpoint) -> Option<Timestamp> {
        self.acs.endpoint_now(endpoint)
    }

    fn clock_offset(&self, endpoint: &Endpoint) -> Option<SignedDuration> {
        self.acs.clock_offset(endpoint)
    }

    fn ask(&self, request: ApiRequest) -> BoxFuture<'static, Result<Option<Object>, Error>> {
        let client = self.client.clone();
        let by = Writer {
            client: client.clone(),
            claim: self.claim.clone(),
        };
        match request {
            ApiRequest::ReadSecret { namespace, name } => read_secret(client, namespace, name),
            ApiRequest::ReadIdentity { namespace, name } => async move {
                let api: Api<AcsIdentity> = Api::namespaced(client, &namespace);
                let object = format!("AcsIdentity {namespace}/{name}");
                let found = call("read", &object, api.get_opt(&name)).await?;
                Ok(found.map(Stored::into_object))
            }
            .boxed(),
            ApiRequest::Reread(object) => match object {
                Object::Connection(object) => reread(client, of_namespace, *object),
                Object::ClusterConnection(object) => reread(client, of_cluster, *object),
                Object::Identity(object) => reread(client, of_namespace, *object),
                Object::Token(object) => reread(client, of_namespace, *object),
                Object::Revocation(object) => reread(client, of_namespace, *object),
                Object::ClusterRevocation(object) => reread(client, of_cluster, *object),
                Object::Secret(_)
                | Object::Identities(_)
                | Object::Workload(_)
                | Object::Pods(_) => async { Ok(None) }.boxed(),
            },
            ApiRequest::ListIdentities { namespace, after } => {
                list_identities(client, namespace, after)
            }
            ApiRequest::CreateSecret { secret, is_dry_run } => {
                put_secret(by, *secret, true, is_dry_run)
            }
            ApiRequest::ReplaceSecret { secret, is_dry_run } => {
                put_secret(by, *secret, false, is_dry_run)
            }
            ApiRequest::DeleteSecret {
                namespace,
                name,
                uid,
            } => delete_secret(by, namespace, name, uid),
            ApiRequest::WriteStatus(object) => match object {
                Object::Connection(object) => write_status(by, of_namespace, *object),
                Object::ClusterConnection(object) => write_status(by, of_cluster, *object),
                Object::Identity(object) => write_status(by, of_namespace, *object),
                Object::Token(object) => write_status(by, of_namespace, *object),
                Object::Revocation(object) => write_status(by, of_namespace, *object),
                Object::ClusterRevocation(object) => write_status(by, of_cluster, *object),
                Object::Secret(_)
                | Object::Identities(_)
                | Object::Workload(_)
                | Object::Pods(_) => async { Ok(None) }.boxed(),
            },
            ApiRequest::WriteFinalizers {
                object, finalizers, ..
            } => match object {
                Object::Connection(object) => patch(by, of_namespace, *object, finalizers),
                Object::ClusterConnection(object) => patch(by, of_cluster, *object, finalizers),
                Object::Identity(object) => patch(by, of_namespace, *object, finalizers),
                Object::Token(object) => patch(by, of_namespace, *object, finalizers),
                Object::Revocation(_)
                | Object::ClusterRevocation(_)
                | Object::Secret(_)
                | Object::Identities(_)
                | Object::Workload(_)
                | Object::Pods(_) => async { Ok(None) }.boxed(),
            },
            ApiRequest::ReadWorkload(workload) => workload::read(client, workload),
            ApiRequest::RestartWorkload {
                workload,
                version,
                at,
            } => workload::restart(by, workload, version, at),
            ApiRequest::ListPods { namespace, after } => pods::list(client, namespace, after),
            ApiRequest::NudgePod { namespace, pod, at } => pods::nudge(by, namespace, pod, at),
            ApiRequest::Publish(notice) => {
                let events = Arc::clone(&self.events);
                async move {
                    events.publish(&notice, || by.left()).await;
                    Ok(None)
                }
                .boxed()
            }
        }
    }

    fn turn(&self, call: &AcsCall) -> BoxFuture<'static, Turn> {
        let client = self.client_of(call);
        let operation = call.operation.kind();
        let urgency = Urgency {
            deadline: call.deadline,
            tenant: call.by.namespace.clone().unwrap_or_default(),
        };
        async move { client.turn(operation, urgency).await }.boxed()
    }

    fn call(&self, call: AcsCall, turn: Turn) -> BoxFuture<'static, Result<AcsAnswer, acs::Error>> {
        let client = self.client_of(&call);
        async move {
            match call.operation {
                AcsOperation::CreateIdentity { custom_id, .. } => client
                    .create_identity(custom_id.as_deref(), turn)
                    .await
                    .map(AcsAnswer::Created),
                AcsOperation::IssueToken(request) => {
                    let IssueRequest {
                        identity_id,
                        parameters,
                        ..
                    } = request;
                    let scopes: Vec<_> = parameters
                        .scopes
                        .iter()
                        .map(|scope| scope.as_str())
                        .collect();
                    let issued =
                        client.issue_token(&identity_id, &scopes, parameters.minutes(), turn);
                    issued.await.map(AcsAnswer::Issued)
                }
                AcsOperation::ExchangeTeamsToken {
                    token,
                    app_id,
                    user_id,
                    ..
                } => client
                    .exchange_teams_token(&token, &app_id, &user_id, turn)
                    .await
                    .map(AcsAnswer::Issued),
                AcsOperation::RevokeTokens { identity_id } => client
                    .revoke_tokens(&identity_id, turn)
                    .await
                    .map(AcsAnswer::Revoked),
                AcsOperation::DeleteIdentity { identity_id } => client
                    .delete_identity(&identity_id, turn)
                    .await
                    .map(AcsAnswer::Deleted),
            }
        }
        .boxed()
    }

    fn spawn(&self, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }

    fn follow(&self, namespace: &str, names: &[&str], follower: &Follower) -> Vec<Presence> {
        self.inputs.follow(namespace, names, follower)
    }

    fn unfollow(&self, follower: &Follower) {
        self.inputs.unfollow(follower);
    }

    fn assertions(&self, namespace: &str, account: &str, audience: &str) -> AssertionSource {
        service_account::tokens(&self.client, namespace, account, audience)
    }
}

/// Client for calls with an effect, which begin only while the claim is held.
pub(super) struct Writer {
    pub(super) client: Client,
    claim: Claim,
}

impl Writer {
    pub(super) fn left(&self) -> Option<Duration> {
        self.claim.left(Instant::now())
    }
}

pub(super) type Asked = BoxFuture<'static, Result<Option<Object>, Error>>;

fn secrets(client: Client, namespace: &str, name: &str) -> (Api<Secret>, String) {
    let api = Api::namespaced(client, namespace);
    (api, format!("Secret {namespace}/{name}"))
}

fn read_secret(client: Client, namespace: String, name: String) -> Asked {
    async move {
        let (api, object) = secrets(client, &namespace, &name);
        let found = call("read", &object, api.get_opt(&name)).await?;
        Ok(found.map(|found| Object::Secret(Box::new(found))))
    }
    .boxed()
}

fn list_identities(client: Client, namespace: Option<String>, after: Option<String>) -> Asked {
    async move {
        let api: Api<AcsIdentity> = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.continue_token = after;
        let page = call("list", "AcsIdentities", api.list(&parameters)).await?;
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        let items = page.items;
        Ok(Some(Object::Identities(IdentityPage { items, next })))
    }
    .boxed()
}

fn put_secret(by: Writer, secret: Secret, is_new: bool, is_dry_run: bool) -> Asked {
    async move {
        let name = secret.name_any();
        let (api, object) = secrets(
            by.client.clone(),
            &secret.namespace().unwrap_or_default(),
            &name,
        );
        let parameters = PostParams {
            dry_run: is_dry_run,
            field_manager: None,
        };
        let written = if is_new {
            let created = api.create(&parameters, &secret);
            effect("create", &object, || by.left(), created).await
        } else {
            let replaced = api.replace(&name, &parameters, &secret);
            effect("write", &object, || by.left(), replaced).await
        };
        Ok(Some(Object::Secret(Box::new(written?))))
    }
    .boxed()
}

fn delete_secret(by: Writer, namespace: String, name: String, uid: String) -> Asked {
    async move {
        let (api, object) = secrets(by.client.clone(), &namespace, &name);
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = api.delete(&name, &parameters);
        effect("delete", &object, || by.left(), deleted).await?;
        Ok(None)
    }
    .boxed()
}

fn of_namespace<K>(client: Client, object: &K) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client, &object.namespace().unwrap_or_default())
}

fn of_cluster<K>(client: Client, _: &K) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
{
    Api::all(client)
}

fn reread<K: Stored>(client: Client, api: fn(Client, &K) -> Api<K>, object: K) -> Asked {
    async move {
        let api = api(client, &object);
        let (named, name) = (named(&object), object.name_any());
        // A list of one object, because the operator's permissions include list, but not get.
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = call("read", &named, api.list(&only)).await?;
        Ok(found.items.into_iter().next().map(Stored::into_object))
    }
    .boxed()
}

fn write_status<K: Stored>(by: Writer, api: fn(Client, &K) -> Api<K>, object: K) -> Asked {
    async move {
        let api = api(by.client.clone(), &object);
        let (named, name) = (named(&object), object.name_any());
        let parameters = PostParams::default();
        let written = api.replace_status(&name, &parameters, &object);
        let written = effect("write the status of", &named, || by.left(), written).await?;
        Ok(Some(written.into_object()))
    }
    .boxed()
}

fn patch<K: Stored>(
    by: Writer,
    api: fn(Client, &K) -> Api<K>,
    object: K,
    finalizers: Vec<String>,
) -> Asked {
    async move {
        let api = api(by.client.clone(), &object);
        let body = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": object.resource_version(),
        }});
        let operation = if finalizers.len() > object.finalizers().len() {
            "add the finalizer of"
        } else {
            "remove the finalizer of"
        };
        let (named, name) = (named(&object), object.name_any());
        let body = Patch::Merge(&body);
        let parameters = PatchParams::default();
        let patched = api.patch(&name, &parameters, &body);
        let patched = effect(operation, &named, || by.left(), patched).await?;
        Ok(Some(patched.into_object()))
    }
    .boxed()
}
