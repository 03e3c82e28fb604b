//! The names of spans, attributes and metrics come from one file.

use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::imports::sources;

fn src() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The product's files, and the text of each.
fn files() -> Vec<(String, String)> {
    let product =
        |file: &Path| !file.ends_with("tests.rs") && !file.iter().any(|part| part == "tests");
    let files = sources(&src()).into_iter().filter(|file| product(file));
    files
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (file.strip_prefix(src()).unwrap().display().to_string(), text)
        })
        .collect()
}

/// The names that a file writes itself, each with its line.
fn written(tokens: TokenStream) -> Vec<(usize, String)> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let before =
            |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
        if before(1) == "!" && before(2).ends_with("span") {
            found.extend(written_in_span(group));
        } else if before(1) == "record" && before(2) == "." {
            let first = group.stream().into_iter().next();
            found.extend(first.filter(is_text).map(|name| with_line(&name)));
        } else {
            found.extend(written(group.stream()));
        }
    }
    found
}

/// In a span's macro, each field is `{ name } = value`, and the span's own name is a path.
fn written_in_span(group: &Group) -> Vec<(usize, String)> {
    let tokens: Vec<_> = group.stream().into_iter().collect();
    let is_equals =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '=');
    let is_braced = |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let is_value = before.is_some_and(is_equals);
        if is_text(token) && !is_value {
            found.push(with_line(token));
        }
        if is_equals(token) && !before.is_some_and(|name| is_braced(name) || is_text(name)) {
            found.extend(before.map(with_line));
        }
    }
    found
}

fn is_text(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Literal(text) if text.to_string().starts_with('"'))
}

fn with_line(token: &TokenTree) -> (usize, String) {
    (token.span().start().line, token.to_string())
}

#[test]
fn no_file_but_names_writes_the_name_of_a_span_or_attribute() {
    let mut found = Vec::new();
    for (file, text) in files() {
        assert!(!text.contains("instrument]") && !text.contains("#[instrument"), "src/{file}");
        let tokens: TokenStream = text.parse().unwrap();
        found.extend(
            written(tokens).into_iter().map(|(line, name)| format!("src/{file}:{line}: {name}")),
        );
    }
    assert!(found.is_empty(), "move these names to src/names.rs:\n{}", found.join("\n"));
}

#[test]
fn each_way_to_write_a_name_is_found() {
    for (source, names) in [
        (r#"fn f() { tracing::info_span!("rpc", { otel::KIND } = "server"); }"#, vec!["\"rpc\""]),
        (
            r#"info_span!(span::RPC, otel.kind = "server", "error.type" = Empty)"#,
            vec!["kind", "\"error.type\""],
        ),
        (r#"fn f() { span.record("error.type", "io"); }"#, vec!["\"error.type\""]),
        (r#"info_span!(parent: None, span::RPC, { otel::KIND } = "server")"#, vec![]),
        (r#"fn f() { span.record(attribute::ERROR_TYPE, "io"); }"#, vec![]),
    ] {
        let found = written(source.parse().unwrap());
        let found: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(found, names, "{source}");
    }
}

#[test]
fn every_name_is_used() {
    let files = files();
    let names = &files.iter().find(|(file, _)| file == "names.rs").unwrap().1;
    let mut module = "";
    for line in names.lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = name.trim_end_matches(" {");
        }
        if let Some((name, _)) =
            line.strip_prefix("    pub const ").and_then(|rest| rest.split_once(':'))
        {
            let path = format!("{module}::{name}");
            let is_used = files.iter().any(|(_, text)| text.contains(&path));
            assert!(is_used, "{path} in src/names.rs is used nowhere");
        }
    }
}

/// The texts of the macros `warn!` and `error!`. A text with `{}` names a constant or an
/// error's own text, and is left out.
fn logged(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let before =
            |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
        if before(1) == "!" && ["warn", "error"].contains(&before(2).as_str()) {
            let text = group.stream().into_iter().filter(is_text).last();
            found.extend(text.map(|text| {
                let text = text.to_string().trim_matches('"').replace("\\\n", "");
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            }));
        } else {
            found.extend(logged(group.stream()));
        }
    }
    found.retain(|text| !text.contains('{'));
    found
}

/// `docs/logs.md` has every line at WARN and ERROR, and no other.
#[test]
fn every_warning_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logs.md");
    let page = std::fs::read_to_string(page).unwrap();
    let constants = [
        eni_gateway::names::INVARIANT_VIOLATED.to_owned(),
        eni_gateway::grpc::trace::UNDOCUMENTED.to_owned(),
    ];
    let served = files().into_iter().filter(|(file, _)| !file.starts_with("simulator"));
    let mut lines: Vec<String> =
        served.flat_map(|(_, text)| logged(text.parse().unwrap())).chain(constants).collect();
    lines.retain(|line| line != "rpc");
    let missing: Vec<_> =
        lines.iter().filter(|line| !page.contains(&format!("`{line}`"))).collect();
    assert!(missing.is_empty(), "docs/logs.md lacks {missing:#?}");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let documented =
        rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    for line in documented {
        assert!(
            lines.iter().any(|known| known == line),
            "docs/logs.md has {line}, which no code logs"
        );
    }
}

#[test]
fn the_text_of_a_warning_is_found() {
    let source = r#"fn f() { tracing::warn!(why, "it \
        failed"); error!("{error}"); info!("fine"); }"#;
    assert_eq!(logged(source.parse().unwrap()), ["it failed"]);
}
