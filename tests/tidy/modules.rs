//! Reads the production code of `src/` as modules: their imports, their items, and the paths that
//! their code names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of `src/`, by path (`store::s3`); the crate's root is the empty path.
pub(crate) type Modules = BTreeMap<String, Module>;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct Module {
    imports: Vec<Import>,
    /// The names of the items that the file defines at its top level.
    items: BTreeSet<String>,
    /// The code without comments, literals and imports.
    code: String,
}

/// One name that a `use` binds.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    /// The path as written, `crate`, `super` or `self` included.
    path: Vec<String>,
    /// The name that is bound, or `*`.
    name: String,
    /// A re-export (`pub use`, `pub(crate) use`).
    is_public: bool,
}

impl Module {
    /// Reads a file's production code.
    pub(crate) fn parse(production_code: &str) -> Self {
        let mut module = Self::default();
        let mut skip_next = false;
        let mut rest = production_code_without_literals(production_code);
        // Items are found before the imports are cut out: both stand at the start of a line.
        module.items = rest.lines().filter_map(item_name).map(str::to_owned).collect();
        let mut code = String::new();
        while let Some((before, is_public, after)) = next_use(&rest) {
            skip_next |= before.trim_end().ends_with("#[cfg(test)]");
            code.push_str(before);
            let (declaration, remainder) = after.split_once(';').unwrap_or((after, ""));
            if !std::mem::take(&mut skip_next) {
                bind(declaration, &mut Vec::new(), is_public, &mut module.imports);
            }
            rest = remainder.to_owned();
        }
        code.push_str(&rest);
        module.code = code;
        module
    }
}

/// Returns the module path of a file below `src/`, such as `store::s3` of `store/s3.rs`.
pub(crate) fn module_path(file: &Path) -> String {
    let name = file.with_extension("").to_string_lossy().into_owned();
    let name = name.strip_suffix("/mod").unwrap_or(&name);
    if name == "lib" { String::new() } else { name.replace('/', "::") }
}

/// Returns the modules that the code of `module` needs, each with the names that it needs: the
/// targets of its imports and of the paths in its code. A re-export counts only if the module
/// itself uses the name.
pub(crate) fn dependencies(modules: &Modules, name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let module = &modules[name];
    let is_needed =
        |import: &&Import| !import.is_public || has_word(&module.code, import.name.as_str());
    let imported = module.imports.iter().filter(is_needed).map(|import| import.path.clone());
    let mut needed = BTreeMap::<String, BTreeSet<String>>::new();
    for path in imported.chain(paths(&module.code)) {
        if let Some(target) = resolve(modules, name, &path, 0).filter(|target| target != name) {
            needed.entry(target).or_default().extend(path.last().cloned());
        }
    }
    needed
}

/// Returns the module that defines what `path` names, as seen from `from`; `None` for names of
/// other crates.
fn resolve(modules: &Modules, from: &str, path: &[String], depth: usize) -> Option<String> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => walk(modules, "", rest, depth),
        "self" => walk(modules, from, rest, depth),
        "super" => {
            let parent = from.rsplit_once("::").map_or("", |(parent, _)| parent);
            let again: Vec<String> =
                std::iter::once("self".to_owned()).chain(rest.iter().cloned()).collect();
            let nested = rest.first().is_some_and(|next| next == "super");
            resolve(modules, parent, if nested { rest } else { &again }, depth)
        }
        _ if modules.contains_key(&join(from, first)) || binds(&modules[from], first) => {
            walk(modules, from, path, depth)
        }
        _ => None,
    }
}

/// Follows a path from inside the module `at`.
fn walk(modules: &Modules, at: &str, path: &[String], depth: usize) -> Option<String> {
    let Some((next, rest)) = path.split_first() else { return Some(at.to_owned()) };
    let child = join(at, next);
    if modules.contains_key(&child) {
        return walk(modules, &child, rest, depth);
    }
    let module = modules.get(at)?;
    if module.items.contains(next) {
        return Some(at.to_owned());
    }
    // Chains of re-exports are short; a bound keeps two globs from following each other.
    if depth < 8 {
        if let Some(import) = module.imports.iter().find(|import| import.name == *next) {
            let further = import.path.iter().chain(rest).cloned().collect::<Vec<_>>();
            return resolve(modules, at, &further, depth + 1);
        }
        for glob in module.imports.iter().filter(|import| import.name == "*") {
            let target = resolve(modules, at, &glob.path, depth + 1)?;
            if modules[&target].items.contains(next) || binds(&modules[&target], next) {
                return walk(modules, &target, path, depth + 1);
            }
        }
    }
    Some(at.to_owned()).filter(|at| !at.is_empty())
}

