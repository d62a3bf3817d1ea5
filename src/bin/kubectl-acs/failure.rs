//! Failures: a sentence that says what to do, and the exit code for scripts.

use acs_identity_operator::cluster;
use kube::core::Status;

/// Exit codes of the program except success; docs/kubectl-acs.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Any failure that has no code of its own.
    Failed = 1,
    /// The command, its input, or its arguments are wrong; the same code as clap's.
    Usage = 2,
    /// The object is not Ready, and a person must act.
    Stalled = 3,
    /// The object is not Ready yet.
    NotYet = 4,
    /// The object does not exist.
    NotFound = 5,
    /// The user lacks permissions, or the API server does not know the user.
    Forbidden = 6,
    /// No cluster is configured, or it is unreachable.
    Unreachable = 7,
    /// The operator's CRDs are not installed in the cluster.
    NotInstalled = 8,
    /// The object exists already, or another client changed it meanwhile.
    Conflict = 9,
}

/// Failure of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code, for scripts.
    pub exit: Exit,
    /// Message, for people. Empty if the output says everything.
    pub message: String,
}

impl Failure {
    /// Creates a failure with its sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Returns the failure for the API server's refusal to `operation` the `object`.
    pub fn refused(operation: &str, object: &str, status: &Status) -> Self {
        let said = status.message.trim_end_matches('.');
        let names_an_object = status
            .details
            .as_ref()
            .is_some_and(|details| !details.name.is_empty());
        match status.code {
            400 | 422 => Self::new(
                Exit::Usage,
                format!("the API server rejected {object}: {said}"),
            ),
            401 => Self::new(
                Exit::Forbidden,
                "the API server rejected your credentials; log in again and check with `kubectl \
                 auth whoami`",
            ),
            403 => Self::new(
                Exit::Forbidden,
                format!(
                    "you are not allowed to {operation} {object}: {said}; ask an administrator \
                     for the permissions in docs/kubectl-acs.md"
                ),
            ),
            404 if names_an_object => Self::new(
                Exit::NotFound,
                format!("could not {operation} {object}: {said}"),
            ),
            404 => Self::new(
                Exit::NotInstalled,
                "this cluster does not know the kinds of acs-identity.dev; install the operator \
                 (docs/install.md) or choose another cluster with --context",
            ),
            409 => Self::new(
                Exit::Conflict,
                format!("could not {operation} {object}: {said}"),
            ),
            _ => Self::new(
                Exit::Failed,
                format!("could not {operation} {object}: {said}"),
            ),
        }
    }

    /// Returns the failure for a failed call to `server`.
    pub fn of_call(error: cluster::Error, server: &str) -> Self {
        match error {
            cluster::Error::Api {
                operation,
                object,
                source,
            } => Self::from_error(operation, &object, &source, server),
            cluster::Error::Timeout { .. } | cluster::Error::Withheld => Self::new(
                Exit::Unreachable,
                format!(
                    "{error}; check that {server} is the right cluster (--context) and \
                     that it is running"
                ),
            ),
        }
    }

    /// Returns the failure for an error of kube during `operation` on the `object` of `server`.
    pub fn from_error(operation: &str, object: &str, error: &kube::Error, server: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::refused(operation, object, status),
            kube::Error::Auth(error) => Self::new(
                Exit::Forbidden,
                format!(
                    "logging in as configured in the kubeconfig failed: {}",
                    chain(error)
                ),
            ),
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
                Self::new(
                    Exit::Unreachable,
                    format!(
                        "cannot reach the API server {server}: {}; check that this is the right \
                         cluster (--context) and that it is running",
                        chain(error)
                    ),
                )
            }
            other => Self::new(
                Exit::Failed,
                format!("could not {operation} {object}: {}", chain(other)),
            ),
        }
    }
}

/// Returns the innermost cause of an error: the outer errors repeat it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
