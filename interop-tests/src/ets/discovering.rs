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

impl Run<'_> {
    pub(crate) async fn discover(&mut self, path: &'static str, has: Links, lacks: &[&str]) -> Outcomes {
        let path = self.resolve(path).await?;
        let links = self.links(path).await?;
        let at = |wanted: &str| {
            let is_meant = |target: &str| target.parse().is_ok_and(|found: Path| is_at(wanted, found));
            links.iter().find(|(target, _)| is_meant(target))
        };
        for (target, attributes) in has {
            let Some((_, found)) = at(target) else {
                return Err(Stop::failed(format!("a link to {target}"), tell(&links)));
            };
            for (name, value) in *attributes {
                let attribute = found.iter().find(|(other, _)| other == name);
                let is_met = attribute.is_some_and(|(_, found)| {
                    value.is_none_or(|wanted| found.as_deref().is_some_and(|found| is_same(wanted, found)))
                });
                if !is_met {
                    let wanted = value.map(|value| format!("={value}")).unwrap_or_default();
                    return Err(Stop::failed(format!("{target} with {name}{wanted}"), tell(&links)));
                }
            }
        }
        match lacks.iter().find(|target| at(target).is_some()) {
            Some(target) => Err(Stop::failed(format!("no link to {target}"), tell(&links))),
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
    fn an_attribute_is_the_same_number_however_it_is_written() {
        assert!(is_same("10", "10.0") && is_same("1", "1") && is_same("a", "a"));
        assert!(!is_same("10", "100") && !is_same("10", "") && !is_same("a", "b"));
    }
}
