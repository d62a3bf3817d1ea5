//! Prints docs/api.md: the reference of all custom resources, from their schemas.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a missing member of a JSON value is null, and the page is this program's output"
)]

use acs_identity_operator::crd::manifests;
use serde_json::Value;

const INTRODUCTION: &str = "# API reference

All fields of the custom resources in the group `acs-identity.dev`, version `v1alpha1`. Fields in **bold** are required.
`kubectl explain` shows the same texts. [Behaviour](behaviour.md) describes how the fields work together.
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{INTRODUCTION}");
    let crds: Vec<Value> = serde_saphyr::from_multiple(&manifests()?)?;
    let kinds: Vec<_> = crds.iter().map(kind).collect();
    println!("{}", kinds.join("\n\n"));
    Ok(())
}

/// Returns the section of one kind.
fn kind(crd: &Value) -> String {
    let spec = &crd["spec"];
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"];
    let mut lines = vec![
        format!("## {}", text(&spec["names"]["kind"])),
        String::new(),
        text(&schema["description"]).to_owned(),
        String::new(),
        format!(
            "Scope: {}. Short name: `{}`.",
            text(&spec["scope"]),
            text(&spec["names"]["shortNames"][0])
        ),
    ];
    for part in ["spec", "status"] {
        lines.extend([String::new(), "| field | type | description |".to_owned()]);
        lines.push("|---|---|---|".to_owned());
        fields(part, &schema["properties"][part], &mut lines);
    }
    let mut rules = Vec::new();
    rules_of(schema, &mut rules);
    if !rules.is_empty() {
        lines.extend([
            String::new(),
            "The API server enforces these rules:".to_owned(),
        ]);
        lines.push(String::new());
        lines.extend(rules.iter().map(|rule| format!("- {rule}")));
    }
    lines.join("\n")
}

/// Adds a row for each field below `path`.
fn fields(path: &str, schema: &Value, lines: &mut Vec<String>) {
    let required: Vec<_> = strings(&schema["required"]).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let shown = if required.contains(&name.as_str()) {
            format!("**`{path}`**")
        } else {
            format!("`{path}`")
        };
        let description = text(&property["description"]).replace('|', "\\|");
        lines.push(format!(
            "| {shown} | {} | {description} |",
            type_of(property)
        ));
        fields(&path, property, lines);
        fields(&format!("{path}[]"), &property["items"], lines);
    }
}

fn type_of(schema: &Value) -> String {
    let values: Vec<_> = strings(&schema["enum"])
        .map(|value| format!("`{value}`"))
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    match (text(&schema["type"]), text(&schema["format"])) {
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&schema["additionalProperties"]))
        }
        ("string", "date-time") => "time".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// Adds the messages of all rules in `schema`, each once.
fn rules_of(schema: &Value, rules: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = text(&rule["message"]).to_owned();
        if !message.is_empty() && !rules.contains(&message) {
            rules.push(message);
        }
    }
    for property in schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|it| it.values())
    {
        rules_of(property, rules);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            rules_of(&schema[inner], rules);
        }
    }
}

fn strings(values: &Value) -> impl Iterator<Item = &str> {
    values
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
