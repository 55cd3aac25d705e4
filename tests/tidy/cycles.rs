//! No module imports itself by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::modules::{Module, Modules, dependencies, module_path};
use crate::{is_test_code, production_code, read, rust_files};

/// The modules that each module needs, and by which names.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn no_module_is_in_an_import_cycle() {
    let mut modules = Modules::new();
    for file in rust_files("src") {
        let name = file.strip_prefix("src/").expect("a path below src").to_owned();
        if name.as_os_str() != "main.rs"
            && !is_test_code(&name.with_extension("").to_string_lossy())
        {
            modules.insert(module_path(&name), Module::parse(&production_code(&read(&file))));
        }
    }
    let graph: Graph =
        modules.keys().map(|name| (name.clone(), dependencies(&modules, name))).collect();
    let report = describe(&cycles(&graph), &graph);
    assert!(
        report.is_empty(),
        "import cycles; move what both sides need to a file of its own:\n{report}"
    );
}

/// Returns the strongly connected components of more than one module.
fn cycles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> =
        graph.keys().map(|name| (name, reachable(graph, name))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (name, beyond) in &reached {
        let is_mutual = |other: &&String| reached.get(other).is_some_and(|r| r.contains(*name));
        let component: BTreeSet<String> = beyond.iter().filter(is_mutual).cloned().collect();
        if component.len() > 1 && !found.contains(&component) {
            found.push(component);
        }
    }
    found
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut reached, mut queue) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = queue.pop() {
        for next in graph.get(&name).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.clone()) {
                queue.push(next.clone());
            }
        }
    }
    reached
}

fn describe(cycles: &[BTreeSet<String>], graph: &Graph) -> String {
    let mut text = String::new();
    for cycle in cycles {
        let _ = writeln!(text, "{} modules:", cycle.len());
        for module in cycle {
            for (target, names) in graph[module].iter().filter(|(to, _)| cycle.contains(*to)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let _ = writeln!(text, "  {module} -> {target} ({})", names.join(", "));
            }
        }
    }
    text
}

#[test]
fn a_planted_cycle_is_found() {
    let modules: Modules = [
        ("", "pub mod a;\npub mod b;\n"),
        // A facade that declares and re-exports its children needs none of them …
        ("a", "pub mod c;\nmod d;\npub use d::D;\npub struct A;\n"),
        // … so a child may use what the facade defines.
        ("a::c", "use super::A;\nuse crate::b::B;\n"),
        ("a::d", "pub struct D;\n"),
        // Resolved to where it is defined: `a::d`, not the facade.
        ("b", "use crate::a::D;\npub struct B;\n"),
    ]
    .map(|(name, code)| (name.to_owned(), Module::parse(code)))
    .into();
    let graph = |modules: &Modules| -> Graph {
        modules.keys().map(|name| (name.clone(), dependencies(modules, name))).collect()
    };
    let clean = graph(&modules);
    assert_eq!(cycles(&clean), Vec::<BTreeSet<String>>::new(), "{clean:?}");
    assert_eq!(clean["b"].keys().collect::<Vec<_>>(), ["a::d"]);
    let mut planted = modules;
    planted.insert("a::d".to_owned(), Module::parse("pub struct D;\nfn f() { super::c::g() }\n"));
    let expected = ["a::c", "a::d", "b"].map(str::to_owned).into();
    assert_eq!(cycles(&graph(&planted)), [expected]);
}
