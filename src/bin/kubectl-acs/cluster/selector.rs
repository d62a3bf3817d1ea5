//! Label selectors in the syntax of kubectl.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Selector, as text for the API server and as a part of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// Text as entered.
    pub text: String,
    /// Selector in the form of an object's spec.
    pub labels: LabelSelector,
}

/// Parses `key=value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`, `key` and `!key`, or
/// several of these separated by commas.
pub fn selector(text: &str) -> Result<Selector, String> {
    let wrong = || {
        format!(
            "`{text}` is not a selector; write team=red, team!=red, team in (red, blue), team \
             notin (red), team or !team; separate several with commas"
        )
    };
    let mut equal = BTreeMap::new();
    let mut others = Vec::new();
    for term in terms(text) {
        match requirement(term.trim()).ok_or_else(wrong)? {
            (key, "=", mut values) => {
                let value = values.pop().unwrap_or_default();
                if equal.insert(key.clone(), value).is_some() {
                    return Err(format!("{key} occurs twice, which nothing can match"));
                }
            }
            (key, operator, values) => others.push(LabelSelectorRequirement {
                key,
                operator: operator.to_owned(),
                values: (!values.is_empty()).then_some(values),
            }),
        }
    }
    Ok(Selector {
        text: text.to_owned(),
        labels: LabelSelector {
            match_labels: (!equal.is_empty()).then_some(equal),
            match_expressions: (!others.is_empty()).then_some(others),
        },
    })
}

/// Splits at the commas that are not in parentheses.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.split(move |c| {
        is_inside = match c {
            '(' => true,
            ')' => false,
            _ => is_inside,
        };
        c == ',' && !is_inside
    })
}

/// Splits a term into key, operator and values; `=` is returned unchanged.
fn requirement(term: &str) -> Option<(String, &'static str, Vec<String>)> {
    if let Some(key) = term.strip_prefix('!') {
        return Some((plain(key)?, "DoesNotExist", Vec::new()));
    }
    for (word, operator) in [(" notin ", "NotIn"), (" in ", "In")] {
        if let Some((key, set)) = term.split_once(word) {
            let values = set.trim().strip_prefix('(')?.strip_suffix(')')?;
            let values = values.split(',').map(plain).collect::<Option<_>>()?;
            return Some((plain(key)?, operator, values));
        }
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some((plain(key)?, "NotIn", vec![plain(value)?]));
    }
    if let Some((key, value)) = term.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        let value = if value.is_empty() {
            String::new()
        } else {
            plain(value)?
        };
        return Some((plain(key)?, "=", vec![value]));
    }
    Some((plain(term)?, "Exists", Vec::new()))
}

/// Returns a key or a value, if its characters are valid.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_read_as_kubectl_writes_them() {
        let text =
            "team=red,example.com/app==shop,empty=, tier in (a, b),zone notin (x),env!=dev,on,!off";
        let read = selector(text).unwrap();
        assert_eq!(read.text, text);
        assert_eq!(
            json!(read.labels),
            json!({
                "matchLabels": {"empty": "", "example.com/app": "shop", "team": "red"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "zone", "operator": "NotIn", "values": ["x"]},
                    {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "on", "operator": "Exists"},
                    {"key": "off", "operator": "DoesNotExist"},
                ],
            })
        );
    }

    #[test]
    fn what_selects_nothing_or_who_knows_what_is_refused() {
        for text in [
            "",
            "=red",
            "a=b,",
            "team in red",
            "team in ()",
            "team in (a",
            "a b",
            "!",
        ] {
            let error = selector(text).unwrap_err();
            assert!(
                error.contains("is not a selector; write team=red"),
                "{text}: {error}"
            );
        }
        let error = selector("team=red,team=blue").unwrap_err();
        assert!(error.starts_with("team occurs twice"), "{error}");
    }
}
