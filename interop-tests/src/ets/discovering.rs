//! Steps of Discover (LwM2M Core 1.1.1 §6.3.2).
//!
//! Invariant: what a link's target has in front, the alternate path of the client, is no part of the path.

use lwm2m_objects::Path;
use lwm2m_server::{Answer, Operation};

use super::case::Links;
use super::management::is_at;
use super::run::{Outcomes, Run, Stop};

/// Target and attributes.
type Link = (String, Vec<(String, Option<String>)>);

/// The same as it has to be; `None` stands for any value.
type Wanted<'w> = (&'w str, &'w [(&'w str, Option<&'w str>)]);

impl Run<'_> {
    pub(crate) async fn discover(&mut self, path: &'static str, has: Links, lacks: &[&str]) -> Outcomes {
        let path = self.resolve(path).await?;
        let links = self.links(path).await?;
        let unwanted = || lacks.iter().find(|target| link_to(&links, target).is_some());
        match missing(&links, has).or_else(|| unwanted().map(|target| format!("no link to {target}"))) {
            Some(expected) => Err(Stop::failed(expected, tell(&links))),
            None => Ok(()),
        }
    }

    /// What a Discover shows.
    pub(crate) async fn links(&mut self, path: Path) -> Outcomes<Vec<Link>> {
        let found = match self.ask(Operation::Discover { path, depth: None }).await {
            Ok(Answer::Discovered(found)) => found,
            Ok(_) => return Err(Stop::failed(format!("2.05 to Discover {path}"), "another answer")),
            Err(error) => return Err(Stop::failed(format!("2.05 to Discover {path}"), error.to_string())),
        };
        let prefix = self.near.registered.as_ref().map_or("", |registered| registered.prefix.as_str());
        let links = found.links.into_iter().map(|link| {
            let target = link.target.strip_prefix(prefix).unwrap_or(&link.target);
            (target.trim_end_matches('/').to_owned(), link.attributes)
        });
        Ok(links.collect())
    }
}

fn link_to<'l>(links: &'l [Link], wanted: &str) -> Option<&'l Link> {
    let is_meant = |target: &str| target.parse().is_ok_and(|found: Path| is_at(wanted, found));
    links.iter().find(|(target, _)| is_meant(target))
}

/// The first of what must be there and is not.
fn missing(links: &[Link], has: &[Wanted<'_>]) -> Option<String> {
    has.iter().find_map(|(target, attributes)| {
        let Some((_, found)) = link_to(links, target) else { return Some(format!("a link to {target}")) };
        let is_met = |(name, value): &&(&str, Option<&str>)| {
            let attribute = found.iter().find(|(other, _)| other == name);
            attribute.is_some_and(|(_, found)| {
                value.is_none_or(|wanted| found.as_deref().is_some_and(|found| is_same(wanted, found)))
            })
        };
        let (name, value) = attributes.iter().find(|attribute| !is_met(attribute))?;
        let wanted = value.map(|value| format!("={value}")).unwrap_or_default();
        Some(format!("{target} with {name}{wanted}"))
    })
}

/// Numbers are the same however they are written.
fn is_same(wanted: &str, found: &str) -> bool {
    wanted == found
        || wanted.parse::<f64>().ok().zip(found.parse::<f64>().ok()).is_some_and(|(one, other)| one == other)
}

fn tell(links: &[Link]) -> String {
    let links = links.iter().map(|(target, attributes)| {
        let attributes = attributes.iter().map(|(name, value)| match value {
            Some(value) => format!(";{name}={value}"),
            None => format!(";{name}"),
        });
        format!("<{target}>{}", attributes.collect::<String>())
    });
    let told = links.collect::<Vec<_>>().join(",");
    if told.is_empty() { "no links".to_owned() } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_without_the_attribute_that_is_wanted_is_missed() {
        let link = |target: &str, attributes: &[(&str, Option<&str>)]| {
            let owned =
                |(name, value): &(&str, Option<&str>)| (String::from(*name), value.map(str::to_owned));
            (target.to_owned(), attributes.iter().map(owned).collect())
        };
        let links = [link("/3/0/6", &[("dim", Some("2"))]), link("/3/0/7", &[("pmin", Some("10"))])];
        assert_eq!(missing(&links, &[("/3/0/6", &[("dim", Some("2"))]), ("/3/0/7", &[])]), None);
        for (has, expected) in [
            (("/3/0/6", &[("dim", Some("1"))][..]), "/3/0/6 with dim=1"),
            (("/3/0/7", &[("dim", None)][..]), "/3/0/7 with dim"),
            (("/3/0/7", &[("pmin", None), ("dim", Some("2"))][..]), "/3/0/7 with dim=2"),
            (("/3/0/8", &[][..]), "a link to /3/0/8"),
        ] {
            assert_eq!(missing(&links, &[has]).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_attribute_is_the_same_number_however_it_is_written() {
        assert!(is_same("10", "10.0") && is_same("1", "1") && is_same("a", "a"));
        assert!(!is_same("10", "100") && !is_same("10", "") && !is_same("a", "b"));
    }
}
