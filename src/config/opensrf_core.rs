//! Evergreen's own file, `opensrf_core.xml`: the gateway's account, its log, and the domains of the bus.

use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::error::{About, Error, Errors};
use super::table::{Opt, TABLE};
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

/// Reads the text of the file at `path`, which is only named in errors, warnings and sources. What cannot be read is none
/// of what is returned.
pub(super) fn parse(path: &Path, text: &str, errors: &mut Errors, warnings: &mut Vec<String>) -> OpensrfCore {
    let file = CoreFile::read(path, text).map_err(|error| error.about(About::Source));
    let Some(file) = errors.keep(file) else { return OpensrfCore::default() };
    OpensrfCore { layer: file.options(errors, warnings), cross_origin: file.cross_origin(), domains: file.domains() }
}

/// The file as XML.
struct CoreFile<'a> {
    path: &'a Path,
    document: Document<'a>,
}

impl<'a> CoreFile<'a> {
    /// The text as a whole: XML without a DTD or entities, with a section for the gateway.
    fn read(path: &'a Path, text: &'a str) -> Result<Self, Error> {
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
        let file = Self { path, document };
        let root = file.document.root_element();
        if !root.has_tag_name("config") || child(root, "gateway").is_none() {
            return Err(Error::new(
                file.source(root),
                "it has no <config> with a <gateway> section",
                "name Evergreen's opensrf_core.xml, usually /openils/conf/opensrf_core.xml",
            ));
        }
        Ok(file)
    }

    /// Where a node begins.
    fn source(&self, node: Node<'_, '_>) -> Source {
        let line = self.document.text_pos_at(node.range().start).row as usize;
        Source::OpensrfCore { path: self.path.to_owned(), line }
    }

    /// The options that it feeds.
    fn options(&self, errors: &mut Errors, warnings: &mut Vec<String>) -> Layer {
        let mut layer = Layer::default();
        for option in TABLE {
            let Some(element) = option.xml else { continue };
            let found = self.texts(option, element, errors, warnings);
            let Some((first, source)) = found.first() else { continue };
            let value = if option.kind.repeats() {
                option.kind.parse_list(found.iter().map(|(text, _)| text.as_str()))
            } else {
                option.parse(first)
            };
            let value = errors.keep(value.map_err(|expected| option.error(source, first, &expected)));
            layer.extend(value.map(|value| Setting { name: option.name, value, source: source.clone() }));
        }
        layer
    }

    /// What is written for an option, and where.
    fn texts(
        &self,
        option: &Opt,
        element: &str,
        errors: &mut Errors,
        warnings: &mut Vec<String>,
    ) -> Vec<(String, Source)> {
        let mut found = Vec::new();
        for node in find(self.document.root_element(), element) {
            let source = self.source(node);
            match content(node) {
                // What is left empty is left to the default: the stock file does so.
                Some(text) if text.is_empty() && !option.kind.repeats() => {}
                // An empty prefix would be that of every method.
                Some(text) if text.is_empty() => {
                    warnings.push(format!("{source}: an empty <{}> is ignored", node.tag_name().name()));
                }
                Some(text) => found.push((text, source)),
                None => {
                    let problem = format!("{}: <{}> holds elements", option.name, node.tag_name().name());
                    errors.push(Error::new(source, problem, "write its text alone").about(About::Option(option.name)));
                }
            }
        }
        found
    }

    fn cross_origin(&self) -> Vec<(String, Source)> {
        find(self.document.root_element(), "gateway/cross_origin/origin")
            .into_iter()
            .filter_map(|node| Some((content(node).filter(|origin| !origin.is_empty())?, self.source(node))))
            .collect()
    }

    fn domains(&self) -> Vec<String> {
        let mut domains = Vec::new();
        for element in [
            "opensrf/routers/router/domain",
            "gateway/routers/router/domain",
            "routers/router/transport/server",
            "routers/router/trusted_domains/server",
            "routers/router/trusted_domains/client",
        ] {
            for domain in find(self.document.root_element(), element).into_iter().filter_map(content) {
                if super::kind::text::domain(&domain).is_ok() && !domains.contains(&domain) {
                    domains.push(domain);
                }
            }
        }
        domains
    }
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

/// The whole text of an element, as XML has it: comments and processing instructions are no part of it, nor do they end
/// it, and CDATA is text. `None` where it holds elements.
fn content(node: Node<'_, '_>) -> Option<String> {
    let mut text = String::new();
    for child in node.children() {
        if child.is_element() {
            return None;
        }
        // A comment has a text of its own.
        if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        }
    }
    Some(text.trim().to_owned())
}
