//! Kubernetes' rules for names and keys, as CEL expressions of the schema.
//!
//! They match `k8s.io/apimachinery/pkg/util/validation`, so that the API server never refuses a
//! name that it accepted in a spec.

/// A name of most kinds (a DNS-1123 subdomain); beside a length of 1 to 253.
pub(super) const NAME: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";
pub(super) const NAME_MESSAGE: &str = "name must be a Kubernetes name: lower-case letters, \
 digits, - and .; each part between dots must begin and end with a letter or digit";

/// The name of a namespace (a DNS-1123 label); beside a length of 1 to 63.
pub(super) const NAMESPACE: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')";
pub(super) const NAMESPACE_MESSAGE: &str = "namespace must be the name of a namespace: lower-case \
 letters, digits and -; it must begin and end with a letter or digit";

/// A list of [`NAME`]s.
pub(super) const NAMES: &str = "self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))";
pub(super) const NAMES_MESSAGE: &str = "names must be Kubernetes names: lower-case letters, \
 digits, - and .; each part between dots must begin and end with a letter or digit";

/// A list of [`NAMESPACE`]s.
pub(super) const NAMESPACES: &str =
    "self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))";
pub(super) const NAMESPACES_MESSAGE: &str = "every entry must be the name of a namespace: \
 lower-case letters, digits and -; it must begin and end with a letter or digit";

/// A list without duplicates. Its cost grows with the square of the length. The API server allows a
/// cost of 1,000,000 for a rule: 250 entries of 120 characters, or 170 of 253.
pub(super) const DISTINCT: &str = "self.all(one, self.exists_one(other, other == one))";
pub(super) const DISTINCT_MESSAGE: &str = "the list contains an entry twice; remove one of them";

/// A key of a Secret's data; beside a length of 1 to 253.
pub(super) const DATA_KEY: &str =
    "self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')";
pub(super) const DATA_KEY_MESSAGE: &str = "must be a valid key of a Secret's data: letters, \
 digits, -, _ and .; it must not begin with .. and must not be a single .";

/// The keys of labels.
pub(super) const LABEL_KEYS: &str = "self.all(key, key.size() <= 317 && key.split('/')[0].size() <= 253 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";
pub(super) const LABEL_KEYS_MESSAGE: &str =
    "secret.labels must have valid label keys, such as team or example.com/team";

/// The keys of annotations: as those of labels, but letters of both cases may stand before the `/`.
pub(super) const ANNOTATION_KEYS: &str = "self.all(key, key.size() <= 317 && key.split('/')[0].size() <= 253 && key.matches('^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";
pub(super) const ANNOTATION_KEYS_MESSAGE: &str =
    "secret.annotations must have valid annotation keys, such as note or example.com/note";

/// Labels that no controller acts on, and labels that describe the owner of the Secret.
pub(super) const OWN_LABELS: &str = "self.all(key, key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/version', 'app.kubernetes.io/component', 'app.kubernetes.io/part-of'] || !key.matches('^([^/]*[.])?(acs-identity[.]dev|kubernetes[.]io|k8s[.]io)/'))";
pub(super) const OWN_LABELS_MESSAGE: &str = "secret.labels must not use keys under \
 acs-identity.dev, kubernetes.io or k8s.io, because other controllers act on them; only \
 app.kubernetes.io/name, instance, version, component and part-of are allowed";

/// Annotations that no controller acts on.
pub(super) const OWN_ANNOTATIONS: &str = "!self.exists(key, key.matches('^(?i)([^/]*[.])?(acs-identity[.]dev|kubernetes[.]io|k8s[.]io)/'))";
pub(super) const OWN_ANNOTATIONS_MESSAGE: &str = "secret.annotations must not use keys under \
 acs-identity.dev, kubernetes.io or k8s.io, because other controllers act on them";

/// A selector with at least one term: without terms it would match everything.
pub(super) const SELECTS: &str = "!has(self.selector) || has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0 || has(self.selector.matchExpressions) && self.selector.matchExpressions.size() > 0";
pub(super) const SELECTS_MESSAGE: &str =
    "selector is empty and would select everything: set matchLabels or matchExpressions";
