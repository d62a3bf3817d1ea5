//! Output of results: in the formats of `az` (knack's `output.py`), with keys in their order.

use std::io::Write as _;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};

/// Formats that this plugin and `az` have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON, indented by two spaces
    Json,
    /// A YAML document
    Yaml,
    /// Tab-separated values without names, for scripts
    Tsv,
    /// Columns, without nested values
    Table,
    /// No output, for example in a Job, so that the token is not in the log
    None,
}

/// Keys that `az` omits from a table.
const SKIPPED_IN_TABLES: [&str; 3] = ["id", "type", "etag"];

/// Returns a result as text that ends with a line break, or as an empty string.
pub fn render(format: Format, result: &Value) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let text = match format {
        Format::Json => serde_json::to_string_pretty(result).map_err(|error| failed(&error))?,
        Format::Yaml => serde_saphyr::to_string(result).map_err(|error| failed(&error))?,
        Format::Tsv => tsv(result),
        Format::Table => table(result),
        Format::None => return Ok(String::new()),
    };
    Ok(format!("{}\n", text.trim_end_matches('\n')))
}

/// Writes to stdout, with colors only on a terminal. Ignores a closed stdout.
pub fn print(text: &str) {
    let mut stdout = anstream::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn rows(result: &Value) -> Vec<&Value> {
    match result {
        Value::Array(rows) => rows.iter().collect(),
        row => vec![row],
    }
}

fn tsv(result: &Value) -> String {
    let lines = rows(result).into_iter().map(|row| match row {
        Value::Object(fields) => fields.values().map(cell).collect::<Vec<_>>().join("\t"),
        value => cell(value),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A nested object is an empty cell and a list its length, so that columns stay aligned.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.len().to_string(),
        Value::Object(_) => String::new(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

fn table(result: &Value) -> String {
    let rows: Vec<&Map<_, _>> = rows(result)
        .into_iter()
        .filter_map(Value::as_object)
        .collect();
    let mut columns: Vec<&str> = Vec::new();
    for (key, value) in rows.iter().flat_map(|row| row.iter()) {
        let is_left_out = value.is_null()
            || value.is_object()
            || value.is_array()
            || SKIPPED_IN_TABLES.contains(&key.as_str())
            || columns.contains(&key.as_str());
        if !is_left_out {
            columns.push(key);
        }
    }
    let columns = columns.into_iter().map(|key| {
        let mut cells = vec![capitalised(key)];
        cells.extend(rows.iter().map(|row| match row.get(key) {
            None | Some(Value::Null) => String::new(),
            Some(value) => cell(value),
        }));
        cells
    });
    columns_of(&columns.collect::<Vec<_>>())
}

fn capitalised(key: &str) -> String {
    let mut letters = key.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// Formats columns, each with its header first, side by side with a rule below the headers.
fn columns_of(columns: &[Vec<String>]) -> String {
    let width = |cells: &Vec<String>| cells.iter().map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = columns
        .iter()
        .map(|cells| width(cells).unwrap_or(0))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = Vec::new();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..height {
        lines.push(line(
            &mut columns
                .iter()
                .map(|cells| cells.get(row).map_or("", String::as_str)),
        ));
        if row == 0 {
            let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            lines.push(line(&mut rules.iter().map(String::as_str)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(format: Format, result: &Value) -> String {
        render(format, result).unwrap()
    }

    // Output of `az communication user-identity token issue`, except for the values.
    fn issued() -> Value {
        json!({"user_id": "8:acs:a_b", "token": "ey.x.y", "expires_on": "2026-11-26T08:00:00Z"})
    }

    #[test]
    fn json_has_its_keys_in_order_as_az_has() {
        assert_eq!(
            rendered(Format::Json, &issued()),
            "{\n  \"expires_on\": \"2026-11-26T08:00:00Z\",\n  \"token\": \"ey.x.y\",\n  \"user_id\": \"8:acs:a_b\"\n}\n"
        );
    }

    #[test]
    fn tsv_has_values_in_the_order_of_their_keys() {
        assert_eq!(
            rendered(Format::Tsv, &issued()),
            "2026-11-26T08:00:00Z\tey.x.y\t8:acs:a_b\n"
        );
    }

    #[test]
    fn none_prints_not_even_a_line_break() {
        assert_eq!(rendered(Format::None, &issued()), "");
    }

    #[test]
    fn a_nested_value_is_an_empty_cell_of_tsv_and_no_column_of_a_table() {
        let user = json!({"properties": {"id": "8:acs:a_b"}, "rawId": "8:acs:a_b"});
        assert_eq!(rendered(Format::Tsv, &user), "\t8:acs:a_b\n");
        assert_eq!(
            rendered(Format::Table, &user),
            "RawId\n---------\n8:acs:a_b\n"
        );
    }

    #[test]
    fn a_table_has_columns_as_wide_as_their_widest_cell() {
        let rows = json!([{"name": "alice", "ready": true}, {"name": "bo", "reason": "Why"}]);
        assert_eq!(
            rendered(Format::Table, &rows),
            "Name   Ready  Reason\n-----  -----  ------\nalice  True\nbo            Why\n"
        );
    }
}
