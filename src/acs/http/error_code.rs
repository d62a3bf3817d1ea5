//! Classification of ACS error codes.

use super::super::{Kind, Operation, Outcome};
use super::answer::Answer;

impl Answer {
    /// Returns the meaning of an unsuccessful answer, by (status, code), with fallbacks by status.
    pub(in super::super) fn error_code(&self, operation: Operation) -> (Kind, Outcome) {
        let judgement = self.judgement();
        let is_judged = judgement.is_some();
        let complaint = judgement.unwrap_or_default();
        let code = complaint.code.as_deref().unwrap_or_default();
        let is_about = |text| {
            complaint
                .message
                .as_deref()
                .is_some_and(|said| said.contains(text))
        };
        let names_an_identity = matches!(
            operation,
            Operation::IssueToken | Operation::RevokeTokens | Operation::DeleteIdentity
        );
        let kind = match (self.status, code) {
            (400..=499, _) if is_about("identity doesn't exist") => Kind::IdentityNotFound,
            (400..=499, "IdentityNotFound") => Kind::IdentityNotFound,
            (401 | 403, "IdentityNotOwned") => Kind::IdentityNotOwned,
            (401 | 403, "InvalidAccessToken") if operation == Operation::ExchangeTeamsToken => {
                Kind::InvalidUserToken
            }
            (401 | 403, _) if self.may_be_of_the_service() => Kind::CredentialRefused,
            (400, "UnsupportedApiVersion") => Kind::Unsupported,
            (407, _) => Kind::NotTheService,
            (408 | 500..=599, _) => Kind::Unavailable,
            (429, _) => Kind::Throttled,
            (404, _) if is_judged && names_an_identity => Kind::IdentityNotFound,
            (400..=499, _) if is_judged => Kind::Invalid,
            _ => Kind::NotTheService,
        };
        let outcome = match self.status {
            408 => Outcome::Unknown,
            400..=499 => Outcome::NotDone,
            _ => Outcome::Unknown,
        };
        (kind, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{
        CreateIdentity as Create, DeleteIdentity as Delete, ExchangeTeamsToken as Exchange,
        IssueToken as Issue,
    };
    use super::Outcome::{NotDone, Unknown};
    use super::{Kind as K, *};

    const GONE: &str = "Provided identity doesn't exist.";
    const NOT_OWNED: &str = "Provided identity doesn't belong to the resource.";

    fn complaint(status: u16, code: &str, message: &str) -> Answer {
        Answer::new(
            status,
            &format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#),
        )
    }

    #[test]
    #[rustfmt::skip] // A table.
    fn every_answer_has_its_meaning() {
        for (operation, answer, kind, outcome) in [
            (Issue, complaint(400, "ValidationError", "ExpiresInMinutes value 1441 is invalid."), K::Invalid, NotDone),
            (Issue, complaint(400, "UnsupportedApiVersion", "no"), K::Unsupported, NotDone),
            (Issue, complaint(400, "", GONE), K::IdentityNotFound, NotDone),
            (Issue, Answer::new(400, "<html>"), K::NotTheService, NotDone),
            (Issue, Answer::new(400, ""), K::NotTheService, NotDone),
            (Issue, Answer::new(400, "{}"), K::NotTheService, NotDone),
            (Issue, Answer::new(400, r#"{"error":"invalid_request"}"#), K::NotTheService, NotDone),
            (Issue, Answer::new(400, r#"{"message":"no"}"#), K::NotTheService, NotDone),
            (Issue, complaint(401, "IdentityNotOwned", NOT_OWNED), K::IdentityNotOwned, NotDone),
            (Issue, complaint(403, "IdentityNotOwned", NOT_OWNED), K::IdentityNotOwned, NotDone),
            (Issue, complaint(401, "Denied", "Denied by the resource provider."), K::CredentialRefused, NotDone),
            (Issue, complaint(401, "Whatever", "new"), K::CredentialRefused, NotDone),
            (Issue, complaint(401, "Denied", GONE), K::IdentityNotFound, NotDone),
            (Issue, complaint(401, "InvalidAccessToken", "no"), K::CredentialRefused, NotDone),
            (Issue, Answer::new(401, "{}"), K::CredentialRefused, NotDone),
            (Issue, Answer::new(401, ""), K::CredentialRefused, NotDone),
            (Issue, Answer::new(401, "<html>"), K::NotTheService, NotDone),
            (Issue, Answer::new(403, "<html>"), K::NotTheService, NotDone),
            (Issue, Answer::new(403, "Blocked by policy"), K::NotTheService, NotDone),
            (Exchange, complaint(401, "InvalidAccessToken", "no"), K::InvalidUserToken, NotDone),
            (Exchange, complaint(401, "Denied", "no"), K::CredentialRefused, NotDone),
            (Exchange, complaint(400, "ValidationError", "no"), K::Invalid, NotDone),
            (Issue, complaint(404, "IdentityNotFound", "gone"), K::IdentityNotFound, NotDone),
            (Issue, complaint(404, "NotFound", "gone"), K::IdentityNotFound, NotDone),
            (Delete, complaint(404, "NotFound", "gone"), K::IdentityNotFound, NotDone),
            (Delete, Answer::new(404, "{}"), K::NotTheService, NotDone),
            (Delete, Answer::new(404, ""), K::NotTheService, NotDone),
            (Delete, Answer::new(404, "<html>"), K::NotTheService, NotDone),
            (Delete, Answer::new(404, "default backend - 404"), K::NotTheService, NotDone),
            (Create, Answer::new(404, "{}"), K::NotTheService, NotDone),
            (Create, complaint(404, "NotFound", "no"), K::Invalid, NotDone),
            (Create, Answer::new(405, ""), K::NotTheService, NotDone),
            (Create, Answer::new(407, "<html>"), K::NotTheService, NotDone),
            (Create, Answer::new(408, ""), K::Unavailable, Unknown),
            (Create, complaint(422, "Unprocessable", "no"), K::Invalid, NotDone),
            (Create, complaint(429, "TooManyRequests", "slow down"), K::Throttled, NotDone),
            (Create, Answer::new(429, "<html>"), K::Throttled, NotDone),
            (Create, complaint(500, "", "Internal server error."), K::Unavailable, Unknown),
            (Create, Answer::new(501, ""), K::Unavailable, Unknown),
            (Create, Answer::new(502, "<html>"), K::Unavailable, Unknown),
            (Create, Answer::new(503, "<html>"), K::Unavailable, Unknown),
            (Create, Answer::new(504, ""), K::Unavailable, Unknown),
            (Create, Answer::new(200, "<html>"), K::NotTheService, Unknown),
            (Create, Answer::new(201, "{}"), K::NotTheService, Unknown),
            (Create, Answer::new(204, ""), K::NotTheService, Unknown),
            (Create, Answer::new(302, ""), K::NotTheService, Unknown),
            (Create, Answer::new(307, ""), K::NotTheService, Unknown),
        ] {
            let (error_code, words) = (answer.error_code(operation), answer.words());
            assert_eq!(error_code, (kind, outcome), "{operation:?} {} {words:?}", answer.status);
        }
    }
}
