//! Detection of objects that a GitOps tool manages: it reverts manual changes.

use kube::ResourceExt as _;

use crate::cluster::wait::Waiter;

/// Warns if a GitOps tool will revert a change of the object.
pub fn warn<K: kube::Resource<DynamicType = ()>>(object: &K, waiter: &mut Waiter) {
    if let Some(keeper) = keeper(object) {
        let (kind, name) = (K::kind(&()), object.name_any());
        waiter.note(&format!(
            "{kind} {name} is managed by {keeper}: also change it in git, or the next sync \
             reverts the change"
        ));
    }
}

/// Returns the tool that manages the object, by the labels and annotations that Argo CD and Flux
/// set.
pub fn keeper(object: &impl kube::Resource) -> Option<&'static str> {
    let marks = [
        ("argocd.argoproj.io/", "Argo CD"),
        ("kustomize.toolkit.fluxcd.io/", "Flux"),
        ("helm.toolkit.fluxcd.io/", "Flux"),
    ];
    let keys = || object.annotations().keys().chain(object.labels().keys());
    let is_kept = |(prefix, _): &&(&str, _)| keys().any(|key| key.starts_with(*prefix));
    marks.iter().find(is_kept).map(|(_, keeper)| *keeper)
}
