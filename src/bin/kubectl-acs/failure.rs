//! What went wrong, as a sentence that says what to do, and the exit code that scripts go by.

use acs_identity_operator::cluster;
use kube::core::Status;

/// The program's exit codes but for success; docs/kubectl-acs.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command, its input, or what it asks for is wrong; clap's code for wrong arguments.
    Usage = 2,
    /// Not fine, and a human must act.
    Stalled = 3,
    /// Not fine yet.
    NotYet = 4,
    /// There is no such object.
    NotFound = 5,
    /// The user's rights do not allow it, or the API server does not know the user.
    Forbidden = 6,
    /// No cluster is configured, or it can't be reached.
    Unreachable = 7,
    /// The cluster has none of our kinds.
    NotInstalled = 8,
    /// There is one already, or someone changed it meanwhile.
    Conflict = 9,
}

/// Why a command ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// For people. Empty where the output has said it all.
    pub message: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The API server's refusal to `operation` the `object`.
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

    /// A call to `server` that failed.
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

    /// What kube says when `server` could not be made to `operation` the `object`.
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

/// The innermost reason of an error: the outer ones repeat it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
