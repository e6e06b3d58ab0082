//! Evergreen's own file, `opensrf_core.xml`: the gateway's account, its log, and the domains of the bus.

use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::error::Error;
use super::table::TABLE;
use super::values::{Layer, Setting, Source};

/// Elements, attributes and texts that a file may hold; the stock file has some 200.
const NODES_MAX: u32 = 100_000;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OpensrfCore {
    /// The options that it feeds.
    pub layer: Layer,
    /// `gateway/cross_origin/origin`: what `origins = "opensrf_core"` stands for, as written.
    pub cross_origin: Vec<(String, Source)>,
    /// The domains of the routers, and those that the routers trust, in the order of the file.
    pub domains: Vec<String>,
}

/// Reads the text of the file at `path`, which is only named in errors and sources.
pub(super) fn parse(path: &Path, text: &str) -> Result<OpensrfCore, Error> {
    let at = |line: usize| Source::OpensrfCore { path: path.to_owned(), line };
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|why| match why {
        roxmltree::Error::DtdDetected => dtd_refused(at(doctype_line(text).unwrap_or(1))),
        roxmltree::Error::UnknownEntityReference(_, pos) => Error::new(
            at(pos.row as usize),
            "it uses an entity, and entities are refused",
            "write the character itself, or &amp; &lt; &gt; &quot; &apos;",
        ),
        why => Error::new(at(why.pos().row as usize), format!("not well-formed XML: {why}"), "correct the file"),
    })?;
    // The parser lets an empty DTD pass.
    if let Some(line) = doctype_line(&text[..document.root_element().range().start]) {
        return Err(dtd_refused(at(line)));
    }
    let line = |node: Node<'_, '_>| at(document.text_pos_at(node.range().start).row as usize);
    let root = document.root_element();
    if !root.has_tag_name("config") || child(root, "gateway").is_none() {
        return Err(Error::new(
            line(root),
            "it has no <config> with a <gateway> section",
            "name Evergreen's opensrf_core.xml, usually /openils/conf/opensrf_core.xml",
        ));
    }

    let mut core = OpensrfCore::default();
    for option in TABLE {
        let Some(element) = option.xml else { continue };
        let nodes: Vec<_> = find(root, element).into_iter().filter(|node| !content(*node).is_empty()).collect();
        let Some(first) = nodes.first() else { continue };
        let source = line(*first);
        let value = if option.kind.repeats() {
            option.kind.parse_list(nodes.iter().map(|node| content(*node)))
        } else {
            option.parse(content(*first))
        };
        let value = value.map_err(|expected| option.error(&source, content(*first), &expected))?;
        core.layer.push(Setting { name: option.name, value, source });
    }
    for node in find(root, "gateway/cross_origin/origin") {
        if !content(node).is_empty() {
            core.cross_origin.push((content(node).to_owned(), line(node)));
        }
    }
    for element in [
        "opensrf/routers/router/domain",
        "gateway/routers/router/domain",
        "routers/router/transport/server",
        "routers/router/trusted_domains/server",
        "routers/router/trusted_domains/client",
    ] {
        for node in find(root, element) {
            let domain = content(node);
            if super::kind::text::domain(domain).is_ok() && !core.domains.iter().any(|known| known == domain) {
                core.domains.push(domain.to_owned());
            }
        }
    }
    Ok(core)
}

fn dtd_refused(place: Source) -> Error {
    Error::new(place, "it has a DTD (<!DOCTYPE …>), and DTDs are refused", "remove it; OpenSRF's own file has none")
}

/// The line of the first `<!DOCTYPE` outside a comment.
fn doctype_line(text: &str) -> Option<usize> {
    let (mut rest, mut line) = (text, 1);
    loop {
        let doctype = rest.find("<!DOCTYPE")?;
        match rest.find("<!--").filter(|comment| *comment < doctype) {
            None => return Some(line + rest[..doctype].matches('\n').count()),
            Some(comment) => {
                let end = comment + rest[comment..].find("-->")? + 3;
                line += rest[..end].matches('\n').count();
                rest = &rest[end..];
            }
        }
    }
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// Every element that the path leads to, in the order of the file.
fn find<'a>(root: Node<'a, 'a>, path: &str) -> Vec<Node<'a, 'a>> {
    path.split('/').fold(vec![root], |nodes, name| {
        nodes.into_iter().flat_map(|node| node.children()).filter(|child| child.has_tag_name(name)).collect()
    })
}

fn content<'a>(node: Node<'a, 'a>) -> &'a str {
    node.text().unwrap_or_default().trim()
}
