//! `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in values, as in shells and compose files. For
//! the latter two, an empty variable counts as unset. `$$` is a dollar sign.

/// Returns the value of an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every reference in `text`.
///
/// # Errors
/// A message that names the mistake and the remedy.
pub(super) fn interpolate(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (reference, after) = after.split_once('}').ok_or_else(|| {
                "`${` is not closed; write `${VAR}`, or `$$` for a dollar sign".to_owned()
            })?;
            result.push_str(&resolve(reference, env)?);
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn resolve(reference: &str, env: Env<'_>) -> Result<String, String> {
    let end = reference
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(reference.len());
    let (name, rule) = reference.split_at(end);
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || digit_first || reference.contains("${") {
        return Err(malformed(reference));
    }
    let value = env(name);
    if rule.is_empty() {
        let remedy = || format!("`{name}` is not set; set it, or write `${{{name}:-default}}`");
        return value.ok_or_else(remedy);
    }
    let value = value.filter(|value| !value.is_empty());
    if let Some(default) = rule.strip_prefix(":-") {
        return Ok(value.unwrap_or_else(|| default.to_owned()));
    }
    if let Some(message) = rule.strip_prefix(":?") {
        let reason = if message.is_empty() { String::new() } else { format!(" ({message})") };
        return value
            .ok_or_else(|| format!("`{name}` is not set{reason}; set it in the environment"));
    }
    Err(malformed(reference))
}

fn malformed(reference: &str) -> String {
    let shown: String = reference.escape_debug().take(40).collect();
    format!(
        "invalid reference `${{{shown}}}`: expected `${{VAR}}`, `${{VAR:-default}}` or `${{VAR:?message}}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let env = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let rows = [
            ("plain", Ok("plain")),
            ("${A}", Ok("one")),
            ("x-${A}-${A}y", Ok("x-one-oney")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-two}", Ok("two")),
            ("${B:-two}", Ok("two")),
            ("${B:-}", Ok("")),
            ("${A:?needed}", Ok("one")),
            ("$$", Ok("$")),
            ("$${A}", Ok("${A}")),
            ("5$ and $x", Ok("5$ and $x")),
            ("${B}", Err("`B` is not set; set it, or write `${B:-default}`")),
            ("${B:?zone of this}", Err("`B` is not set (zone of this); set it in the environment")),
            ("${EMPTY:?}", Err("`EMPTY` is not set; set it in the environment")),
            ("${A", Err("`${` is not closed; write `${VAR}`, or `$$` for a dollar sign")),
        ];
        for (text, expected) in rows {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(interpolate(text, &env), expected, "{text}");
        }
        for text in ["${}", "${1A}", "${A-b}", "${A:b}", "${B:-${A}}", "${ A}"] {
            let error = interpolate(text, &env).unwrap_err();
            assert!(error.contains("invalid reference"), "{text}: {error}");
        }
    }

    #[test]
    fn values_of_variables_are_not_interpolated() {
        let env = |_: &str| Some("${A}$$".to_owned());
        assert_eq!(interpolate("${A}", &env).unwrap(), "${A}$$");
    }
}
