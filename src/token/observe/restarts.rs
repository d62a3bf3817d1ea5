use crate::{
    context::Context,
    crd::{AcsToken, WorkloadKey},
    token::restart::Restarts,
};

/// Returns the state of the workloads to restart.
pub(super) fn observe(context: &Context, token: &AcsToken, namespace: &str) -> Restarts {
    let targets = token.rollout_restarts();
    let last = targets.map(|target| {
        let workload = WorkloadKey {
            namespace: namespace.to_owned(),
            kind: target.kind,
            name: target.name.clone(),
        };
        context.cache.last_restart(&workload)
    });
    Restarts {
        is_allowed: context.config.consumers.restarts_workloads,
        last: last.collect(),
    }
}
