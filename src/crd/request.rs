use kube::Resource;

/// Annotation: any new value requests one renewal of an `AcsToken`, or together with [`REQUEST`]
/// one revocation of an `AcsIdentity`.
pub const REQUESTED_AT: &str = "acs-identity.dev/requested-at";
/// Annotation: the action that [`REQUESTED_AT`] requests.
pub const REQUEST: &str = "acs-identity.dev/request";

/// Maximum length of [`REQUESTED_AT`] that is compared and stored in the status, in characters.
const LONGEST: usize = 128;

/// A request made by annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Value of [`REQUESTED_AT`], copied to `status.lastHandledRequest` when the request is done.
    pub value: &'a str,
    /// Value of [`REQUEST`].
    pub what: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Returns the request in the annotations of `object`, handled or not.
    fn on(object: &'a impl Resource) -> Option<Self> {
        let annotations = object.meta().annotations.as_ref()?;
        let value = annotations.get(REQUESTED_AT)?;
        let end = value.floor_char_boundary(LONGEST);
        Some(Self {
            value: value.get(..end)?,
            what: annotations.get(REQUEST).map(String::as_str),
        })
    }

    /// Returns the request that is still to be handled: it was made after the operator first saw
    /// the object, and it differs from the request handled last.
    #[must_use]
    pub fn open(
        object: &'a impl Resource,
        observed_generation: Option<i64>,
        last_handled: Option<&str>,
    ) -> Option<Self> {
        is_seen(observed_generation)
            .then(|| Self::on(object))
            .flatten()
            .filter(|request| last_handled != Some(request.value))
    }
}

/// Returns `lastHandledRequest` for the first status of an object. A request that already exists
/// then was made before a restore or a move: it is recorded and not carried out.
#[must_use]
pub fn handled_at_first_sight(
    object: &impl Resource,
    observed_generation: Option<i64>,
    last_handled: Option<String>,
) -> Option<String> {
    if is_seen(observed_generation) {
        return last_handled;
    }
    Request::on(object).map_or(last_handled, |request| Some(request.value.to_owned()))
}

/// The status of a new object has the generation -1.
fn is_seen(observed_generation: Option<i64>) -> bool {
    observed_generation.is_some_and(|generation| generation >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn asked(value: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        let annotations = [(REQUESTED_AT.to_owned(), value.to_owned())];
        object.metadata.annotations = Some(annotations.into());
        object
    }

    #[test]
    fn a_new_value_is_open_until_it_is_handled() {
        let object = asked("2");
        let open = |last| Request::open(&object, Some(1), last).map(|request| request.value);
        assert_eq!(open(None), Some("2"));
        assert_eq!(open(Some("1")), Some("2"));
        assert_eq!(open(Some("2")), None);
        let removed = ConfigMap::default();
        assert_eq!(Request::open(&removed, Some(1), Some("2")), None);
    }

    #[test]
    fn a_request_that_came_with_the_object_is_recorded_and_not_obeyed() {
        let object = asked("1");
        for unseen in [None, Some(-1)] {
            assert_eq!(Request::open(&object, unseen, None), None);
            let handled = handled_at_first_sight(&object, unseen, None);
            assert_eq!(handled.as_deref(), Some("1"));
        }
        assert_eq!(handled_at_first_sight(&object, Some(1), None), None);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let object = asked(&"ä".repeat(200));
        let open = Request::open(&object, Some(1), None).unwrap();
        assert_eq!(open.value.len(), LONGEST);
        let handled = open.value.to_owned();
        assert_eq!(Request::open(&object, Some(1), Some(&handled)), None);
    }
}
