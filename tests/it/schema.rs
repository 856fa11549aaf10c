//! The part of JSON Schema that the schemas in `docs/` use, so that documents and code cannot drift apart.

use std::fs;

use serde_json::Value;

pub(crate) fn manifest() -> Value {
    document("manifest")
}

/// The schema of a document, in `docs/`.
pub(crate) fn document(name: &str) -> Value {
    let path = format!("{}/docs/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Panics where `value` does not fit `schema`, and where the schema uses a keyword that is not known here.
pub(crate) fn check(schema: &Value, value: &Value) {
    if let Err(wrong) = fits(schema, schema, value, "$") {
        panic!("{wrong}");
    }
}

fn fits(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(rules) = schema.as_object() else { return Ok(()) };
    for (keyword, rule) in rules {
        let ok = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "$comment" | "title" | "description" | "examples" | "default" => {
                true
            }
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                fits(root, root.pointer(pointer).unwrap(), value, at)?;
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|t| is_type(t, value)),
                one => is_type(one, value),
            },
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => {
                rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        fits(root, rule, inner, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => match rule {
                Value::Bool(allowed) => {
                    let known = rules.get("properties").and_then(Value::as_object);
                    let mut names = value.as_object().into_iter().flat_map(|fields| fields.keys());
                    *allowed || names.all(|name| known.is_some_and(|known| known.contains_key(name)))
                }
                rule => {
                    let known = rules.get("properties").and_then(Value::as_object);
                    for (name, inner) in value.as_object().into_iter().flatten() {
                        if known.is_none_or(|known| !known.contains_key(name)) {
                            fits(root, rule, inner, &format!("{at}.{name}"))?;
                        }
                    }
                    true
                }
            },
            "items" => {
                for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
                    fits(root, rule, inner, &format!("{at}[{i}]"))?;
                }
                true
            }
            "prefixItems" => {
                for (rule, inner) in
                    rule.as_array().unwrap().iter().zip(value.as_array().into_iter().flatten())
                {
                    fits(root, rule, inner, at)?;
                }
                true
            }
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "anyOf" | "oneOf" => {
                let fitting =
                    rule.as_array().unwrap().iter().filter(|rule| fits(root, rule, value, at).is_ok());
                let n = fitting.count();
                if keyword == "oneOf" { n == 1 } else { n >= 1 }
            }
            "allOf" => {
                for rule in rule.as_array().unwrap() {
                    fits(root, rule, value, at)?;
                }
                true
            }
            other => panic!("the schema uses {other:?}, which is not checked here"),
        };
        if !ok {
            let shown: String = value.to_string().chars().take(2_000).collect();
            return Err(format!("{at}: {shown} does not fit {keyword}: {rule}"));
        }
    }
    Ok(())
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other:?}"),
    }
}