fn binds(module: &Module, name: &str) -> bool {
    module.imports.iter().any(|import| import.name == name)
}

fn join(parent: &str, child: &str) -> String {
    if parent.is_empty() { child.to_owned() } else { format!("{parent}::{child}") }
}

/// Returns the name of the item that a line at the top level of a file defines.
fn item_name(line: &str) -> Option<&str> {
    const KEYWORDS: [&str; 8] =
        ["fn", "struct", "enum", "union", "trait", "type", "const", "static"];
    if line.starts_with([' ', '}', '#', '/']) {
        return None;
    }
    let mut words = line.split([' ', '(', '<', ':', ';', '{', '=']);
    let keyword = words.find(|word| KEYWORDS.contains(word))?;
    // `const fn` and `const NAME`.
    words.find(|word| !word.is_empty() && (keyword != "const" || *word != "fn"))
}

/// Finds the next `use` at the start of a line: the text before it, whether it is public, and the
/// text after the keyword.
fn next_use(text: &str) -> Option<(&str, bool, &str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let (visibility, is_public) = match trimmed.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => {
                (rest.split_once(") ").map_or("", |(_, rest)| rest), true)
            }
            Some(rest) => (rest.trim_start(), true),
            None => (trimmed, false),
        };
        if let Some(after) = visibility.strip_prefix("use ") {
            let start = at + line.len() - after.len();
            return Some((&text[..at], is_public, &text[start..]));
        }
        at += line.len();
    }
    None
}

/// Adds every name that a `use` declaration binds.
fn bind(tree: &str, prefix: &mut Vec<String>, is_public: bool, found: &mut Vec<Import>) {
    let tree = tree.trim();
    let depth = prefix.len();
    let (path, group) = tree.split_once('{').map_or((tree, None), |(path, rest)| {
        (path, Some(rest.rsplit_once('}').map_or(rest, |(inside, _)| inside)))
    });
    let (path, alias) = path.split_once(" as ").map_or((path, None), |(p, a)| (p, Some(a.trim())));
    prefix.extend(path.split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned));
    if let Some(group) = group {
        for member in members(group) {
            bind(member, prefix, is_public, found);
        }
    } else if let Some(last) = prefix.last().cloned() {
        let mut path = prefix.clone();
        if last == "*" || last == "self" && depth > 0 {
            path.pop();
        }
        let own = if last == "*" { "*" } else { path.last().map_or("", |s| s) };
        let name = alias.unwrap_or(own);
        found.push(Import { name: name.to_owned(), path, is_public });
    }
    prefix.truncate(depth);
}

/// Splits a `{…}` group at its top-level commas.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(&group[start..]);
    members.retain(|member| !member.trim().is_empty());
    members
}

/// Returns every path of at least two segments in code (`super::super::x`, `child::call`).
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_part(c))
        .filter(|word| word.contains("::") && !word.starts_with("::"))
        .map(|word| word.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect())
        .collect()
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// Blanks comments, strings and characters; keeps line ends.
fn production_code_without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw_string_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let (start, end) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Returns the length of a character literal; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| at + 4),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

#[test]
fn imports_are_read_with_groups_aliases_and_globs() {
    let text = "use crate::{a::B, c::{self, D as E}};\n#[cfg(test)]\nuse x::Y;\npub use f::*;\nfn g() {}\n";
    let module = Module::parse(text);
    let names: Vec<_> = module
        .imports
        .iter()
        .map(|import| (import.path.join("::"), import.name.as_str(), import.is_public))
        .collect();
    let expected = [
        ("crate::a::B", "B", false),
        ("crate::c", "c", false),
        ("crate::c::D", "E", false),
        ("f", "*", true),
    ];
    assert_eq!(names, expected.map(|(path, name, public)| (path.to_owned(), name, public)));
    assert!(module.items.contains("g"));
}
